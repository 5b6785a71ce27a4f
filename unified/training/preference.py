"""Direct preference optimisation (DPO, arXiv:2305.18290) of documents of any modality.

The log-probability of a document is the sum over its ids that count, each modality with a weight of
its own. Its gradient is that of the cross-entropy with one factor for the whole document, which is
known once the log-probabilities are: so they are computed first, without a gradient, and the pass
that has one is that of any training, in micro-batches of any size. Both passes must agree, so
nothing is dropped out. The reference is the model that the run begins with: its log-probabilities
of every pair are computed before the first step and stored in OUTPUT/reference.safetensors, so that
no second model stays in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from unified.dataloading import Source
from unified.training.config import TrainConfig
from unified.training.decoder_trainer import DecoderTrainer
from unified.training.loss_factors import modality_factors
from unified.training.micro_batch import MicroBatch, make_micro_batch
from unified.training.preference_pairs import Pair, PreferencePairs
from unified_base.atomic import atomic_write
from unified_base.files import regular
from unified_base.training.checkpoint import Checkpoint
from unified_base.training.dist import DistContext
from unified_base.training.metric_logger import MetricLogger

__all__ = ["PreferenceTrainer", "preference_slopes"]

# Pairs of which the reference is worked out together.
_BLOCK = 16
_SUM = " sha256="


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


class PreferenceTrainer(DecoderTrainer):
    """A decoder whose training steps are of preference pairs."""

    data: PreferencePairs

    def __init__(self, config: TrainConfig, dist: DistContext, logger: MetricLogger) -> None:
        assert config.preferences is not None
        super().__init__(config, dist, logger)
        self.preferences = config.preferences
        self.module.routing = None  # the loss is of pairs alone
        module: Any
        for module in self.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "attention_dropout", None), float):
                module.attention_dropout = 0.0
        if self.preferences.pairs % dist.world:
            raise ValueError(
                f"{self.preferences.pairs} pairs a step do not divide among {dist.world} processes"
            )
        # Within a document the loss says which ids count, the factors how much of each modality.
        self.factors = modality_factors(self.preferences.modality_weights)

    def open_data(self, sources: Mapping[str, Source], checkpoint: Checkpoint | None) -> None:
        config, dist = self.config, self.dist
        self.data = PreferencePairs(
            sources, self.model.sequencer, config.seq_len, config.seed, dist.rank, dist.world,
            config.max_corrupt,
        )  # fmt: skip
        self._reference = self._references()
        corrupt = self._reference.isnan().any(1).nonzero()[:, 0]
        self.data.exclude(corrupt.tolist())
        if checkpoint is not None:
            self.data.load_state([rank["data"] for rank in checkpoint.ranks])

    def next_batch(self) -> list[MicroBatch]:
        self.reports, self.data.reports = self.data.reports, []
        self._pairs = self.data.take(self.preferences.pairs // self.dist.world)
        self._micro_batches = self._make_micro_batches(self._pairs)
        return [micro_batch for micro_batch, _ in self._micro_batches]

    def weight(self, micro_batches: list[MicroBatch]) -> float:
        """A step's loss is the mean over its pairs."""
        return float(len(self._pairs))

    def gradients(self, micro_batches: list[MicroBatch], total: float) -> tuple[Tensor, float]:
        policy = self._log_probabilities(self._micro_batches, len(self._pairs))
        reference = self._reference[[pair.number for pair in self._pairs]]
        losses, slopes, margins = preference_slopes(policy, reference, self.preferences.beta)
        # A document's log-probability is minus the sum of its weighted losses.
        factors = -slopes.flatten().float().to(self.dist.device)
        weighed = [
            batch.with_weights(batch.weights * factors[numbers][batch.document])
            for batch, numbers in self._micro_batches
        ]
        sums, norm = super().gradients(weighed, total)
        figures = torch.stack([losses, (margins > 0).double(), margins]).sum(1)
        means = torch.tensor(self.dist.sum(figures.tolist())) / total
        names = ("preference_loss", "preference_accuracy", "reward_margin")
        self.extra = {f"train/{name}": mean for name, mean in zip(names, means)}
        return sums, norm

    def _make_micro_batches(self, pairs: Sequence[Pair]) -> list[tuple[MicroBatch, Tensor]]:
        """Passes, and for each of their documents 2 * pair + (0 chosen, 1 rejected)."""
        micro_batches = []
        packed = iter(self.data.pack(pairs))
        while group := list(islice(packed, self.config.micro_batch_size)):
            sequences = [sequence for sequence, _ in group]
            micro_batch = make_micro_batch(sequences, self.factors, writes=self.module.writes)
            numbers = torch.tensor([number for _, indices in group for number in indices])
            device = self.dist.device
            micro_batches.append((micro_batch.to(device), numbers.to(device)))
        return micro_batches

    @torch.no_grad()
    def _log_probabilities(
        self, micro_batches: list[tuple[MicroBatch, Tensor]], pairs: int
    ) -> Tensor:
        """Of the chosen and the rejected document of each pair: float64 (pairs, 2)."""
        sums = torch.zeros(2 * pairs, dtype=torch.float64, device=self.dist.device)
        numbers_of = {id(batch): numbers for batch, numbers in micro_batches}
        for batch in self.even([batch for batch, _ in micro_batches]):
            outcome = self.module(batch)
            if id(batch) in numbers_of:
                weighted = (outcome.losses * batch.weights).double()
                sums.index_add_(0, numbers_of[id(batch)][batch.document], -weighted)
        return sums.view(pairs, 2).cpu()

    def _references(self) -> Tensor:
        """The reference's log-probabilities of every pair: float64 (pairs, 2), NaN if corrupt."""
        path = Path(self.config.output) / "reference.safetensors"
        purpose = self._purpose()
        reference = _read_reference(path, purpose)
        if reference is None and self.step:
            raise ValueError(
                f"{path}, made before the first step, is missing or of other pairs or settings; go"
                " on with what the run began with"
            )
        self.dist.barrier()
        if reference is None:
            reference = self._measure_all()
            if self.dist.is_main:
                # As bytes: the library would write a file of its own beside this one.
                # One entry: the library writes several in any order, and runs' files are equal.
                about = {"made_for": f"{purpose}{_SUM}{_digest(reference)}"}
                atomic_write(path, save({"reference": reference}, metadata=about))
            self.dist.barrier()
        return reference

    def _purpose(self) -> str:
        config, source = self.config, self.data.source
        entries = {
            "init_from": config.init_from
            if config.init_from is not None
            else f"random {config.seed}",
            "keys": self.data.digest,
            "loss": [source.loss, source.weight, source.media_loss],
            "modality_weights": dict(sorted(self.preferences.modality_weights.items())),
            "seq_len": config.seq_len,
        }
        return json.dumps(entries)

    def _measure_all(self) -> Tensor:
        """Every process measures a part of the pairs."""
        self.master_weights.copy_to_model()
        self.module.eval()
        pairs = self.data
        held = torch.zeros(pairs.num_pairs, 2, dtype=torch.float64)
        firsts = range(0, pairs.num_pairs, _BLOCK * self.dist.world)
        for block, first in enumerate(firsts):
            if block % 100 == 0:
                self.logger.info(f"reference: {first:,} of {pairs.num_pairs:,} pairs")
            first += _BLOCK * self.dist.rank
            readable: list[Pair] = []
            for number in range(first, min(first + _BLOCK, pairs.num_pairs)):
                try:
                    readable.append(pairs.read(number))
                except ValueError:  # counted when it is excluded
                    held[number] = torch.nan
            numbers = [pair.number for pair in readable]
            held[numbers] = self._log_probabilities(
                self._make_micro_batches(readable), len(readable)
            )
        self.module.train()
        held = torch.tensor(self.dist.sum(held.flatten().tolist()), dtype=torch.float64)
        return held.view(-1, 2)


def _read_reference(path: Path, purpose: str) -> Tensor | None:
    """The reference of a run with this purpose; None where there is none. ValueError if damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(regular(path, "reference"), "pt") as file:
            about, _, digest = file.metadata().get("made_for", "").partition(_SUM)
            if about != purpose:
                return None
            reference = file.get_tensor("reference")
    except (SafetensorError, OSError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); begin the run anew") from None
    if digest not in ("", _digest(reference)):
        raise ValueError(f"{path} is damaged (its checksum is another); begin the run anew")
    return reference


def _digest(reference: Tensor) -> str:
    return hashlib.sha256(reference.numpy().tobytes()).hexdigest()
