"""Held-out losses by source and modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import torch

from unified.feeding import Row, Source, held_out_rows
from unified.feeding.source import leaves
from unified.grammar import MODALITIES
from unified.sequence import Sequencer
from unified.training.passes import make_pass
from unified.training.processes import Processes

__all__ = ["HeldOut"]


class HeldOut:
    """Rows of the held-out sources, read once and kept: `documents` of each at most.

    Every process measures a part of them.
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
            # As many for each process, or FSDP2 would wait for the others for ever.
            self._rows[name] = rows[: len(rows) // found.world * found.world] or rows * found.world

    @torch.no_grad()
    def measure(self, trainee: torch.nn.Module, at_once: int) -> dict[str, float]:
        """Mean loss in nats an id: "SOURCE/MODALITY" -> loss."""
        found: dict[str, float] = {}
        factors = np.ones(len(MODALITIES), np.float32)
        trainee.eval()
        for name, rows in self._rows.items():
            sums = torch.zeros(2, len(MODALITIES), dtype=torch.float64)
            mine = iter(rows[self._found.rank :: self._found.world])
            while group := list(islice(mine, at_once)):
                taken = make_pass(group, factors).to(self._found.device)
                outcome = trainee(taken)
                sums += torch.stack(outcome.by_modality(taken)).cpu()
            total = self._found.total(sums.flatten().tolist())
            for modality, number in MODALITIES.items():
                count = total[len(MODALITIES) + number]
                if modality != "marker" and count > 0:
                    found[f"{name}/{modality}"] = total[number] / count
        trainee.train()
        return found
