"""Parts of a tokenizer's training: the weights it begins with, its optimizer, and which codes are
used."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from unified_base.training.muon import Muon
from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.image import VQImageTokenizer
from unified_tokenizers.training_config import TokenizerOptimizer, TokenizerTraining
from unified_tokenizers.video import VQVideoTokenizer

__all__ = ["CodeUsage", "make_optimizers", "prepare"]


def prepare(
    config: TokenizerTraining, model: VQImageTokenizer | VQAudioTokenizer | VQVideoTokenizer
) -> None:
    """Begin with another tokenizer's weights, and freeze what encodes, where the run says so.

    Raises:
        ValueError: the tokenizer in `init_from` has another configuration.
    """
    if config.init_from is not None:
        start = type(model).from_pretrained(config.init_from)
        if start.config != model.config:
            raise ValueError(
                f"the tokenizer in {config.init_from} has the settings {start.config}, the run"
                f" {model.config}"
            )
        model.load_state_dict(start.state_dict())
    if config.freeze_encoder:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(model.encoding))
        model.quantizer.eval()  # its codebooks stay, too


def make_optimizers(
    config: TokenizerOptimizer,
    module: nn.Module,
    parameters: Iterable[nn.Parameter],
    kernels: bool = False,
) -> dict[str, torch.optim.Optimizer]:
    """AdamW, and Muon for the weights of linear layers where the run says so, by name.

    Matrices decay, norms and biases do not. Muon's steps have AdamW's size (arXiv:2502.16982).

    Args:
        config: of the run.
        module: whose linear layers' weights are Muon's.
        parameters: those that are trained.
        kernels: those of convolutions are Muon's as well.
    """
    trained = list(parameters)
    optimizers: dict[str, torch.optim.Optimizer] = {}
    if config.name == "muon":
        linear = {id(m.weight) for m in module.modules() if isinstance(m, nn.Linear)}
        matrices = [p for p in trained if id(p) in linear]
        kinds = (nn.Conv1d, nn.Conv2d) if kernels else ()
        folded = {id(m.weight) for m in module.modules() if isinstance(m, kinds)}
        filters = [p for p in trained if id(p) in folded]
        trained = [p for p in trained if id(p) not in linear | folded]
        optimizers["muon"] = Muon(matrices, config.lr, config.weight_decay, filters)
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0},
    ]
    return {"adamw": torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)} | optimizers


class CodeUsage:
    """Which codes were used since the last log, and whether they get fewer."""

    def __init__(self, codebook_sizes: tuple[int, ...]) -> None:
        self.used = [torch.zeros(size, dtype=torch.bool) for size in codebook_sizes]
        self.best = [0.0] * len(codebook_sizes)

    def add(self, codes: Tensor) -> None:
        """Note codes (B, K, *grid)."""
        for level, used in enumerate(self.used):
            used[codes[:, level].reshape(-1)] = True

    def flush(self) -> tuple[list[float], list[int]]:
        """The share of each codebook's codes that were used; the levels where it fell by half."""
        shares = [float(used.float().mean()) for used in self.used]
        fallen = [i for i, share in enumerate(shares) if share < self.best[i] / 2]
        self.best = [max(pair) for pair in zip(self.best, shares)]
        for used in self.used:
            used.zero_()
        return shares, fallen
