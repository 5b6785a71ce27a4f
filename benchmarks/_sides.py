"""The two sides of each comparison in `tokenizers`: models, and how they reconstruct.

A reconstruction is what a model makes of media, and its quantizer's loss, weighted.
"""

from __future__ import annotations

from typing import Any

import torch
from _media import SAMPLE_RATE
from _shared import numbers
from diffusers import VQModel
from torch import Tensor, nn
from transformers import DacConfig, DacModel

from unified_tokenizers import VQAudioTokenizer, VQImageTokenizer

STRIDE, DIM = 8, 8


def vq_model(codes: int, legacy: bool) -> VQModel:
    """diffusers' VQModel at stride 8 with its own number of layers a block (1).

    Widths are those of the VQGANs of latent diffusion at this stride (128, 256, 256, 512) over
    four, with their 4 channels to a normalised group. `legacy=False` swaps the weights of its
    quantizer's two losses, as its source says is right; there is no argument for it.
    """
    model = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 64, 128), norm_num_groups=8, latent_channels=DIM,
        num_vq_embeddings=codes,
    )  # fmt: skip
    model.quantize.legacy = legacy
    return model


def image_tokenizer(width: int, codes: int, kind: str, scale: float = 1.0) -> VQImageTokenizer:
    """Ours: the preset conv-small at another width. scale: of its encoder's first output."""
    entries = {
        "preset": "conv-small", "stride": STRIDE, "encoder_width": width, "decoder_width": width,
        "quantizer": {"kind": kind, "codes": codes, "dim": DIM},
    }  # fmt: skip
    tokenizer = VQImageTokenizer(VQImageTokenizer.parse_config(entries))
    out = tokenizer.to_quantizer[1]
    with torch.no_grad():
        for parameter in out.parameters():
            parameter.mul_(scale)
    return tokenizer


def widest(most: int, codes: int, kind: str) -> int:
    """The width of our image tokenizer with at most so many numbers."""
    width = 32
    with torch.device("meta"):
        while numbers(image_tokenizer(width + 8, codes, kind).state_dict().items()) <= most:
            width += 8
    return width


def reconstruct_picture(model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(model, VQImageTokenizer)
    values, codes, loss = model.quantize(model.features(pixels))
    return model.pictures(values, codes), loss


def reconstruct_vq_model(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Quantized in float32, as ours is: in bfloat16 it would find other codes."""
    latents = model.encode(pixels * 2 - 1).latents
    with torch.autocast("cpu", enabled=False):
        values, loss, _ = model.quantize(latents.float())
    return model.decode(values, force_not_quantize=True).sample * 0.5 + 0.5, loss


def audio_tokenizer() -> VQAudioTokenizer:
    """Ours: 25 frames a second of 3 codes of 1,000, side by side."""
    entries = {"quantizer": {"kind": "fsq", "levels": (8, 5, 5, 5), "groups": 3}}
    tokenizer = VQAudioTokenizer(VQAudioTokenizer.parse_config(entries))
    tokenizer.fill()
    return tokenizer


def dac_model(width: int) -> DacModel:
    """DacModel at 25 frames a second of 3 codes of 1,024, weights normalised as DAC's trainer does.

    The decoder is 24 times as wide as the encoder, as DAC's own, up to a multiple of 16, since it
    is halved four times.
    """
    config = DacConfig(
        encoder_hidden_size=width, decoder_hidden_size=16 * -(-3 * width // 2),
        downsampling_ratios=[2, 4, 8, 10], n_codebooks=3, sampling_rate=SAMPLE_RATE,
    )  # fmt: skip
    model = DacModel(config)
    model.apply_weight_norm()
    return model


def narrowest_dac(least: int) -> int:
    """The width of a DacModel with at least so many numbers."""
    width = 2
    with torch.device("meta"):
        while numbers(dac_model(width).state_dict().items()) < least:
            width += 1
    return width


def reconstruct_sound(model: nn.Module, waveform: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(model, VQAudioTokenizer)
    values, codes, loss = model.quantize(model.features(waveform))
    return model.waveform(values, codes), loss


def reconstruct_dac(model: Any, waveform: Tensor) -> tuple[Tensor, Tensor]:
    """DAC's own weights of the losses: 15 for the mel loss, a sum over seven windows of log10.

    Ours is a mean of natural logarithms over six windows, about a third of that: 45 of ours.
    """
    outputs = model(waveform[:, None])
    return outputs.audio_values, outputs.loss.mean() / 45
