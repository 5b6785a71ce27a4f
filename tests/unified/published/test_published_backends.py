"""Published checkpoints on every backend that they can use: the same logits, codes included."""

import numpy as np
import pytest

from unified.models.opening import LanguageModel
from unified.models.published import open_published

BACKENDS = {
    "emu3": ("cpu", "torch_static", "transformers"),
    "janus": ("cpu", "torch_static", "transformers"),
    "janus-pro": ("cpu", "torch_static", "transformers"),
    "chameleon": ("torch_static", "transformers"),
    "apertus": ("torch_static", "transformers"),
    "liquid": ("torch_static", "transformers"),
}


@pytest.mark.parametrize("kind", BACKENDS)
def test_every_backend_gives_the_same_logits(checkpoints, kind):
    checkpoint = checkpoints[kind]
    opened = open_published(checkpoint.folder)
    words = opened.sequencer.vocabulary
    first, stop = words.id_range("image.0")
    rows = [[5, 9, first, stop - 1, first + 2, 7], [3, first + 1, 4]]  # text and codes
    ranges = ((2, 11),) if kind in ("apertus", "liquid") else ((2, 11), (first, stop))
    results = {}
    for backend in BACKENDS[kind]:
        model = LanguageModel.open(
            checkpoint.folder, opened.published.pretrained, dtype="float32", backend=backend
        )
        decoder = model.decoder()
        assert decoder.backend == backend
        assert decoder.vocab_size >= words.size
        cache = decoder.new_cache(2, 10)
        decoder.forward(cache, [0, 1], [row[:-2] for row in rows])
        states = decoder.forward(cache, [0, 1], [row[-2:] for row in rows])
        results[backend] = decoder.logits(states, ranges)
        step = decoder.forward(cache, [1, 0], [[first], [6]])
        results[backend] = np.concatenate([results[backend], decoder.logits(step, ranges)])
    expected = results.pop(BACKENDS[kind][0])
    for logits in results.values():
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    taken_by_auto = LanguageModel.open(checkpoint.folder, opened.published.pretrained).decoder()
    assert taken_by_auto.backend == BACKENDS[kind][0]
