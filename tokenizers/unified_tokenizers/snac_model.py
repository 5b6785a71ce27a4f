"""SNAC, the multi-scale neural audio codec (arXiv:2410.14411), with the published parameter names.

Residual vector quantization whose coarse levels are sampled less often: of level i the residual is
averaged over `vq_strides[i]` frames, quantized, and repeated. Around it the convolutions of DAC
(arXiv:2306.06546) with Snake activations, depthwise where `depthwise`, attention over windows of
frames where `attn_window_size`, and in the decoder noise scaled by the signal where `noise`.

Legend: B batch, D width, L frames of the encoder, S samples, H heads, N frames of a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

__all__ = ["SnacConfig", "SnacModel"]

_HEAD_DIM = 64


@dataclass(frozen=True)
class SnacConfig:
    """The entries of a published config.json.

    Attributes:
        sampling_rate: Hz.
        encoder_dim: channels after the first convolution, doubled by every stage.
        encoder_rates, decoder_rates: strides of the stages.
        latent_dim: channels between encoder and decoder; what the encoder gives if left out.
        decoder_dim: channels of the decoder's first convolution, halved by every stage.
        attn_window_size: frames of a window of attention; None for no attention.
        codebook_size, codebook_dim: codes of a level, and numbers in the vector of each.
        vq_strides: frames that a code of each level stands for, coarse to fine.
        noise: whether the decoder adds noise.
        depthwise: whether convolutions of 7 samples see their own channel alone.
    """

    sampling_rate: int = 44_100
    encoder_dim: int = 64
    encoder_rates: tuple[int, ...] = (3, 3, 7, 7)
    latent_dim: int | None = None
    decoder_dim: int = 1536
    decoder_rates: tuple[int, ...] = (7, 7, 3, 3)
    attn_window_size: int | None = 32
    codebook_size: int = 4096
    codebook_dim: int = 8
    vq_strides: tuple[int, ...] = (8, 4, 2, 1)
    noise: bool = True
    depthwise: bool = True
    model_type: str = "snac"

    def __post_init__(self) -> None:
        sizes = {
            "sampling_rate": (self.sampling_rate,), "encoder_dim": (self.encoder_dim,),
            "encoder_rates": self.encoder_rates, "decoder_dim": (self.decoder_dim,),
            "decoder_rates": self.decoder_rates, "vq_strides": self.vq_strides,
            "attn_window_size": (self.attn_window_size or 1,), "latent_dim": (self.width,),
            "codebook_size": (self.codebook_size,), "codebook_dim": (self.codebook_dim,),
        }  # fmt: skip
        for name, values in sizes.items():
            if not 1 <= len(values) <= 16 or not all(1 <= value <= 1 << 20 for value in values):
                raise ValueError(f"{name} is {list(values)}, expected 1 to 16 sizes from 1 on")
        if math.prod(self.encoder_rates) != math.prod(self.decoder_rates):
            raise ValueError(
                f"encoder_rates {list(self.encoder_rates)} and decoder_rates"
                f" {list(self.decoder_rates)} have other products: sound would change its length"
            )
        for coarse, fine in zip(self.vq_strides, (*self.vq_strides[1:], 1)):
            if coarse % fine:
                raise ValueError(
                    f"vq_strides {list(self.vq_strides)}, expected each a multiple of the next"
                )
        if self.decoder_dim % 2 ** len(self.decoder_rates):
            raise ValueError(f"decoder_dim {self.decoder_dim} cannot be halved at every stage")

    @property
    def width(self) -> int:
        """Channels between encoder and decoder."""
        return self.latent_dim or self.encoder_dim * 2 ** len(self.encoder_rates)

    @property
    def hop_length(self) -> int:
        """Samples per frame of the encoder."""
        return math.prod(self.encoder_rates)

    @property
    def frames_per_period(self) -> int:
        """Frames of the encoder after which all levels and windows of attention begin anew."""
        return math.lcm(self.vq_strides[0], self.attn_window_size or 1)


class SnacModel(nn.Module):
    """Waveforms (B, 1, S) to a list of codes (B, L / stride), one of each level, and back.

    S is a multiple of `hop_length * frames_per_period`.
    """

    def __init__(self, config: SnacConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config)
        self.quantizer = _Quantizer(config)
        self.decoder = _Decoder(config)

    def encode(self, waveform_BCS: Tensor) -> list[Tensor]:
        """The codes of every level, coarse to fine."""
        return self.quantizer.encode(self.encoder(waveform_BCS))

    def decode(self, codes: list[Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Waveforms (B, 1, S) in [-1, 1].

        generator: of the decoder's noise, on the CPU, the same for every item of the batch; without
        it there is none.
        """
        return self.decoder(self.quantizer.decode(codes), generator)


