"""Direct preference optimisation (DPO, arXiv:2305.18290) of documents of any modality.

The log-probability of a document is the sum over its ids that count, each modality with a weight of
its own. Its gradient is that of the cross-entropy with one factor for the whole document, which is
known once the log-probabilities are: so they are worked out first, without a gradient, and the pass
that has one is that of any training, in pieces of any number. What the reference makes of every
pair is worked out before the first step and kept in OUTPUT/reference.safetensors: no second model
stays in memory.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from unified.training.checkpoint import Saved
from unified.training.config import TrainConfig
from unified.training.pairs import Pair, Pairs
from unified.training.passes import Pass, make_pass, modality_factors
from unified.training.processes import Processes
from unified.training.run import Run

__all__ = ["PreferenceRun", "preference_slopes"]


def preference_slopes(
    policy: Tensor, reference: Tensor, beta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, its slope by the policy's log-probabilities, reward margins) of pairs.

    policy, reference: float64 (n, 2), log-probabilities of the chosen and the rejected documents.
    loss: (n,), -log sigmoid(beta * margin of the ratios). slopes: (n, 2). margins: (n,), in nats.
    """
    ratios = policy - reference
    margins = beta * (ratios[:, 0] - ratios[:, 1])
    slope = -beta * torch.sigmoid(-margins)
    return -F.logsigmoid(margins), torch.stack([slope, -slope], dim=1), margins


class PreferenceRun(Run):
    """A run whose steps are of preference pairs."""

    def __init__(self, config: TrainConfig, found: Processes) -> None:
        assert config.preferences is not None
        super().__init__(config, found)
        self.preferences = config.preferences
        if self.preferences.pairs % found.world:
            raise ValueError(
                f"{self.preferences.pairs} pairs a step do not divide among {found.world} processes"
            )
        # Within a document the loss says which ids count, the factors how much of each modality.
        self.factors = modality_factors(self.preferences.modality_weights)

    def open_loader(self, sources: Any, saved: Saved | None) -> None:
        config, found = self.config, self.found
        self.loader = Pairs(
            sources, self.model.sequencer, config.length, config.seed, found.rank, found.world,
            config.max_broken,
        )  # fmt: skip
        self._reference = self._references()
        if saved is not None:
            self.loader.load_state([rank["data"] for rank in saved.ranks])

    def take_step(self) -> list[Pass]:
        self.reports = []
        wanted = self.preferences.pairs // self.found.world
        self._pairs = list(islice(iter(self.loader.next, None), wanted))
        self._passes = self._make_passes(self._pairs)
        return [taken for taken, _ in self._passes]

    def weight(self, passes: list[Pass]) -> float:
        """A step's loss is the mean over its pairs."""
        return float(len(self._pairs))

    def gradients(self, passes: list[Pass], total: float) -> tuple[Tensor, float]:
        policy = self._log_probabilities(self._passes, len(self._pairs))
        reference = torch.stack([self._reference[pair.key] for pair in self._pairs])
        losses, slopes, margins = preference_slopes(policy, reference, self.preferences.beta)
        # A document's log-probability is minus the sum of its weighted losses.
        weighed = [
            taken.weighed(taken.weights * -slopes.flatten()[numbers].float()[taken.document])
            for taken, numbers in self._passes
        ]
        sums, norm = super().gradients(weighed, total)
        self.extra = {
            "train/preference_loss": losses,
            "train/preference_accuracy": (margins > 0).double(),
            "train/reward_margin": margins,
        }
        return sums, norm

    def _make_passes(self, pairs: list[Pair]) -> list[tuple[Pass, Tensor]]:
        """Passes, and for each of their documents 2 * pair + (0 chosen, 1 rejected)."""
        found = []
        packed = iter(self.loader.pack(pairs))
        while group := list(islice(packed, self.config.rows_at_once)):
            taken = make_pass([row for row, _ in group], self.factors)
            numbers = torch.tensor([number for _, some in group for number in some])
            found.append((taken.to(self.found.device), numbers.to(self.found.device)))
        return found

    @torch.no_grad()
    def _log_probabilities(self, passes: list[tuple[Pass, Tensor]], pairs: int) -> Tensor:
        """float64 (pairs, 2)."""
        found = torch.zeros(2 * pairs, dtype=torch.float64, device=self.found.device)
        for taken, numbers in passes:
            outcome = self.trainee(taken)
            weighted = (outcome.losses * taken.weights).double()
            found.index_add_(0, numbers[taken.document], -weighted)
        return found.view(pairs, 2).cpu()

    def _references(self) -> dict[str, Tensor]:
        """What the model to begin with makes of every pair, by key: float64 (2,)."""
        path = Path(self.config.output) / "reference.safetensors"
        if not path.exists():
            if self.step:
                raise ValueError(f"{path} is missing: it was made before the first step")
            self.found.wait()
            held = self._measure_all()
            if self.found.first:
                partial = path.with_suffix(".partial")
                save_file(held, partial)
                partial.replace(path)
            self.found.wait()
        return load_file(path)

    def _measure_all(self) -> dict[str, Tensor]:
        self.masters.hand_down()
        self.trainee.eval()
        held: dict[str, Tensor] = {}
        numbers = range(0, self.loader.size, 16)
        for first in track(numbers, "reference", disable=not self.found.first, transient=True):
            pairs = []
            for number in range(first, min(first + 16, self.loader.size)):
                try:
                    pairs.append(self.loader.read(number))
                except ValueError:  # counted when its turn comes
                    continue
            found = self._log_probabilities(self._make_passes(pairs), len(pairs))
            held |= {pair.key: row.clone() for pair, row in zip(pairs, found)}
        self.trainee.train()
        return held
