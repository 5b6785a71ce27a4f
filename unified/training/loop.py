"""Train a decoder from one configuration file.

    unified train configs/pocket/decoder.yaml [--resume]
    torchrun --nproc-per-node 8 -m unified train CONFIG

The order of the data and every random number depend on the seed and the step alone, so that a run
killed and resumed ends with the weights, bit for bit, of one never stopped. A step's loss is
divided by what all its positions count together, over all passes and processes: the gradient is
that of one large batch.
"""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from unified.dataloading.samples import find_shards
from unified.dataloading.source import leaves
from unified.formats.grammar import MODALITIES
from unified.training.checkpoint import Saved, read_saved
from unified.training.config import TrainConfig
from unified.training.export import export
from unified.training.journal import Journal
from unified.training.passes import Pass
from unified.training.processes import Processes
from unified.training.run import MARKS, Run
from unified_base.clock import Timer
from unified_base.disk import naming_full_disk, quiet_threads
from unified_base.locks import hold_folder
from unified_base.signals import StopSignals
from unified_tokenizers.checkpoint import RESUME, changed_settings, drop_old, remove_torn

__all__ = ["train"]


def train(config: TrainConfig, resume: bool = False) -> Path:
    """Run a training to its end; returns the folder of the finished model.

    Raises:
        ValueError: bad or missing data, a run that exists already (without `resume`), a checkpoint
            of another run, or an alarm that `alarms.stop` names.
    """
    found = Processes()
    try:
        return _begin(config, resume, found)
    finally:
        # What FSDP2 holds of the process group must be gone before it is left: its threads would
        # else end with the interpreter, which aborts.
        gc.collect()
        found.leave()


def _begin(config: TrainConfig, resume: bool, found: Processes) -> Path:
    output = Path(config.output)
    for sources in (config.sources, config.heldout):
        for _, source in leaves(sources):
            find_shards(source.shards)  # a wrong name is told before anything is loaded or written
    if found.world > 1 and config.rows // config.rows_at_once % found.world:
        raise ValueError(
            f"{config.rows} rows a step in passes of {config.rows_at_once} do not divide among"
            f" {found.world} processes; change rows or rows_at_once"
        )
    folder = output / "checkpoints"
    with (
        hold_folder(output) if found.first else nullcontext(),
        naming_full_disk(output, RESUME),
        quiet_threads(),
    ):
        torn = remove_torn(folder) if found.first else []
        found.wait()
        saved = read_saved(folder, found.rank, found.world)
        if saved is not None and not resume:
            raise ValueError(f"{output} holds a run already; go on with --resume or remove it")
        if found.first:  # one may have been killed before it did this
            drop_old(folder, config.keep)
        return _train(config, found, saved, torn)


def _train(config: TrainConfig, found: Processes, saved: Saved | None, torn: list[str]) -> Path:
    from unified.training.preference import PreferenceRun

    run = (Run if config.preferences is None else PreferenceRun)(config, found)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(config, saved.step if saved else 0, found.first))
        run.say = journal.say
        for name in torn:
            journal.say(f"{name} was not complete and has been removed")
        if saved is not None:
            run.restore(saved)
            for line in _changes(saved, config, found):
                journal.say(line)
        run.open_data(saved)
        stack.callback(run.loader.close)
        if found.first and (removed := run.watch.cut_back(run.step)):
            journal.say(
                f"alarms.jsonl: {removed} lines of steps after step {run.step}, or not complete,"
                " have been removed"
            )
        _loop(run, journal, stack.enter_context(StopSignals()))
        return export(config, found, run.trained_weights(), run.step, run.ids, run.measured)


def _changes(saved: Saved, config: TrainConfig, found: Processes) -> list[str]:
    """What is not as it was when the checkpoint was made."""
    said = [f"going on from step {saved.step}"]
    if not saved.compared:
        said.append(f"{saved.folder.name} was saved without checksums and has not been compared")
    if changed := changed_settings(saved.state["settings"], asdict(config)):
        said.append(f"with other settings: {changed}")
    before = len(saved.ranks)
    if before != found.world:
        said.append(
            f"{found.world} instead of {before} processes: model, optimizer and the order of the"
            f" data go on as they were, since both divide its {config.lanes} lanes; sums are"
            " rounded in another order"
        )
    return said