def _conv(width_in: int, width_out: int, kernel: int, **options: int | bool) -> nn.Conv1d:
    return weight_norm(nn.Conv1d(width_in, width_out, kernel, **options))  # type: ignore[arg-type]


class _Snake(nn.Module):
    """x + sin^2(alpha x) / alpha (arXiv:2006.08195), alpha learnt for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, width, 1))

    def forward(self, x_BDL: Tensor) -> Tensor:
        return x_BDL + (self.alpha * x_BDL).sin().square() / (self.alpha + 1e-9)


class _ResidualUnit(nn.Module):
    def __init__(self, width: int, dilation: int, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            _Snake(width),
            _conv(width, width, 7, dilation=dilation, padding=3 * dilation, groups=groups),
            _Snake(width),
            _conv(width, width, 1),
        )

    def forward(self, x_BDL: Tensor) -> Tensor:
        return x_BDL + self.block(x_BDL)


def _residual_units(width: int, groups: int) -> list[nn.Module]:
    return [_ResidualUnit(width, dilation, groups) for dilation in (1, 3, 9)]


class _Noise(nn.Module):
    """Adds noise, in proportion to a projection of the signal. (B, D, L) to the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = _conv(width, width, 1, bias=False)

    def forward(self, x_BDL: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None:
            return x_BDL
        noise = torch.randn(1, 1, x_BDL.shape[2], generator=generator)
        return x_BDL + noise.to(x_BDL) * self.linear(x_BDL)


class _LocalAttention(nn.Module):
    """Attention within windows of `window` frames, with rotary positions. (B, D, L) to the same."""

    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        if width % _HEAD_DIM:
            raise ValueError(f"attention over {width} channels, expected a multiple of {_HEAD_DIM}")
        self.window = window
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.rel_pos = _Frequencies()

    def forward(self, x_BDL: Tensor) -> Tensor:
        projected = self.to_qkv(self.norm(x_BDL.transpose(1, 2)))
        query, key, value = rearrange(
            projected, "b (w n) (k h d) -> k b w h n d", k=3, n=self.window, d=_HEAD_DIM
        )
        angles = self.rel_pos(self.window)  # (N, head_dim)
        attended = F.scaled_dot_product_attention(
            _rotate(query, angles), _rotate(key, angles), value
        )
        mixed = self.to_out(rearrange(attended, "b w h n d -> b (w n) (h d)"))
        return x_BDL + mixed.transpose(1, 2)


class _Frequencies(nn.Module):
    """Of rotary positions; a buffer, since the published weights hold it."""

    inv_freq: Tensor

    def __init__(self) -> None:
        super().__init__()
        exponents = torch.arange(0, _HEAD_DIM, 2).float() / _HEAD_DIM
        self.register_buffer("inv_freq", 10_000.0**-exponents)

    def forward(self, length: int) -> Tensor:
        positions = torch.arange(length, device=self.inv_freq.device).to(self.inv_freq)
        return torch.outer(positions, self.inv_freq).repeat(1, 2)


def _rotate(x: Tensor, angles_ND: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * angles_ND.cos() + torch.cat([-second, first], -1) * angles_ND.sin()


class _Encoder(nn.Module):
    """(B, 1, S) to (B, width, L)."""

    def __init__(self, config: SnacConfig) -> None:
        super().__init__()
        width = config.encoder_dim
        layers: list[nn.Module] = [_conv(1, width, 7, padding=3)]
        for stride in config.encoder_rates:
            layers.append(_EncoderStage(width, stride, config.depthwise))
            width *= 2
        if config.attn_window_size is not None:
            layers.append(_LocalAttention(width, config.attn_window_size))
        layers.append(_conv(width, width, 7, padding=3, groups=width if config.depthwise else 1))
        self.block = nn.Sequential(*layers)

    def forward(self, waveform_BCS: Tensor) -> Tensor:
        return self.block(waveform_BCS)


class _EncoderStage(nn.Module):
    """(B, width, L) to (B, 2 * width, L / stride)."""

    def __init__(self, width: int, stride: int, depthwise: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(
            *_residual_units(width, width if depthwise else 1),
            _Snake(width),
            _conv(width, 2 * width, 2 * stride, stride=stride, padding=-(-stride // 2)),
        )

    def forward(self, x_BDL: Tensor) -> Tensor:
        return self.block(x_BDL)


class _Decoder(nn.Module):
    """(B, width, L) to (B, 1, S)."""

    def __init__(self, config: SnacConfig) -> None:
        super().__init__()
        width, inner = config.decoder_dim, config.width
        if config.depthwise:
            layers: list[nn.Module] = [_conv(inner, inner, 7, padding=3, groups=inner),
                                       _conv(inner, width, 1)]  # fmt: skip
        else:
            layers = [_conv(inner, width, 7, padding=3)]
        if config.attn_window_size is not None:
            layers.append(_LocalAttention(width, config.attn_window_size))
        for stride in config.decoder_rates:
            layers.append(_DecoderStage(width, stride, config.noise, config.depthwise))
            width //= 2
        layers += [_Snake(width), _conv(width, 1, 7, padding=3), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x_BDL: Tensor, generator: torch.Generator | None) -> Tensor:
        for layer in self.model:
            x_BDL = layer(x_BDL, generator) if isinstance(layer, _DecoderStage) else layer(x_BDL)
        return x_BDL


class _DecoderStage(nn.Module):
    """(B, width, L) to (B, width / 2, L * stride)."""

    def __init__(self, width: int, stride: int, noise: bool, depthwise: bool) -> None:
        super().__init__()
        half = width // 2
        upsampling = nn.ConvTranspose1d(
            width, half, 2 * stride, stride, padding=-(-stride // 2), output_padding=stride % 2
        )
        self.block = nn.Sequential(
            _Snake(width),
            weight_norm(upsampling),
            *([_Noise(half)] if noise else []),
            *_residual_units(half, half if depthwise else 1),
        )

    def forward(self, x_BDL: Tensor, generator: torch.Generator | None) -> Tensor:
        for layer in self.block:
            x_BDL = layer(x_BDL, generator) if isinstance(layer, _Noise) else layer(x_BDL)
        return x_BDL


class _Level(nn.Module):
    """A level of the quantizer: the nearest code by angle, in few dimensions (arXiv:2110.04627)."""

    def __init__(self, config: SnacConfig, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.in_proj = _conv(config.width, config.codebook_dim, 1)
        self.out_proj = _conv(config.codebook_dim, config.width, 1)
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_dim)

    def encode(self, residual_BDL: Tensor) -> Tensor:
        """Codes (B, L / stride)."""
        vectors = self.in_proj(F.avg_pool1d(residual_BDL, self.stride, self.stride))
        queries = F.normalize(rearrange(vectors, "b d l -> (b l) d"))
        keys = F.normalize(self.codebook.weight)
        # Squared distances without the queries' own norms, which are the same for every code.
        distances = keys.square().sum(1) - 2 * queries @ keys.T
        return distances.argmin(1).view(len(vectors), -1)

    def decode(self, codes_BL: Tensor) -> Tensor:
        """Codes to what they add to the latents: (B, D, L)."""
        vectors = self.out_proj(self.codebook(codes_BL).transpose(1, 2))
        return vectors.repeat_interleave(self.stride, -1)


class _Quantizer(nn.Module):
    def __init__(self, config: SnacConfig) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList(_Level(config, stride) for stride in config.vq_strides)

    def encode(self, latents_BDL: Tensor) -> list[Tensor]:
        """The codes of every level; each quantizes what those before it left."""
        codes = []
        for level in self.quantizers:
            assert isinstance(level, _Level)
            codes.append(level.encode(latents_BDL))
            latents_BDL = latents_BDL - level.decode(codes[-1])
        return codes

    def decode(self, codes: list[Tensor]) -> Tensor:
        """The sum of all levels: latents (B, D, L)."""
        parts = []
        for level, codes_BL in zip(self.quantizers, codes, strict=True):
            assert isinstance(level, _Level)
            parts.append(level.decode(codes_BL))
        return torch.stack(parts).sum(0)
