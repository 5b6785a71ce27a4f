"""What a tokenizer's training is put together from: its rate, its optimizer, averages, a look at
which codes are used."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.image import VQImageTokenizer
from unified_tokenizers.training_config import TokenizerTraining

__all__ = ["Usage", "follow", "make_optimizer", "prepare", "rate_at"]


def rate_at(config: TokenizerTraining, step: int) -> float:
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def prepare(config: TokenizerTraining, model: VQImageTokenizer | VQAudioTokenizer) -> None:
    """Begin with another tokenizer's weights, and leave what encodes as it is, where asked to.

    Raises ValueError where the tokenizer in `start` has another configuration.
    """
    if config.start is not None:
        start = type(model).from_pretrained(config.start)
        if start.config != model.config:
            raise ValueError(
                f"the tokenizer in {config.start} has the settings {start.config}, the run"
                f" {model.config}"
            )
        model.load_state_dict(start.state_dict())
    if config.freeze_encoder:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(model.encoding))
        model.quantizer.eval()  # its codebooks stay, too


def make_optimizer(config: TokenizerTraining, trained: list[nn.Parameter]) -> torch.optim.AdamW:
    decay = [p for p in trained if p.ndim >= 2]
    plain = [p for p in trained if p.ndim < 2]
    return torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0},
        ],
        lr=config.learning_rate,
        betas=(0.9, 0.99),
    )


class Usage:
    """Which codes were used since the log last told, and an alarm when they get fewer."""

    def __init__(self, codebook_sizes: tuple[int, ...]) -> None:
        self.used = [torch.zeros(size, dtype=torch.bool) for size in codebook_sizes]
        self.best = [0.0] * len(codebook_sizes)

    def add(self, codes: Tensor) -> None:
        for level, used in enumerate(self.used):
            used[codes[:, level].reshape(-1)] = True

    def take(self) -> tuple[list[float], list[int]]:
        """The share of each codebook's codes that were used; the levels where it fell by half."""
        shares = [float(used.float().mean()) for used in self.used]
        fallen = [i for i, share in enumerate(shares) if share < self.best[i] / 2]
        self.best = [max(pair) for pair in zip(self.best, shares)]
        for used in self.used:
            used.zero_()
        return shares, fallen


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """The average of the weights, a short one at first: the first steps' are worth forgetting."""
    weight = 1 - min(decay, (step + 1) / (step + 10))
    for mean, parameter in zip(average.parameters(), model.parameters()):
        mean.lerp_(parameter, weight)
    # Codebooks that follow by moving averages are averages already.
    for kept, buffer in zip(average.buffers(), model.buffers()):
        kept.copy_(buffer)
