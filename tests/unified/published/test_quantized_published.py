"""Published models in int8: on the CPU backend where it computes them, by torchao otherwise."""

import numpy as np
import pytest

from unified import UnifiedModel
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.models.quantized import is_quantized


def logits(model):
    decoder = model.decoder()
    states = decoder.forward(decoder.new_cache(1, 8), [0], [[3, 1, 4, 1, 5]])
    parts = [decoder.logits(states, ((0, 90),))]
    if model.published.pretrained.name == "janus":  # codes have a head of their own
        parts.append(decoder.logits(states, ((decoder.vocab_size - 20, decoder.vocab_size),)))
    return np.concatenate(parts, -1)


def near(actual, expected):
    return 0 < np.linalg.norm(actual - expected) < 0.1 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", ["emu3", "janus", "orpheus"])
def test_a_llama_inside_is_quantized_while_it_is_read(kind, checkpoints, opened):
    model = UnifiedModel.from_pretrained(checkpoints[kind].folder, dtype="int8")
    decoder = model.decoder()
    assert isinstance(decoder, LlamaCpuDecoder)
    assert decoder._format.name == "int8"
    assert near(logits(model), logits(opened[kind]))
    assert not is_quantized(model.hf)
    model.decoder()  # of weights that `hf` has


@pytest.mark.parametrize("kind", ["chameleon", "liquid"])
def test_what_torch_steps_is_quantized_by_torchao(kind, checkpoints, opened, tmp_path):
    model = UnifiedModel.from_pretrained(checkpoints[kind].folder, dtype="int8")
    assert near(logits(model), logits(opened[kind]))
    assert is_quantized(model.hf)
    with pytest.raises(ValueError, match=r"weights are quantized, .* cannot be saved"):
        model.save_pretrained(tmp_path)
