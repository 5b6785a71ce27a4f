"""Adversaries: discriminators of pictures and of sound, and a loss of theirs that stays in bounds.

Legend: B batch, C channels, H W pixels or bins and frames, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from unified_base.config import parse_config

__all__ = ["Adversary", "AdversarySettings", "audio_discriminator", "image_discriminator"]

Features = list[Tensor]
"""What a discriminator's layers give for a batch; the last are its logits."""


class PatchDiscriminator(nn.Module):
    """PatchGAN (arXiv:1611.07004): pictures (B, 3, H, W) to a logit for every patch.

    Group instead of batch normalization: a picture is judged the same whatever is beside it.
    """

    def __init__(self, width: int, layers: int = 3) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = 3
        for layer in range(layers):
            after = width * 2**layer
            parts: list[nn.Module] = [nn.Conv2d(before, after, 4, stride=2, padding=1)]
            if layer:
                parts.append(nn.GroupNorm(min(8, after), after))
            blocks.append(nn.Sequential(*parts, nn.LeakyReLU(0.2)))
            before = after
        blocks.append(nn.Conv2d(before, 1, 3, padding=1))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, pictures_BCHW: Tensor) -> Features:
        features, x = [], pictures_BCHW * 2 - 1
        for block in self.blocks:
            x = block(x)
            features.append(x)
        return features


class PeriodDiscriminator(nn.Module):
    """One of HiFi-GAN's (arXiv:2010.05646): every `period`-th sample of (B, S) in a column."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        sizes = [1, width, 2 * width, 4 * width]
        self.blocks = nn.ModuleList(
            weight_norm(nn.Conv2d(width_in, width_out, (5, 1), stride=(3, 1), padding=(2, 0)))
            for width_in, width_out in pairwise(sizes)
        )
        self.last = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform_BS: Tensor) -> Features:
        missing = -waveform_BS.shape[1] % self.period
        x = F.pad(waveform_BS[:, None], (0, missing), mode="reflect")
        x = rearrange(x, "b c (t p) -> b c t p", p=self.period)
        features = []
        for block in self.blocks:
            x = F.leaky_relu(block(x), 0.1)
            features.append(x)
        return [*features, self.last(x)]


class SpectrumDiscriminator(nn.Module):
    """One of EnCodec's (arXiv:2210.13438): real and imaginary parts of a short-time spectrum."""

    def __init__(self, window: int, width: int) -> None:
        super().__init__()
        self.window = window
        shapes = [(2, width, 1), (width, width, 1), (width, width, 2), (width, width, 4)]
        self.blocks = nn.ModuleList(
            weight_norm(
                nn.Conv2d(width_in, width_out, (3, 9), padding=(dilation, 4),
                          stride=(1, 2 if dilation > 1 or width_in == 2 else 1),
                          dilation=(dilation, 1))
            )
            for width_in, width_out, dilation in shapes
        )  # fmt: skip
        self.last = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, waveform_BS: Tensor) -> Features:
        with torch.autocast(waveform_BS.device.type, enabled=False):
            window = torch.hann_window(self.window, device=waveform_BS.device)
            spectrum = torch.stft(
                waveform_BS.float(), self.window, self.window // 4, window=window,
                normalized=True, pad_mode="constant", return_complex=True,
            )  # fmt: skip
        x = rearrange(torch.view_as_real(spectrum), "b f t c -> b c t f")
        features = []
        for block in self.blocks:
            x = F.leaky_relu(block(x), 0.2)
            features.append(x)
        return [*features, self.last(x)]


class Several(nn.ModuleList):
    """Discriminators side by side."""

    def forward(self, media: Tensor) -> list[Features]:
        return [part(media) for part in self]


def image_discriminator(width: int) -> Several:
    """Two PatchGANs, of small and of larger patches."""
    return Several([PatchDiscriminator(width, layers) for layers in (2, 3)])


def audio_discriminator(width: int) -> Several:
    """Multi-period and multi-scale-spectrum discriminators."""
    periods = [PeriodDiscriminator(period, width) for period in (2, 3, 5, 7, 11)]
    return Several([*periods, *(SpectrumDiscriminator(size, width) for size in (256, 512, 1024))])


