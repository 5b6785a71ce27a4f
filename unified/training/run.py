"""A model on its way through a training: what a step does, and what a checkpoint holds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unified.dataloading import Loader, Row, Source, prepare_sources
from unified.dataloading.compare import compare_shards, shards_of
from unified.formats.grammar import MODALITIES
from unified.models.model import UnifiedModel
from unified.training.checkpoint import Saved, save
from unified.training.config import TrainConfig
from unified.training.journal import Journal
from unified.training.optimizers import load_state, make_optimizers, rate, set_rate, state_tensors
from unified.training.passes import Pass, blank_pass, make_pass, modality_factors
from unified.training.plan import check_shape
from unified.training.processes import Processes, shard
from unified.training.samples import read_requests, show_samples
from unified.training.start import build_model
from unified.training.trainee import Trainee, check_head, layers_of, recompute_activations
from unified.training.validation import HeldOut
from unified.training.watch import Watch
from unified.training.weights import Average, Masters, choose_trained
from unified_tokenizers.memory import keep_freed_memory

__all__ = ["MARKS", "Run"]

MARKS = len(MODALITIES)


class Run:
    """A model on its way through a training: everything that a checkpoint holds.

    What a step trains on and how its loss is made is a subclass's to say (see `preference`).
    """

    def __init__(self, config: TrainConfig, found: Processes) -> None:
        self.config = config
        self.found = found
        self._requests = read_requests(config.samples)
        torch.set_num_threads(config.threads)
        keep_freed_memory()
        self.model: UnifiedModel = build_model(config)
        decoder = self.model.hf.to(found.device)
        check_shape(config, decoder.config.to_dict())
        check_head(decoder)
        choose_trained(decoder, config.train, self.model.vocabulary.text_rows, asdict(config.lora))
        if config.activation_checkpointing:
            recompute_activations(decoder)
        self.trainee = Trainee(decoder, config.attention, config.z_loss)
        self.trainee.train()
        self.sharded = config.parallel == "fsdp" and found.world > 1
        if self.sharded:
            shard(self.trainee, layers_of(decoder), config.precision, found)
        self.masters = Masters(self.trainee, config.precision, self.sharded)
        if config.compile:
            for layer in layers_of(decoder):
                layer.compile()
        self.optimizers = make_optimizers(
            config.optimizer, self.masters.parameters, config.learning_rate, config.betas,
            config.weight_decay,
        )  # fmt: skip
        self.average = None
        if config.ema is not None:
            self.average = Average(self.masters.parameters, config.ema)
        self.factors = modality_factors(config.modality_weights)
        self.watch = Watch(config.alarms, Path(config.output), found.rank)
        self.step = 0
        self.ids = 0
        self.measured: dict[str, float] = {}
        self.reports: list[str] = []
        self.missing = 0  # rows that the last step had too few of, since the data ended
        self.say: Callable[[str], None] = lambda line: None
        self.extra: dict[str, Tensor] = {}
        # Dropout of adapters differs between processes; the weights were made before.
        torch.manual_seed(config.seed + 1 + found.rank)

    # What a step is made of.

    def open_data(self, saved: Saved | None) -> None:
        """Sources to codes, codes to rows; at the place where `saved` was."""
        config, found = self.config, self.found
        folder = Path(config.output) / "codes"
        prepared: list[dict[str, Any]] = []
        for turn in (True, False):  # the first process tokenizes, the others find it done
            if found.first is turn:
                prepared = [
                    prepare_sources(sources, self.model.sequencer, folder, report=self.say)
                    for sources in (config.sources, config.heldout)
                ]
            found.wait()
        mine = shards_of(*prepared)[found.rank :: found.world]
        for lines in found.gather(compare_shards(mine)):
            for line in lines:
                self.say(line)
        self.open_loader(prepared[0], saved)
        self.heldout = HeldOut(
            prepared[1], self.model.sequencer, config.length, config.heldout_documents, found
        )

    def open_loader(self, sources: Mapping[str, Source], saved: Saved | None) -> None:
        config, found = self.config, self.found
        self.loader: Any = Loader(
            sources, self.model.sequencer, config.length, config.lanes, config.seed,
            found.rank, found.world, config.workers, config.max_broken,
        )  # fmt: skip
        if saved is not None:
            self.loader.load_state([rank["data"] for rank in saved.ranks])
        self._rows = iter(self.loader)

    def take_step(self) -> list[Pass]:
        """What this process does in the next step; nothing where the data has ended."""
        wanted = self.config.rows // self.found.world
        rows: list[Row] = list(islice(self._rows, wanted))
        self.missing = wanted - len(rows)
        self.reports = [report for row in rows for report in row.reports]
        at_once = self.config.rows_at_once
        return [
            make_pass(rows[i : i + at_once], self.factors).to(self.found.device)
            for i in range(0, len(rows), at_once)
        ]

    def weight(self, passes: list[Pass]) -> float:
        """What this process's part of a step counts."""
        return sum(taken.weight for taken in passes)

    def even(self, passes: list[Pass]) -> list[Pass]:
        """As many passes in every process, where FSDP2 does each in all of them together."""
        if not self.sharded:
            return passes
        missing = self.found.greatest(len(passes)) - len(passes)
        return passes + [blank_pass(self.config.length).to(self.found.device)] * missing

    def gradients(self, passes: list[Pass], total: float) -> tuple[Tensor, float]:
        """Add up the gradients of (loss / total) over passes.

        Returns sums and counts of losses by modality, float64 (2, M), and the output norm.
        """
        sums = torch.zeros(2, MARKS, dtype=torch.float64)
        norms = []
        # FSDP2 divides the sum over processes by their number.
        share = (self.found.world if self.sharded else 1) / total
        for taken in self.even(passes):
            outcome = self.trainee(taken)
            (outcome.total * share).backward()
            self.masters.collect()
            sums += torch.stack(outcome.by_modality(taken)).cpu()
            if taken.num_ids:
                norms.append(float(outcome.output_norm))
        return sums, float(np.mean(norms)) if norms else 0.0

    def clip(self) -> float:
        """Clip the gradients to `clip`; returns their norm before."""
        norm: Any = nn.utils.clip_grad_norm_(self.masters.parameters.values(), self.config.clip)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def update(self) -> float:
        """One step of the optimizers; returns the learning rate it had."""
        config = self.config
        value = rate(
            config.schedule, self.step, config.steps, config.learning_rate, config.warmup,
            config.cooldown, config.final_rate,
        )  # fmt: skip
        set_rate(self.optimizers, value)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return value

    def forget(self) -> None:
        for parameter in self.masters.parameters.values():
            parameter.grad = None

    # Checkpoints.

    def tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {f"weights/{n}": p for n, p in self.masters.parameters.items()}
        if self.average is not None:
            found |= {f"average/{n}": v for n, v in self.average.values.items()}
        state = state_tensors(self.optimizers, self.masters.parameters)
        return {**found, **{f"optimizer/{n}": v for n, v in state.items()}}

    def save(self) -> None:
        state = {
            "settings": asdict(self.config), "ids": self.ids, "watch": self.watch.state(),
            "measured": self.measured,
        }  # fmt: skip
        rank_state = {
            "data": self.loader.state(),
            "random": base64.b64encode(torch.get_rng_state().numpy().tobytes()).decode(),
        }
        save(
            Path(self.config.output) / "checkpoints", self.step, self.found, self.tensors(), state,
            rank_state, self.sharded, self.config.keep,
        )  # fmt: skip

    def restore(self, saved: Saved) -> None:
        """Weights, averages, optimizers, counters; the data is `open_data`'s."""
        kept = set(saved.names("weights/"))
        if kept != set(self.masters.parameters):
            odd = sorted(kept ^ set(self.masters.parameters))[0]
            raise ValueError(
                f"the checkpoint {saved.folder} and the configuration train other parameters, among"
                f" them {odd}; go on with the settings it was made with"
            )
        for name, parameter in self.masters.parameters.items():
            saved.put(f"weights/{name}", parameter)
        if self.average is not None:
            for name, value in self.average.values.items():
                known = f"average/{name}"
                saved.put(known if saved.names(known) else f"weights/{name}", value)
        load_state(self.optimizers, self.masters.parameters, saved, "optimizer/")
        self.masters.hand_down()
        self.step, self.ids = saved.step, int(saved.state["ids"])
        self.measured = dict(saved.state["measured"])
        self.watch.load_state(saved.state["watch"])
        if len(saved.ranks) == self.found.world:
            random = base64.b64decode(saved.ranks[self.found.rank]["random"])
            torch.set_rng_state(torch.from_numpy(np.frombuffer(random, np.uint8).copy()))

    def show_samples(self, journal: Journal) -> None:
        """Fill the documents of `samples`, if there are any."""
        if self._requests:
            weights = self.trained_weights()
            show_samples(self.config, self.found, weights, self._requests, journal, self.step)

    def trained_weights(self) -> Mapping[str, Tensor]:
        """What is measured and saved: the average where there is one."""
        return self.masters.parameters if self.average is None else self.average.values
