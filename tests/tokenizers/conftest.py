"""What several tests of tokenizers are made with."""

import pytest
import torch
from picture_training import SIZES, picture
from PIL import Image

from unified_tokenizers.audio import AudioTokenizerConfig, VQAudioTokenizer
from unified_tokenizers.quantizers import QuantizerConfig


@pytest.fixture(scope="session")
def make_audio_tokenizer():
    """Tiny audio tokenizers of random weights: 128 samples a frame, 20 codes a codebook."""

    def make(seed: int = 4, depth: int = 2, **settings) -> VQAudioTokenizer:
        torch.manual_seed(seed)
        shape = {
            "hop": 128, "num_mels": 12, "encoder_width": 12, "encoder_depth": 1,
            "decoder_width": 16, "decoder_depths": (1, 2),
        }  # fmt: skip
        quantizer = QuantizerConfig(levels=(5, 4), depth=depth)
        config = AudioTokenizerConfig(quantizer=quantizer, **{**shape, **settings})
        tokenizer = VQAudioTokenizer(config)
        tokenizer.fill()
        with (
            torch.no_grad()
        ):  # fresh weights are so small that blocks hardly reach their neighbours
            for name, parameter in tokenizer.named_parameters():
                if "spatial" in name or "mlp" in name:
                    parameter.mul_(3)
            tokenizer.to_quantizer[1].weight.mul_(3)
        return tokenizer.eval()

    return make


@pytest.fixture
def check_gradients():
    """That learning to give waveforms (B, S) back moves every parameter of an audio tokenizer."""

    def check(tokenizer, waveforms: torch.Tensor) -> None:
        values, codes, _ = tokenizer.quantize(tokenizer.features(waveforms))
        (tokenizer.waveform(values, codes) - waveforms).square().mean().backward()
        for name, parameter in tokenizer.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        tokenizer.zero_grad(set_to_none=True)

    return check


@pytest.fixture
def torch_threads():
    """A run sets torch's number of threads for its process: put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """A folder of pictures of many sizes."""
    folder = tmp_path_factory.mktemp("mixed")
    for number, size in enumerate(SIZES):
        Image.fromarray(picture(*size, seed=number)).save(folder / f"{number}.png")
    return folder