@dataclass(frozen=True)
class AdversarySettings:
    """How a discriminator joins a tokenizer's training.

    Attributes:
        weight: of the adversarial loss, relative to the reconstruction's: both are brought to equal
            gradients at the decoder's last layer first (VQGAN, arXiv:2012.09841).
        start: step at which the discriminator begins to learn.
        warmup: steps over which the weight then grows from 0: switched on at once, an ignorant
            discriminator wrecks the reconstruction.
        features: weight of feature matching, within the adversarial loss.
        learning_rate: of the discriminator, constant.
        width: channels of its first layers.
    """

    weight: float
    start: int
    warmup: int = 1000
    features: float = 2.0
    learning_rate: float = 0.0003
    width: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{field.name} is {value}, expected 0 or more")
            if value > (most := 100 if field.name == "learning_rate" else 10**9):
                raise ValueError(f"{field.name} is {value}, expected at most {most:,}")
        if not 1 <= self.width <= 4096:
            raise ValueError(f"width is {self.width}, expected 1 to 4096")

    @classmethod
    def parse(cls, entries: Any) -> AdversarySettings:
        """From a mapping. Raises ValueError for unknown or missing entries and other types."""
        return parse_config(cls, entries, "adversary")


class Adversary:
    """A discriminator, its optimizer, and its part of the tokenizer's loss."""

    def __init__(self, settings: AdversarySettings, modality: str) -> None:
        self.settings = settings
        create = image_discriminator if modality == "image" else audio_discriminator
        self.discriminator = create(settings.width)
        self.optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), lr=settings.learning_rate, betas=(0.8, 0.99)
        )

    def active(self, step: int) -> bool:
        """Whether it takes part in a step."""
        return step >= self.settings.start

    def loss(
        self, real: Tensor, restored: Tensor, other: Tensor, last: Tensor, step: int
    ) -> Tensor:
        """What to add to the tokenizer's loss, a scalar.

        Args:
            real, restored: media and their reconstructions: (B, 3, H, W) or (B, S).
            other: the loss of reconstruction so far.
            last: the weight of the decoder's last layer.
        """
        self.discriminator.requires_grad_(False)
        judged = self.discriminator(restored)
        with torch.no_grad():
            wanted = self.discriminator(real)
        self.discriminator.requires_grad_(True)
        total = hinge_generator(judged)
        total = total + self.settings.features * feature_matching(wanted, judged)
        (ours,) = torch.autograd.grad(total, last, retain_graph=True)
        (theirs,) = torch.autograd.grad(other, last, retain_graph=True)
        balance = (theirs.norm() / ours.norm().clamp_min(1e-8)).clamp(max=1e4)
        grown = min(1.0, (step - self.settings.start) / max(1, self.settings.warmup))
        return self.settings.weight * grown * balance * total

    def learn(self, real: Tensor, restored: Tensor) -> Tensor:
        """The gradients of its own loss; `step` applies them. Gives the loss, a scalar."""
        loss = hinge_discriminator(self.discriminator(real), self.discriminator(restored.detach()))
        loss.backward()
        return loss.detach()

    def step(self) -> None:
        """Apply the gradients."""
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def hinge_generator(judged: Sequence[Features]) -> Tensor:
    """Mean over discriminators of the negated logits (arXiv:1705.02894)."""
    return torch.stack([-features[-1].float().mean() for features in judged]).mean()


def hinge_discriminator(real: Sequence[Features], restored: Sequence[Features]) -> Tensor:
    """Mean over discriminators of the hinge losses: real above 1, restored below -1."""
    losses = [
        F.relu(1 - from_real[-1].float()).mean() + F.relu(1 + from_restored[-1].float()).mean()
        for from_real, from_restored in zip(real, restored)
    ]
    return torch.stack(losses).mean()


def feature_matching(real: Sequence[Features], restored: Sequence[Features]) -> Tensor:
    """Mean absolute difference of the hidden features, over their mean size."""
    losses = [
        (a.float().detach() - b.float()).abs().mean() / a.float().abs().mean().clamp_min(1e-6)
        for from_real, from_restored in zip(real, restored)
        for a, b in zip(from_real[:-1], from_restored[:-1])
    ]
    return torch.stack(losses).mean()
