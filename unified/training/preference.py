"""Direct preference optimisation (DPO, arXiv:2305.18290) of documents of any modality.

The log-probability of a document is the sum over its ids that count, each modality with a weight of
its own. Its gradient is that of the cross-entropy with one factor for the whole document, which is
known once the log-probabilities are: so they are worked out first, without a gradient, and the pass
that has one is that of any training, in pieces of any number. Both passes must agree, so nothing is
dropped out. What the reference, which is the model that the run begins with, makes of every pair is
worked out before the first step and kept in OUTPUT/reference.safetensors: no second model stays in
memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from unified.training.checkpoint import Saved
from unified.training.config import TrainConfig
from unified.training.pairs import Pair, Pairs
from unified.training.passes import Pass, make_pass, modality_factors
from unified.training.processes import Processes
from unified.training.run import Run
from unified_base.atomic import atomic_write
from unified_base.files import regular

__all__ = ["PreferenceRun", "preference_slopes"]

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


class PreferenceRun(Run):
    """A run whose steps are of preference pairs."""

    def __init__(self, config: TrainConfig, found: Processes) -> None:
        assert config.preferences is not None
        super().__init__(config, found)
        self.preferences = config.preferences
        module: Any
        for module in self.trainee.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "attention_dropout", None), float):
                module.attention_dropout = 0.0
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
        broken = self._reference.isnan().any(1).nonzero()[:, 0]
        self.loader.leave_out(broken.tolist())
        if saved is not None:
            self.loader.load_state([rank["data"] for rank in saved.ranks])

    def take_step(self) -> list[Pass]:
        self.reports, self.loader.reports = self.loader.reports, []
        self._pairs = self.loader.take(self.preferences.pairs // self.found.world)
        self._passes = self._make_passes(self._pairs)
        return [taken for taken, _ in self._passes]

    def weight(self, passes: list[Pass]) -> float:
        """A step's loss is the mean over its pairs."""
        return float(len(self._pairs))

    def gradients(self, passes: list[Pass], total: float) -> tuple[Tensor, float]:
        policy = self._log_probabilities(self._passes, len(self._pairs))
        reference = self._reference[[pair.number for pair in self._pairs]]
        losses, slopes, margins = preference_slopes(policy, reference, self.preferences.beta)
        # A document's log-probability is minus the sum of its weighted losses.
        factors = -slopes.flatten().float().to(self.found.device)
        weighed = [
            taken.weighed(taken.weights * factors[numbers][taken.document])
            for taken, numbers in self._passes
        ]
        sums, norm = super().gradients(weighed, total)
        figures = torch.stack([losses, (margins > 0).double(), margins]).sum(1)
        means = torch.tensor(self.found.total(figures.tolist())) / total
        names = ("preference_loss", "preference_accuracy", "reward_margin")
        self.extra = {f"train/{name}": mean for name, mean in zip(names, means)}
        return sums, norm

    def _make_passes(self, pairs: Sequence[Pair]) -> list[tuple[Pass, Tensor]]:
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
        numbers_of = {id(taken): numbers for taken, numbers in passes}
        for taken in self.even([taken for taken, _ in passes]):
            outcome = self.trainee(taken)
            if id(taken) in numbers_of:
                weighted = (outcome.losses * taken.weights).double()
                found.index_add_(0, numbers_of[id(taken)][taken.document], -weighted)
        return found.view(pairs, 2).cpu()

    def _references(self) -> Tensor:
        """What the model to begin with makes of every pair: float64 (pairs, 2), NaN if broken."""
        path = Path(self.config.output) / "reference.safetensors"
        made_for = self._made_for()
        found = _read_reference(path, made_for)
        if found is None and self.step:
            raise ValueError(
                f"{path}, made before the first step, is missing or of other pairs or settings; go"
                " on with what the run began with"
            )
        self.found.wait()
        if found is None:
            found = self._measure_all()
            if self.found.first:
                # As bytes: the library would write a file of its own beside this one.
                # One entry: the library writes several in any order, and runs' files are equal.
                about = {"made_for": f"{made_for}{_SUM}{_digest(found)}"}
                atomic_write(path, save({"reference": found}, metadata=about))
            self.found.wait()
        return found

    def _made_for(self) -> str:
        config, source = self.config, self.loader.source
        entries = {
            "start": config.start if config.start is not None else f"random {config.seed}",
            "keys": self.loader.digest,
            "loss": [source.loss, source.weight, source.media_loss],
            "modality_weights": dict(sorted(self.preferences.modality_weights.items())),
            "length": config.length,
        }
        return json.dumps(entries)

    def _measure_all(self) -> Tensor:
        """Every process measures a part of the pairs."""
        self.masters.hand_down()
        self.trainee.eval()
        pairs: Pairs = self.loader
        held = torch.zeros(pairs.num_found, 2, dtype=torch.float64)
        firsts = range(0, pairs.num_found, _BLOCK * self.found.world)
        for turn, first in enumerate(firsts):
            if turn % 100 == 0:
                self.say(f"reference: {first:,} of {pairs.num_found:,} pairs")
            first += _BLOCK * self.found.rank
            some: list[Pair] = []
            for number in range(first, min(first + _BLOCK, pairs.num_found)):
                try:
                    some.append(pairs.read(number))
                except ValueError:  # counted when it is left out
                    held[number] = torch.nan
            numbers = [pair.number for pair in some]
            held[numbers] = self._log_probabilities(self._make_passes(some), len(some))
        self.trainee.train()
        held = torch.tensor(self.found.total(held.flatten().tolist()), dtype=torch.float64)
        return held.view(-1, 2)


def _read_reference(path: Path, made_for: str) -> Tensor | None:
    """A reference that was made for this; None where there is none. ValueError if damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(regular(path, "reference"), "pt") as file:
            about, _, digest = file.metadata().get("made_for", "").partition(_SUM)
            if about != made_for:
                return None
            reference = file.get_tensor("reference")
    except (SafetensorError, OSError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); begin the run anew") from None
    if digest not in ("", _digest(reference)):
        raise ValueError(f"{path} is damaged (its checksum is another); begin the run anew")
    return reference


def _digest(reference: Tensor) -> str:
    return hashlib.sha256(reference.numpy().tobytes()).hexdigest()
