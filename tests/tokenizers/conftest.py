"""What several tests of tokenizers are made with."""

import pytest
import torch

from unified_tokenizers.audio import AudioTokenizer, AudioTokenizerConfig
from unified_tokenizers.quantizers import QuantizerConfig


@pytest.fixture(scope="session")
def make_audio_tokenizer():
    """Tiny audio tokenizers of random weights: 128 samples a frame, 20 codes a codebook."""

    def make(seed: int = 4, depth: int = 2, **settings) -> AudioTokenizer:
        torch.manual_seed(seed)
        shape = {
            "hop": 128, "num_mels": 12, "encoder_width": 12, "encoder_depth": 1,
            "decoder_width": 16, "decoder_depths": (1, 2),
        }  # fmt: skip
        quantizer = QuantizerConfig(levels=(5, 4), depth=depth)
        config = AudioTokenizerConfig(quantizer=quantizer, **{**shape, **settings})
        made = AudioTokenizer(config)
        made.fill()
        with (
            torch.no_grad()
        ):  # fresh weights are so small that blocks hardly reach their neighbours
            for name, parameter in made.named_parameters():
                if "spatial" in name or "mlp" in name:
                    parameter.mul_(3)
            made.to_quantizer[1].weight.mul_(3)
        return made.eval()

    return make
