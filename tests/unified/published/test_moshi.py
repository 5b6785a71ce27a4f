"""Moshi opens, and its streams are those of transformers' generate beside a given voice."""

import numpy as np
import pytest
import torch

from tests.helpers.csm_checkpoint import CODES
from tests.helpers.moshi_checkpoint import make_moshi
from unified import Sampling, SpanSampling, UnifiedModel
from unified.engine.engine import Engine
from unified.engine.noise import Noise
from unified.engine.request import CodedSlot, Finished, Request

FRAMES = 6


@pytest.fixture(scope="module")
def moshi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moshi")
    return folder, make_moshi(folder)


@pytest.fixture(scope="module")
def model(moshi):
    return UnifiedModel.from_pretrained(moshi[0])


@pytest.fixture(scope="module")
def silence(moshi):
    """Codes (8,) that Mimi has for a frame of silence, which generate gives as the other voice."""
    encoder = moshi[1].audio_encoder
    hop = int(moshi[1].config.sampling_rate / encoder.config.frame_rate)
    with torch.no_grad():
        return encoder.encode(torch.zeros(1, 1, hop), num_quantizers=8)[0][0, :, 0].numpy()


def streams(model, listeners, sampling, seed=0):
    """The streams of a talk beside each of some given voices, codes (8, T)."""
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    requests = [Request((CodedSlot("audio", given={"listener": c}),), seed) for c in listeners]
    ends = {e.row: e.ids for e in engine.run(requests, sampling) if isinstance(e, Finished)}
    talks = [model.grammar.parse(ends[row])[0].codes for row in range(len(listeners))]
    return [model.grammar.span_grammars["audio"].split_streams(codes) for codes in talks]


def generated(hf, **options):
    """Text (T,) and codes (8, T) of transformers' generate from nothing, beside silence.

    The codes of its last step are of a text that no longer stands beside them: they are left out.
    """
    torch.manual_seed(0)
    outputs = hf.generate(
        max_new_tokens=FRAMES, return_audio_waveforms=False,
        return_audio_codes=True, **{"do_sample": False, **options},
    )  # fmt: skip
    return outputs.sequences[0, 1:].numpy(), outputs.audio_codes[0].numpy()


GREEDY = Sampling(audio=SpanSampling())


def test_greedy_streams_are_those_of_generate(moshi, model, silence):
    """The other voice is silent, in one batch with another that is not."""
    text, codes = generated(moshi[1])
    voice = np.repeat(silence[:, None], FRAMES, 1)
    noisy = np.random.default_rng(0).integers(CODES, size=(8, FRAMES + 2))
    quiet, other = streams(model, [voice, noisy], GREEDY)
    assert quiet["text"][0, : FRAMES - 1].tolist() == text[: FRAMES - 1].tolist()
    assert quiet["speaker"][:, : FRAMES - 1].tolist() == codes[:, : FRAMES - 1].tolist()
    assert (quiet["listener"] == voice).all()
    assert (other["listener"] == noisy).all()
    assert other["speaker"].shape == (8, FRAMES + 2)
    assert (other["speaker"][:, :FRAMES] != quiet["speaker"]).any()
    assert len(np.unique(codes)) > CODES // 3