def _loop(run: Run, journal: Journal, signals: StopSignals) -> None:
    config, found = run.config, run.found
    sums, ids, began = torch.zeros(2, MARKS, dtype=torch.float64), 0.0, time.perf_counter()
    timer = Timer(config.save_minutes)
    while run.step < config.steps:
        passes = run.take_step()
        for report in run.reports:
            journal.say(f"skipped: {report}")
        weight, step_ids, missing, asked, due = found.total(
            [run.weight(passes), sum(p.num_ids for p in passes), run.missing > 0, signals.asked,
             found.first and timer.due]
        )  # fmt: skip
        # Of several processes all take part in a step, or none.
        if step_ids == 0 or (missing and found.world > 1):
            left = f"; {step_ids:.0f} ids are left over" if step_ids else ""
            journal.say(f"the data has ended after {run.step} steps{left}")
            _validate(run, journal)
            run.show_samples(journal)
            run.save()
            return
        done = _step(run, journal, passes, weight)
        run.ids += int(step_ids)
        sums, ids = sums + done.sums, ids + step_ids
        last = run.step == config.steps
        if run.step % config.log_every == 0 or last:
            speed = ids / (time.perf_counter() - began)
            _log(run, journal, _means(sums), done, speed)
            sums, ids, began = torch.zeros_like(sums), 0.0, time.perf_counter()
        if run.step % config.validate_every == 0 or last:
            _validate(run, journal)
            began = time.perf_counter()
        if config.samples is not None and (run.step % config.samples.every == 0 or last):
            run.show_samples(journal)
            began = time.perf_counter()
        if run.step % config.save_every == 0 or last or asked or due:
            run.save()
            timer.restart()
        if asked:
            journal.say(f"stopped at step {run.step}; go on with --resume")
            raise SystemExit(signals.exit_code)


@dataclass(frozen=True)
class _Step:
    """sums: of losses and their counts by modality, (2, M). Norms of gradient and output; rate."""

    sums: Tensor
    gradient_norm: float
    output_norm: float
    rate: float


def _step(run: Run, journal: Journal, passes: list[Pass], weight: float) -> _Step:
    """One optimizer step. Raises ValueError for an alarm that is to end the run."""
    found = run.found
    run.masters.hand_down()
    sums, output_norm = run.gradients(passes, weight)
    if not run.sharded:
        found.add_up(run.masters.parameters.values())
    norm = run.clip()
    *flat, output_norm = found.total([*sums.flatten().tolist(), output_norm / found.world])
    sums = torch.tensor(flat, dtype=torch.float64).view(2, MARKS)
    keys = [key for taken in passes for key in taken.keys]
    warm = run.step >= run.config.warmup
    alarms = run.watch.look(run.step + 1, _means(sums), norm, output_norm, keys, warm)
    for alarm in alarms:
        journal.say(str(alarm))
    if stopping := [alarm for alarm in alarms if alarm.stop]:
        run.forget()
        run.save()
        raise ValueError(
            f"{stopping[0]}. The checkpoint of step {run.step} is kept; alarms.jsonl has the"
            " samples' keys. Lower learning_rate or take the samples out"
        )
    rate = 0.0 if any(alarm.kind == "nan" for alarm in alarms) else run.update()
    run.forget()
    run.step += 1
    if run.average is not None:
        run.average.update(run.masters.parameters, run.step)
    return _Step(sums, norm, output_norm, rate)


def _means(sums: Tensor) -> dict[str, float]:
    """Mean losses by modality of sums and counts (2, M)."""
    return {
        name: float(sums[0, number] / sums[1, number])
        for name, number in MODALITIES.items()
        if sums[1, number] > 0
    }


def _log(run: Run, journal: Journal, means: dict[str, float], done: _Step, speed: float) -> None:
    figures = {f"train/{name}_loss": mean for name, mean in means.items()}
    figures |= {
        "train/gradient_norm": done.gradient_norm,
        "train/output_norm": done.output_norm,
        "train/ids_per_second": speed,
        "train/learning_rate": done.rate,
        "train/ids": float(run.ids),
    }
    figures |= {name: float(values.mean()) for name, values in run.extra.items()}
    for name, count in run.loader.counts.items():
        figures[f"data/{name}"] = float(count)
    shown = {name: mean for name, mean in means.items() if name != "marker"}
    shown |= {name.removeprefix("train/").replace("_", " "): figures[name] for name in run.extra}
    text = "".join(f"{name} {value:.3f}  " for name, value in shown.items())
    journal.figures(run.step, figures, f"{text}{speed:.0f} ids/s")


def _validate(run: Run, journal: Journal) -> None:
    with run.masters.holding(run.trained_weights()):
        found = run.heldout.measure(run.trainee, run.config.rows_at_once, run.even)
    run.measured |= found
    for name, value in found.items():
        journal.say(f"step {run.step}: held-out {name} {value:.3f}")
    if found:
        journal.figures(run.step, {f"heldout/{n}": v for n, v in found.items()})
