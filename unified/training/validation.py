"""Validation losses by source and modality; by level, too, where a position holds several codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from unified.dataloading import PackedSequence, Source, validation_sequences
from unified.dataloading.source import leaves
from unified.formats.grammar import MODALITIES, Grammar
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_table import Tasks
from unified.training.micro_batch import MicroBatch, make_micro_batch
from unified_base.training.dist import DistContext

__all__ = ["Validation", "levels_together"]


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
        self._levels, level_of_id = levels_together(sequencer.grammar)
        self._level_of_id = torch.from_numpy(level_of_id).to(dist.device)
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
        """Mean loss in nats an id: "SOURCE/MODALITY" -> loss, and "SOURCE/MODALITY.LEVEL" of the
        codes of media that have several in a position.

        even: what lets every process do as many micro-batches (`DecoderTrainer.even`).
        """
        losses: dict[str, float] = {}
        factors = np.ones(len(MODALITIES), np.float32)
        names = [*MODALITIES, *self._levels]
        writes = getattr(module, "writes", None)
        module.eval()
        for name, sequences in self._sequences.items():
            sums = torch.zeros(2, len(names), dtype=torch.float64)
            for micro_batch in even(
                [
                    make_micro_batch(
                        sequences[i : i + micro_batch_size], factors, writes=writes
                    ).to(self._dist.device)
                    for i in range(0, len(sequences), micro_batch_size)
                ]
            ):
                outcome = module(micro_batch)
                of_modalities = torch.stack(outcome.by_modality(micro_batch))
                of_levels = self._by_level(outcome.losses, micro_batch)
                sums += torch.cat([of_modalities, of_levels], dim=1).cpu()
            totals = self._dist.sum(sums.flatten().tolist())
            for what, total, count in zip(names, totals, totals[len(names) :]):
                if what != "marker" and count > 0:
                    losses[f"{name}/{what}"] = total / count
        module.train()
        return losses

    def _by_level(self, losses: Tensor, micro_batch: MicroBatch) -> Tensor:
        """Sums and counts of the losses of codes, by their level: float64 (2, levels)."""
        level = self._level_of_id[micro_batch.labels]
        level, losses = level[level >= 0], losses[level >= 0].double()
        number = len(self._levels)
        sums = torch.zeros(number, dtype=torch.float64, device=losses.device)
        sums.index_add_(0, level, losses)
        return torch.stack([sums, torch.bincount(level, minlength=number).double()])


def levels_together(grammar: Grammar) -> tuple[tuple[str, ...], np.ndarray]:
    """("MODALITY.LEVEL" of codes that share positions; int64 (V,), which of them each id of the
    vocabulary is of, -1 of none)."""
    names: dict[str, int] = {}
    level_of_id = np.full(grammar.vocabulary.size, -1)
    for span in grammar.span_grammars.values():
        for block in span.blocks if span.num_together > 1 else ():
            number = names.setdefault(block.name, len(names))
            for start, stop in block.runs:
                level_of_id[start:stop] = number
    return tuple(names), level_of_id
