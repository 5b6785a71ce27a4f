"""Validation losses by source and modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from unified.dataloading import PackedSequence, Source, validation_sequences
from unified.dataloading.source import leaves
from unified.formats.grammar import MODALITIES
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_table import Tasks
from unified.training.micro_batch import MicroBatch, make_micro_batch
from unified_base.training.dist import DistContext

__all__ = ["Validation"]


class Validation:
    """The sequences of the validation sources, read once. Every process measures its part of them.

    Args:
        sources: of code shards, by name.
        sequencer: of the model.
        seq_len: positions of a sequence.
        documents: of each source, at most.
        dist: the processes.
        tasks: of the model, by which pairs are laid out.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        sequencer: Sequencer,
        seq_len: int,
        documents: int,
        dist: DistContext,
        tasks: Tasks,
    ) -> None:
        self._dist = dist
        self._sequences: dict[str, Sequence[PackedSequence]] = {}
        for name, source in leaves(sources):
            sequences = list(
                validation_sequences(source, sequencer, seq_len, documents, name, tasks)
            )
            self._sequences[name] = sequences[dist.rank :: dist.world]

    @torch.no_grad()
    def measure(
        self,
        module: torch.nn.Module,
        micro_batch_size: int,
        even: Callable[[list[MicroBatch]], list[MicroBatch]] = lambda micro_batches: micro_batches,
    ) -> dict[str, float]:
        """Mean loss in nats an id: "SOURCE/MODALITY" -> loss.

        even: what lets every process do as many micro-batches (`DecoderTrainer.even`).
        """
        losses: dict[str, float] = {}
        factors = np.ones(len(MODALITIES), np.float32)
        module.eval()
        for name, sequences in self._sequences.items():
            sums = torch.zeros(2, len(MODALITIES), dtype=torch.float64)
            micro_batches = [
                make_micro_batch(sequences[i : i + micro_batch_size], factors).to(self._dist.device)
                for i in range(0, len(sequences), micro_batch_size)
            ]
            for micro_batch in even(micro_batches):
                outcome = module(micro_batch)
                sums += torch.stack(outcome.by_modality(micro_batch)).cpu()
            totals = self._dist.sum(sums.flatten().tolist())
            for modality, number in MODALITIES.items():
                count = totals[len(MODALITIES) + number]
                if modality != "marker" and count > 0:
                    losses[f"{name}/{modality}"] = totals[number] / count
        module.train()
        return losses
