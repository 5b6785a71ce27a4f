"""A decoder in training: what a step does, and what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from unified.dataloading import Loader, PackedSequence, Source, prepare_sources
from unified.dataloading.compare import compare_shards, shards_of
from unified.formats.grammar import MODALITIES
from unified.models.grafting.layer_grafts import layer_graft_of
from unified.models.model import UnifiedModel
from unified.training.config import TrainConfig
from unified.training.embedded_batch import vectorizer_of
from unified.training.estimate import check_shape
from unified.training.initial_model import build_model
from unified.training.layer_modes import LayerModes
from unified.training.loss_factors import level_factors, modality_factors
from unified.training.loss_monitor import LossMonitor
from unified.training.micro_batch import MicroBatch, blank_micro_batch, make_micro_batch
from unified.training.optimizers import make_optimizers
from unified.training.random_state import random_state, restore_random_state
from unified.training.sample_logging import log_samples, read_requests
from unified.training.several_ids import DepthSubset
from unified.training.step import Amount, StepFigures, amount_of, logged, step_figures
from unified.training.train_module import TrainModule, check_head, layers_of, recompute_activations
from unified.training.validation import Validation
from unified.training.weights import MasterWeights, choose_trained
from unified.training.worlds import tasks_of_world
from unified_base.text import counted
from unified_base.training.checkpoint import Checkpoint
from unified_base.training.dist import DistContext, shard
from unified_base.training.ema import EMA
from unified_base.training.loop import AlarmError, Trainer
from unified_base.training.memory import keep_freed_memory
from unified_base.training.metric_logger import MetricLogger
from unified_base.training.optimizer_state import load_optimizer_state, optimizer_tensors, set_lr
from unified_base.training.schedule import lr_ratio

__all__ = ["DecoderTrainer"]


class _Data(Protocol):
    """What a trainer needs of its data, beside taking from it: `Loader`, `PreferencePairs`."""

    @property
    def counts(self) -> Mapping[str, int]: ...
    def state(self) -> dict[str, Any]: ...
    def close(self) -> None: ...


class DecoderTrainer(Trainer):
    """A decoder in training: everything that a checkpoint holds.

    What a step trains on and how its loss is made is a subclass's to say (see `preference`).
    """

    data: _Data

    def __init__(self, config: TrainConfig, dist: DistContext, logger: MetricLogger) -> None:
        super().__init__(dist, logger)
        self.config = config
        self._requests = read_requests(config.samples)
        torch.set_num_threads(config.threads)
        keep_freed_memory()
        self.model: UnifiedModel = build_model(config)
        self.tasks = self.model.tasks if config.world is None else tasks_of_world(config.world)
        decoder = self.model.hf.to(dist.device)
        layers = layers_of(decoder, config.parallel == "fsdp" or config.compile is True)
        check_shape(config, decoder.config.to_dict())
        check_head(decoder)
        rows, embeds = self.model.vocabulary.text_rows, self.model.embedders
        choose_trained(decoder, config.train, rows, asdict(config.lora), embeds)
        if config.activation_checkpointing:
            recompute_activations(decoder)
        vectors, router_loss = vectorizer_of(embeds, dist.device), config.router_loss
        options = config.attention, config.z_loss, router_loss, vectors
        self.module = TrainModule(decoder, *options, bool(self.model.grammar.format.bidirectional))
        self.sharded = config.parallel == "fsdp" and dist.world > 1
        if self.sharded:
            shard(self.module, layers, config.precision, dist)
        self.master_weights = MasterWeights(self.module, config.precision, self.sharded)
        fusible = self.module.by_documents and not self.sharded and not layer_graft_of(decoder)
        self.layers = LayerModes(decoder, layers, fusible, config.compile)
        parameters = self.master_weights.parameters
        self.optimizers = make_optimizers(config.optimizer, parameters)
        self.ema = None
        if config.ema_decay is not None:
            copies = {name: p.detach().clone() for name, p in parameters.items()}
            self.ema = EMA(copies, config.ema_decay)
        self.factors = modality_factors(config.modality_weights)
        self._id_factors = level_factors(config.level_weights, self.model.grammar)
        self._depth_subset = DepthSubset.of(config.depth_fraction, config.seed)
        self.monitor = LossMonitor(config.alarms, Path(config.output), dist.rank)
        self.trained_on = Amount()
        self.reports: list[str] = []
        self.steps_without_loss = 0  # their batches had nothing to learn from
        self.missing = 0  # sequences that the last step had too few of, since the data ended
        self.extra: dict[str, Tensor] = {}
        self._since_log = StepFigures.empty()
        # Dropout of adapters differs between processes; the weights were made before.
        torch.manual_seed(config.seed + 1 + dist.rank)

    # The data.

    def open(self, checkpoint: Checkpoint | None) -> None:
        """Sources to codes, codes to sequences; at the position of a checkpoint."""
        config, dist = self.config, self.dist
        folder = Path(config.output) / "codes"
        prepared: list[dict[str, Source]] = []
        for main in (True, False):  # the main process tokenizes, the others find it done
            if dist.is_main is main:
                live, tell = config.features == "live", self.logger.info
                prepared = [
                    prepare_sources(s, self.model.sequencer, folder, config.threads, tell, live)
                    for s in (config.sources, config.validation)
                ]
            dist.barrier()
        for lines in dist.gather(compare_shards(shards_of(*prepared)[dist.rank :: dist.world])):
            for line in lines:
                self.logger.info(line)
        self.open_data(prepared[0], checkpoint)
        self.validation = Validation(
            prepared[1], self.model.sequencer, config.seq_len, config.validation_documents, dist,
            self.tasks,
        )  # fmt: skip
        skipped = self._skip_alarm(checkpoint)
        if dist.is_main:
            removed = self.monitor.truncate_log(self.step + skipped)
            if removed:
                self.logger.info(
                    f"alarms.jsonl: {removed} lines of steps after step {self.step}, or not"
                    " complete, have been removed"
                )
        self._mark()

    def open_data(self, sources: Mapping[str, Source], checkpoint: Checkpoint | None) -> None:
        """Open the sources, whose shards hold codes."""
        config, dist = self.config, self.dist
        loader = Loader(
            sources, self.model.sequencer, config.seq_len, config.streams, config.seed,
            dist.rank, dist.world, config.workers, config.max_corrupt, self.tasks,
        )  # fmt: skip
        if checkpoint is not None:
            for warning in loader.load_state([rank["data"] for rank in checkpoint.ranks]):
                self.logger.info(warning)
        self.data = loader
        self._sequences = iter(loader)

    def _skip_alarm(self, checkpoint: Checkpoint | None) -> bool:
        """Drop the batch of the step that an alarm stopped the run at, where that is asked for."""
        stopped = checkpoint is not None and checkpoint.state.get("stopped_by_alarm")
        if not stopped or not self.config.alarms.skip_on_resume:
            return False
        self.next_batch()
        self.logger.info(
            f"the batch that raised an alarm at step {self.step + 1} is skipped"
            " (alarms.skip_on_resume)"
        )
        return True

    def close(self) -> None:
        if hasattr(self, "data"):
            self.data.close()

    # A step.

    def next_batch(self) -> list[MicroBatch]:
        """What this process does in the next step; nothing where the data has ended."""
        wanted = self.config.global_batch_size // self.dist.world
        sequences: list[PackedSequence] = list(islice(self._sequences, wanted))
        self.missing = wanted - len(sequences)
        self.reports = [report for sequence in sequences for report in sequence.reports]
        size, device = self.config.micro_batch_size, self.dist.device
        factors = (self.factors, self._id_factors, self._depth_subset, self.module.writes)
        return [
            make_micro_batch(sequences[i : i + size], *factors).to(device)
            for i in range(0, len(sequences), size)
        ]

    def weight(self, micro_batches: list[MicroBatch]) -> float:
        """What this process's part of a step counts."""
        return sum(micro_batch.weight for micro_batch in micro_batches)

    def train_step(self) -> bool:
        dist = self.dist
        self._stopped_by_alarm = False
        micro_batches = self.next_batch()
        for report in self.reports:
            self.logger.info(f"skipped: {report}")
        weight, missing, *amount = dist.sum(
            [self.weight(micro_batches), self.missing > 0, *amount_of(micro_batches)]
        )
        trained_on = Amount(*map(int, amount))
        # Of several processes all take part in a step, or none.
        if trained_on.ids == 0 or (missing and dist.world > 1):
            left = f"; ids left over: {trained_on.ids}" if trained_on.ids else ""
            self.logger.info(f"the data has ended after {counted(self.step, 'step')}{left}")
            self._mark()
            return False
        if weight == 0:
            self._skip_step(trained_on)
            return True
        self.master_weights.copy_to_model()
        if self.layers.compiled is None:
            self._choose_layers(micro_batches)
        sums, output_norm = self.gradients(micro_batches, weight)
        if not self.sharded:
            dist.sum_gradients(self.master_weights.parameters.values())
        figures = step_figures(sums, output_norm, self._clip_gradients(), trained_on, dist)
        lr = self.config.optimizer.lr * lr_ratio(self.config.schedule, self.step, self.config.steps)
        if self._alarm(figures, micro_batches):
            lr = 0.0  # a step that is no number changes nothing
        else:
            set_lr(self.optimizers, lr)
            for optimizer in self.optimizers.values():
                optimizer.step()
        self._zero_gradients()
        self.step += 1
        self.trained_on = self.trained_on.plus(trained_on)
        if self.ema is not None:
            self.ema.update(self.master_weights.parameters, self.step)
        self._since_log = self._since_log.plus(figures, lr)
        self._mark()
        return True

    def _choose_layers(self, micro_batches: list[MicroBatch]) -> None:
        """Measure whether torch.compile is worth its time, once in a run."""

        def run() -> None:
            self.module(micro_batches[0]).total.backward()
            self.module.zero_grad(set_to_none=True)

        left = (self.config.steps - self.step) * len(micro_batches)
        self.logger.info(self.layers.choose(run, left, self.dist))

    def _skip_step(self, trained_on: Amount) -> None:
        """A step whose batch has no position with loss, in no process: there is no mean to take the
        gradient of. It counts as a step, and changes no weight and no optimizer."""
        self.steps_without_loss += 1
        self.step += 1
        self.trained_on = self.trained_on.plus(trained_on)
        self.logger.info(
            f"step {self.step} changed nothing: none of its {trained_on.ids:,} ids has a loss"
            f" ({counted(self.steps_without_loss, 'such step')} so far); give some of the segments"
            " a loss above 0, or leave these documents out"
        )
        self._since_log = self._since_log.plus(StepFigures.empty(trained_on), 0.0)
        self._mark()

    def even(self, micro_batches: list[MicroBatch]) -> list[MicroBatch]:
        """As many in every process, where FSDP2 does each in all of them together."""
        if not self.sharded:
            return micro_batches
        missing = self.dist.max([len(micro_batches)])[0] - len(micro_batches)
        blank = blank_micro_batch(self.config.seq_len).to(self.dist.device)
        return micro_batches + [blank] * missing

    def gradients(self, micro_batches: list[MicroBatch], total: float) -> tuple[Tensor, float]:
        """Accumulate the gradients of (loss / total) over micro-batches.

        Returns:
            Sums and counts of losses by modality, float64 (2, M), and the mean output norm.
        """
        sums = torch.zeros(2, len(MODALITIES), dtype=torch.float64)
        norms = []
        # FSDP2 divides the sum over processes by their number.
        share = (self.dist.world if self.sharded else 1) / total
        for micro_batch in self.even(micro_batches):
            outcome = self.module(micro_batch)
            (outcome.total * share).backward()
            self.master_weights.accumulate_grads()
            sums += torch.stack(outcome.by_modality(micro_batch)).cpu()
            if micro_batch.num_ids:
                norms.append(float(outcome.output_norm))
        return sums, float(np.mean(norms)) if norms else 0.0

    def _clip_gradients(self) -> float:
        """Clip the gradients; returns their norm before."""
        norm: Any = nn.utils.clip_grad_norm_(
            self.master_weights.parameters.values(), self.config.optimizer.max_grad_norm
        )  # a DTensor where sharded
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def _zero_gradients(self) -> None:
        for parameter in self.master_weights.parameters.values():
            parameter.grad = None

    def _alarm(self, figures: StepFigures, micro_batches: list[MicroBatch]) -> bool:
        """Whether the step must change nothing, since one of its figures is no number.

        Raises:
            AlarmError: an alarm is to end the run.
        """
        keys = [key for micro_batch in micro_batches for key in micro_batch.keys]
        warm = self.step >= self.config.schedule.warmup_steps
        alarms = self.monitor.check(
            self.step + 1, figures.losses, figures.gradient_norm, figures.output_norm,
            keys, warm,
        )  # fmt: skip
        for alarm in alarms:
            self.logger.info(str(alarm))
        if stopping := [alarm for alarm in alarms if alarm.stop]:
            self._zero_gradients()
            self._stopped_by_alarm = True
            raise AlarmError(
                f"{stopping[0]}. The checkpoint of step {self.step} is kept, with the data at the"
                " batch of this step; alarms.jsonl has the samples' keys. Lower optimizer.lr, take"
                " the samples out, or resume with alarms.skip_on_resume=true"
            )
        return any(alarm.kind == "nan" for alarm in alarms)

    # What is logged.

    def metrics(self, seconds: float) -> tuple[dict[str, float], str]:
        since, self._since_log = self._since_log, StepFigures.empty()
        counts = {
            "train/ids": float(self.trained_on.ids),
            "train/positions": float(self.trained_on.positions),
            "train/steps_without_loss": float(self.steps_without_loss),
            **{f"data/{name}": float(count) for name, count in self.data.counts.items()},
        }
        extra = {n: float(v.mean()) for n, v in (self.module.figures() | self.extra).items()}
        return logged(since, seconds, extra, counts)

    def validate(self) -> dict[str, float]:
        with self.master_weights.swapped_for(self.averaged_weights()):
            return self.validation.measure(self.module, self.config.micro_batch_size, self.even)

    def log_samples(self, last: bool) -> None:
        """Fill the documents of `samples`, if there are any and their step has come."""
        samples = self.config.samples
        if samples is not None and self._requests and (last or self.step % samples.every == 0):
            weights = self.averaged_weights()
            log_samples(self.config, self.dist, weights, self._requests, self.logger, self.step)

    def averaged_weights(self) -> Mapping[str, Tensor]:
        """What is measured and saved: the moving average where there is one."""
        return self.master_weights.parameters if self.ema is None else self.ema.values

    # Checkpoints.

    def _mark(self) -> None:
        """Note what the next step depends on beside tensors: an alarm goes back to here."""
        random = random_state(self.dist.device)
        self._local_state = {"data": self.data.state(), "random": random}
        self._monitor_state = self.monitor.state()

    def tensors(self) -> dict[str, Tensor]:
        parameters = self.master_weights.parameters
        tensors: dict[str, Tensor] = {f"weights/{n}": p for n, p in parameters.items()}
        if self.ema is not None:
            tensors |= {f"ema/{n}": v for n, v in self.ema.values.items()}
        state = optimizer_tensors(self.optimizers, parameters)
        return {**tensors, **{f"optimizer/{n}": v for n, v in state.items()}}

    def state(self) -> dict[str, Any]:
        return {
            **self.trained_on._asdict(),
            "compiled": self.layers.compiled,
            "monitor": self._monitor_state,
            "stopped_by_alarm": self._stopped_by_alarm,
            "steps_without_loss": self.steps_without_loss,
        }

    def local_state(self) -> dict[str, Any]:
        return self._local_state

    def restore(self, checkpoint: Checkpoint) -> None:
        """Weights, averages, optimizers, counters; the data is `open`'s."""
        parameters = self.master_weights.parameters
        stored = set(checkpoint.names("weights/"))
        if stored != set(parameters):
            odd = sorted(stored ^ set(parameters))[0]
            raise ValueError(
                f"the checkpoint {checkpoint.folder} and the configuration train other parameters,"
                f" among them {odd}; go on with the settings it was made with"
            )
        for name, parameter in parameters.items():
            checkpoint.put(f"weights/{name}", parameter)
        if self.ema is not None:
            for name, value in self.ema.values.items():
                averaged = f"ema/{name}"
                checkpoint.put(averaged if checkpoint.names(averaged) else f"weights/{name}", value)
        load_optimizer_state(self.optimizers, parameters, checkpoint, "optimizer/")
        self.master_weights.copy_to_model()
        self.layers.restore(checkpoint.state.get("compiled"))
        ids = int(checkpoint.state["ids"])
        self.trained_on = Amount(int(checkpoint.state.get("positions", ids)), ids)
        self.steps_without_loss = int(checkpoint.state.get("steps_without_loss", 0))
        self.monitor.load_state(checkpoint.state["monitor"])
        if len(checkpoint.ranks) == self.dist.world:
            restore_random_state(checkpoint.ranks[self.dist.rank]["random"], self.dist.device)
