"""The figures of optimizer steps: losses by modality, norms, the learning rate.

Legend: M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unified.formats.grammar import MODALITIES
from unified.training.micro_batch import MicroBatch
from unified_base.training.dist import DistContext

__all__ = ["Amount", "StepFigures", "amount_of", "logged", "step_figures"]


class Amount(NamedTuple):
    """What was trained on: positions of the decoder, and the ids that they hold."""

    positions: int = 0
    ids: int = 0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.positions + other.positions, self.ids + other.ids)


_NOTHING = Amount()


def amount_of(micro_batches: Sequence[MicroBatch]) -> Amount:
    """What micro-batches hold."""
    positions = sum(micro_batch.num_positions for micro_batch in micro_batches)
    return Amount(positions, sum(micro_batch.num_ids for micro_batch in micro_batches))


@dataclass(frozen=True, eq=False)
class StepFigures:
    """Of one step, or of those since the last log; over all processes.

    Attributes:
        sums: float64 (2, M), losses and how many they are, by modality.
        gradient_norm, output_norm: of the last step.
        trained_on: positions and ids.
        lr: of the last step; 0 where it changed nothing.
    """

    sums: Tensor
    gradient_norm: float
    output_norm: float
    trained_on: Amount
    lr: float = 0.0

    @classmethod
    def empty(cls, trained_on: Amount = _NOTHING) -> StepFigures:
        """Of steps without a loss."""
        return cls(torch.zeros(2, len(MODALITIES), dtype=torch.float64), 0.0, 0.0, trained_on)

    @property
    def losses(self) -> dict[str, float]:
        """Means by modality."""
        return {
            name: float(self.sums[0, number] / self.sums[1, number])
            for name, number in MODALITIES.items()
            if self.sums[1, number] > 0
        }

    def plus(self, step: StepFigures, lr: float) -> StepFigures:
        """With those of another step, which had this learning rate."""
        sums, trained_on = self.sums + step.sums, self.trained_on.plus(step.trained_on)
        return StepFigures(sums, step.gradient_norm, step.output_norm, trained_on, lr)


def step_figures(
    sums: Tensor, output_norm: float, gradient_norm: float, trained_on: Amount, dist: DistContext
) -> StepFigures:
    """The figures of a step over all processes; `sums` and `output_norm` are this one's."""
    *flat, output_norm = dist.sum([*sums.flatten().tolist(), output_norm / dist.world])
    total = torch.tensor(flat, dtype=torch.float64).view_as(sums)
    return StepFigures(total, gradient_norm, output_norm, trained_on)


def logged(
    since: StepFigures, seconds: float, extra: Mapping[str, float], counts: Mapping[str, float]
) -> tuple[dict[str, float], str]:
    """(what is logged of steps that took so long, by name; what the terminal shows of it).

    extra: figures of the loss, "train/...", shown too. counts: logged, not shown.
    """
    done = since.trained_on
    ids, positions = done.ids / seconds, done.positions / seconds
    losses = since.losses
    figures = {f"train/{name}_loss": loss for name, loss in losses.items()}
    figures |= {
        "train/gradient_norm": since.gradient_norm,
        "train/output_norm": since.output_norm,
        "train/ids_per_second": ids,
        "train/positions_per_second": positions,
        "train/learning_rate": since.lr,
        **extra,
        **counts,
    }
    summary = {name: loss for name, loss in losses.items() if name != "marker"}
    for name, value in extra.items():
        summary[name.removeprefix("train/").replace("_", " ")] = value
    text = "".join(f"{name} {value:.3f}  " for name, value in summary.items())
    speed = f"{ids:.0f} ids/s"
    if done.positions != done.ids:
        speed += f", {positions:.0f} positions/s"
    return figures, f"{text}{speed}"
