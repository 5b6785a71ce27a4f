"""code2wav of a Qwen3-Omni: what it decodes is what transformers' own code decodes."""

import numpy as np
import pytest
import torch

from tests.helpers.qwen_omni_checkpoint import CODES, make_qwen_omni
from unified_tokenizers import load_tokenizer
from unified_tokenizers.adapters_code2wav import Code2WavAdapter
from unified_tokenizers.base import Codes


@pytest.fixture(scope="module")
def omni(tmp_path_factory):
    folder = tmp_path_factory.mktemp("omni")
    return folder, make_qwen_omni(folder)


@pytest.fixture(scope="module")
def codec(omni):
    return load_tokenizer(omni[0], "audio")


def codes(*shape):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(CODES, size=(shape[0], 16, shape[1])))


def test_it_is_of_the_checkpoint(codec):
    assert type(codec) is Code2WavAdapter
    assert (codec.sample_rate, codec.hop, codec.channels) == (24_000, 8, 1)
    assert codec.codebook_sizes == (CODES,) * 16


# More frames than are decoded at a time, too.
@pytest.mark.parametrize("frames", [1, 5, 310])
def test_sound_is_that_of_transformers_in_a_batch_as_alone(omni, codec, frames):
    own = codes(2, frames)
    with torch.no_grad():
        expected = omni[1].code2wav.chunked_decode(own)[:, 0]
    waveform = codec.decode(Codes(own, (8 * frames,)))
    assert waveform.shape == (2, 1, 8 * frames)
    assert torch.allclose(waveform[:, 0, : expected.shape[1]], expected, atol=1e-5)
    assert not waveform[:, 0, expected.shape[1] :].any()
    alone = codec.decode(Codes(own[1:], (8 * frames,)))
    assert torch.allclose(alone, waveform[1:], atol=1e-4)
    assert len(waveform.unique()) > frames
    assert (waveform.abs() == 1).float().mean() < 0.1


def test_vectors_are_those_that_it_reads(omni, codec):
    own = codes(1, 3)[0].T
    table = omni[1].code2wav.code_embedding.weight.detach()
    expected = torch.stack([sum(table[k * CODES + row[k]] for k in range(16)) / 16 for row in own])
    assert torch.allclose(codec.values_of(own), expected, atol=1e-6)


def test_it_does_not_encode(codec):
    with pytest.raises(ValueError, match="has no encoder"):
        codec.encode(torch.zeros(1, 1, 80))


def test_saved_by_itself_it_reopens(codec, tmp_path):
    codec.save_pretrained(tmp_path / "codec")
    again = load_tokenizer(tmp_path / "codec", "audio")
    assert again.fingerprint == codec.fingerprint
    own = Codes(codes(1, 4), (32,))
    assert torch.equal(again.decode(own), codec.decode(own))


def test_a_checkpoint_without_it_is_refused(omni, tmp_path):
    import json

    config = json.loads((omni[0] / "config.json").read_text("utf-8"))
    del config["code2wav_config"]
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    (tmp_path / "model.safetensors").symlink_to(omni[0] / "model.safetensors")
    with pytest.raises(ValueError, match="has no code2wav_config"):
        load_tokenizer(tmp_path, "audio")
