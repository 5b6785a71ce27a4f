"""Held-out losses by source and modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from unified.dataloading import Row, Source, held_out_rows
from unified.dataloading.source import leaves
from unified.formats.grammar import MODALITIES
from unified.sequence.sequencer import Sequencer
from unified.training.passes import Pass, make_pass
from unified.training.processes import Processes

__all__ = ["HeldOut"]


class HeldOut:
    """Rows of the held-out sources, read once and kept: `documents` of each at most.

    Every process measures its part of them.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        sequencer: Sequencer,
        length: int,
        documents: int,
        found: Processes,
    ) -> None:
        self._found = found
        self._rows: dict[str, Sequence[Row]] = {}
        for name, source in leaves(sources):
            rows = list(held_out_rows(source, sequencer, length, documents, name))
            self._rows[name] = rows[found.rank :: found.world]

    @torch.no_grad()
    def measure(
        self,
        trainee: torch.nn.Module,
        at_once: int,
        even: Callable[[list[Pass]], list[Pass]] = lambda passes: passes,
    ) -> dict[str, float]:
        """Mean loss in nats an id: "SOURCE/MODALITY" -> loss.

        even: what lets every process do as many passes (`Run.even`).
        """
        found: dict[str, float] = {}
        factors = np.ones(len(MODALITIES), np.float32)
        trainee.eval()
        for name, rows in self._rows.items():
            sums = torch.zeros(2, len(MODALITIES), dtype=torch.float64)
            groups = (rows[i : i + at_once] for i in range(0, len(rows), at_once))
            for taken in even([make_pass(g, factors).to(self._found.device) for g in groups]):
                outcome = trainee(taken)
                sums += torch.stack(outcome.by_modality(taken)).cpu()
            total = self._found.total(sums.flatten().tolist())
            for modality, number in MODALITIES.items():
                count = total[len(MODALITIES) + number]
                if modality != "marker" and count > 0:
                    found[f"{name}/{modality}"] = total[number] / count
        trainee.train()
        return found
