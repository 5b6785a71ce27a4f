"""Train a unified model from one configuration file.

    unified train configs/pocket/decoder.yaml [--resume]

Shards are tokenized once and kept as ids; a step is a fixed number of ids drawn from the sources
in fixed shares, planned from the seed before the first step, so that a resumed run sees what the
stopped one would have seen. The loss at each position is a softmax over the ids that the grammar
allows there. Matrices inside the layers take Muon (arXiv:2502.16982), everything else AdamW.

Legend: N rows, L sequence, D width, P positions with loss, V vocabulary.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from unified.grammar import MODALITIES
from unified.model import UnifiedModel
from unified.new_model import begin_with
from unified.subjects import KnownSubjects
from unified.text import TextTokenizer
from unified.training_data import (
    Batch,
    Examples,
    Source,
    find_shards,
    load_examples,
    plan_steps,
    rows,
    share_ranges,
    weigh,
)
from unified_data.document import Text
from unified_data.pocket.subjects import load_subjects
from unified_data.shards import read_shards
from unified_tokenizers import load_tokenizer
from unified_tokenizers.checkpoint import (
    changed_settings,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from unified_tokenizers.run_file import read_run

__all__ = ["DecoderTraining", "load_config", "main", "range_loss", "train"]


@dataclass(frozen=True)
class DecoderTraining:
    """One training run, as its YAML file states it.

    Attributes:
        output: folder for checkpoints, curves and the finished model.
        sources, heldout: what is trained on and what is only measured, by name.
        image_tokenizer, audio_tokenizer: folders of trained tokenizers.
        format: name of a shipped format, or a path.
        text_size: ids of the text tokenizer, learnt from the sources' text.
        max_grid: largest side of a picture in codes.
        model: the decoder's shape, in Hugging Face's Qwen3 words.
        steps, ids_per_step: optimizer steps; ids (without padding) in each.
        learning_rate: peak; warmed up over `warmup` steps, constant, then linear to zero over
            the last `cooldown` share of the run.
        modality_weights: factors on the loss of each modality's ids.
        padded_ids: places of one forward pass; bounds memory.
        start: a model's folder, or `pocket`, whose text tokenizer and decoder to begin with.
        fresh: `image`, `audio` or both: their rows begin anew, since their tokenizer's codes are
            not those of `start`. So do rows of codebooks that it has not, or of another size.
        world: `pocket` puts the list of that world's subjects into the model's folder, so that the
            commands can say what the model knows.
    """

    output: str
    sources: dict[str, Source]
    heldout: dict[str, Source]
    image_tokenizer: str
    audio_tokenizer: str
    model: dict[str, Any]
    steps: int
    ids_per_step: int
    learning_rate: float
    format: str = "pocket"
    text_size: int = 4096
    max_grid: int = 64
    warmup: int = 100
    cooldown: float = 0.5
    weight_decay: float = 0.01
    clip: float = 1.0
    modality_weights: dict[str, float] = field(default_factory=dict)
    padded_ids: int = 4096
    seed: int = 0
    log_every: int = 20
    save_every: int = 200
    threads: int = 2
    store: str = "bfloat16"
    start: str | None = None
    fresh: tuple[str, ...] = ()
    world: str | None = None


def load_config(path: Path) -> DecoderTraining:
    """Read a run's file. Raises ValueError for unknown, missing or misspelt entries."""
    entries = read_run(path, DecoderTraining)
    try:
        for name in ("sources", "heldout"):
            entries[name] = {key: Source(**value) for key, value in entries[name].items()}
        entries["fresh"] = tuple(entries.get("fresh") or ())
        config = DecoderTraining(**entries)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path}: sources and heldout are names with shards: {error}") from None
    if config.world not in (None, "pocket"):
        raise ValueError(f"{path}: world {config.world!r}, expected 'pocket' or none")
    if not set(config.fresh) <= {"image", "audio"} or (config.fresh and config.start is None):
        raise ValueError(
            f"{path}: fresh is {list(config.fresh)} and start {config.start!r}, expected image,"
            " audio or both, and a model to start with"
        )
    if unknown := set(config.modality_weights) - set(MODALITIES):
        raise ValueError(f"{path}: unknown modalities {sorted(unknown)}, expected {[*MODALITIES]}")
    return config


def range_loss(
    features_PD: Tensor, head_VD: Tensor, targets: Tensor, allowed: Tensor, table: Sequence[Any]
) -> Tensor:
    """Cross-entropy of each target among the ids allowed at its position: float32 (P,).

    Args:
        features_PD: what the decoder gives before its head.
        head_VD: the head's rows.
        targets: int64 (P,), ids that lie within their position's ranges.
        allowed: int64 (P,), index into `table`, whose entries are tuples of (start, stop).
    """
    losses = torch.empty(len(targets), dtype=torch.float32)
    for number in allowed.unique().tolist():
        at = (allowed == number).nonzero()[:, 0]
        wanted, local = targets[at], torch.zeros_like(at)
        parts, before = [], 0
        for start, stop in table[number]:
            inside = (wanted >= start) & (wanted < stop)
            local = torch.where(inside, wanted - start + before, local)
            parts.append(head_VD[start:stop])
            before += stop - start
        logits = F.linear(features_PD[at], torch.cat(parts) if len(parts) > 1 else parts[0])
        losses[at] = F.cross_entropy(logits.float(), local, reduction="none")
    return losses


def batch_loss(
    decoder: Any, batch: Batch, table: Sequence[Any], weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(weighted sum of losses, sum of losses (M,), counts (M,)) over the M modalities.

    Rows are padded on the right and attention is causal: padding reaches nothing with a loss.
    """
    features_NLD = decoder.model(input_ids=batch.shown[:, :-1], use_cache=False)[0]
    counted = batch.loss[:, 1:] > 0
    losses = range_loss(
        features_NLD[counted], decoder.lm_head.weight, batch.ids[:, 1:][counted],
        batch.allowed[:, 1:][counted], table,
    )  # fmt: skip
    modality = batch.modality[:, 1:][counted]
    weighted = (losses * batch.loss[:, 1:][counted] * weights[modality]).sum()
    size = len(MODALITIES)
    sums = torch.zeros(size).index_add_(0, modality, losses.detach())
    return weighted, sums, torch.bincount(modality, minlength=size).float()


class _Working:
    """A bfloat16 copy of the decoder that computes, beside the float32 weights that are trained.

    On two cores this does 3,050 ids a second where autocast did 2,350: autocast keeps the
    residual stream in float32 and casts it before every product. Attention is computed plainly,
    because the fused kernel's backward pass took a fifth of the time on rows of 80 to 500 ids.
    """

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder
        self.copy: Any = copy.deepcopy(decoder).to(torch.bfloat16)
        # Rotary frequencies in bfloat16 would blur positions.
        self.copy.model.rotary_emb = copy.deepcopy(decoder.model.rotary_emb)
        self.copy.set_attn_implementation("eager")

    @torch.no_grad()
    def refresh(self) -> nn.Module:
        """The copy, with the decoder's weights of now."""
        for mine, theirs in zip(self.copy.parameters(), self.decoder.parameters()):
            mine.copy_(theirs)
        return self.copy

    @torch.no_grad()
    def hand_over(self) -> None:
        """Add the copy's gradients to the decoder's, in float32."""
        for mine, theirs in zip(self.copy.parameters(), self.decoder.parameters()):
            if mine.grad is None:
                continue
            if theirs.grad is None:
                theirs.grad = mine.grad.float()
            else:
                theirs.grad.add_(mine.grad)
            mine.grad = None


def _weight_of(batch: Batch, weights: Tensor) -> float:
    return float((batch.loss[:, 1:] * weights[batch.modality[:, 1:]]).sum())


def _schedule(config: DecoderTraining, step: int) -> float:
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    left = (config.steps - step) / max(1.0, config.cooldown * config.steps)
    return config.learning_rate * warm * min(1.0, left)


def _optimizers(config: DecoderTraining, decoder: nn.Module) -> dict[str, torch.optim.Optimizer]:
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in decoder.named_parameters():
        inside = parameter.ndim == 2 and ".layers." in name
        (matrices if inside else others).append(parameter)
    return {
        "muon": torch.optim.Muon(
            matrices, lr=config.learning_rate, weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        "adamw": torch.optim.AdamW(
            others, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
        ),
    }  # fmt: skip


def _texts(config: DecoderTraining) -> Iterable[str]:
    for source in config.sources.values():
        for shard in find_shards(source.shards):
            for _, document in read_shards(shard):
                yield from (s.text for s in document.segments if isinstance(s, Text))


def build_model(config: DecoderTraining) -> UnifiedModel:
    """A model to train: with the weights of `start`, or fresh ones.

    Without a start the text tokenizer is learnt, or read if it was before.

    Raises ValueError when the one that was has more ids than `text_size`, and for a start whose
    decoder has another shape.
    """
    folder = Path(config.output) / "text_tokenizer"
    start = None if config.start is None else UnifiedModel.from_pretrained(config.start)
    if start is not None:
        text = start.text_tokenizer
    elif (folder / "tokenizer.json").exists():
        text = TextTokenizer.load(folder)
        if text.size > config.text_size:  # fewer: the texts held no more
            raise ValueError(
                f"the text tokenizer in {folder} has {text.size} ids, text_size is "
                f"{config.text_size}; remove the folder to learn another"
            )
    else:
        # The world repeats its sentences: each once is enough to learn merges from.
        text = TextTokenizer.train(sorted(set(_texts(config))), config.text_size)
        text.save(folder)
    torch.manual_seed(config.seed)
    model = UnifiedModel.create(
        config.model,
        text_tokenizer=text,
        image_tokenizer=load_tokenizer(config.image_tokenizer),
        audio_tokenizer=load_tokenizer(config.audio_tokenizer),
        format=config.format,
        max_grid=config.max_grid,
    )
    if start is not None:
        begin_with(model.hf, model.vocabulary, start.hf, start.vocabulary, config.fresh)
    return model


def evaluate(decoder: nn.Module, heldout: dict[str, Examples], padded_ids: int) -> dict[str, float]:
    """Mean loss in nats of each held-out source and modality."""
    found: dict[str, float] = {}
    ones = torch.ones(len(MODALITIES))
    for name, examples in heldout.items():
        sums, counts = torch.zeros(len(MODALITIES)), torch.zeros(len(MODALITIES))
        for batch in rows([examples], [(0, i) for i in range(len(examples))], padded_ids):
            with torch.no_grad():
                _, more, count = batch_loss(decoder, batch, examples.ranges, ones)
            sums, counts = sums + more, counts + count
        for modality, number in MODALITIES.items():
            if modality != "marker" and counts[number] > 0:
                found[f"{name}/{modality}"] = float(sums[number] / counts[number])
    return found


def train(config: DecoderTraining, resume: bool = False) -> Path:
    """Run a training to its end; returns the folder of the finished model.

    Raises:
        ValueError: bad data, a run that exists already (without `resume`), or a loss that is
            not finite.
    """
    torch.set_num_threads(config.threads)
    output = Path(config.output)
    console = Console(stderr=True)
    found = latest_checkpoint(output / "checkpoints")
    if found and not resume:
        raise ValueError(f"{output} holds a run already; go on with --resume or remove it")
    model = build_model(config)
    sources = share_ranges(
        [
            weigh(
                load_examples(s.shards, model.sequencer, output / "ids", round_trip=s.round_trip),
                s,
            )
            for s in config.sources.values()
        ]
    )
    heldout = {
        name: load_examples(
            s.shards, model.sequencer, output / "ids", limit=128, round_trip=s.round_trip
        )
        for name, s in config.heldout.items()
    }
    for name, examples in zip(config.sources, sources):
        console.print(f"{name}: {len(examples)} documents, {len(examples.ids)} ids")
    decoder = model.hf
    working = _Working(decoder)
    optimizers = _optimizers(config, decoder)
    step = 0
    if found:
        step, settings = load_checkpoint(found, {"decoder": decoder}, optimizers)
        if changed := changed_settings(settings, asdict(config)):
            console.print(f"going on from step {step} with other settings: {changed}")
    shares = [source.share for source in config.sources.values()]
    plan = plan_steps(sources, shares, config.ids_per_step, config.steps, config.seed)
    weights = torch.ones(len(MODALITIES))
    for modality, factor in config.modality_weights.items():
        weights[MODALITIES[modality]] = factor
    table = sources[0].ranges
    log = SummaryWriter(str(output / "tensorboard"), purge_step=step)
    sums, counts, ids = torch.zeros(len(MODALITIES)), torch.zeros(len(MODALITIES)), 0
    began = time.perf_counter()
    columns = (TextColumn("decoder"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[figures]}"))  # fmt: skip
    with Progress(*columns, console=console, refresh_per_second=1) as progress:
        task = progress.add_task("decoder", total=config.steps, completed=step, figures="")
        while step < config.steps:
            rate = _schedule(config, step)
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = rate
            rng = np.random.default_rng((config.seed, step))  # a resumed run draws the same noise
            batches = list(rows(sources, plan[step], config.padded_ids, rng))
            total = sum(_weight_of(batch, weights) for batch in batches)
            computing = working.refresh()
            for batch in batches:
                weighted, more, count = batch_loss(computing, batch, table, weights)
                (weighted / total).backward()
                working.hand_over()
                sums, counts, ids = sums + more, counts + count, ids + batch.num_ids
            norm = float(nn.utils.clip_grad_norm_(decoder.parameters(), config.clip))
            if not math.isfinite(norm):
                raise ValueError(f"the gradient norm is {norm} at step {step}; lower learning_rate")
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            step += 1
            if step % config.log_every == 0 or step == config.steps:
                means = sums / counts.clamp_min(1)
                speed = ids / (time.perf_counter() - began)
                shown = []
                for modality, number in MODALITIES.items():
                    log.add_scalar(f"train/{modality}_loss", float(means[number]), step)
                    shown.append(f"{modality} {float(means[number]):.3f}")
                log.add_scalar("train/gradient_norm", norm, step)
                log.add_scalar("train/ids_per_second", speed, step)
                log.add_scalar("train/learning_rate", rate, step)
                figures = f"{'  '.join(shown)}  {speed:.0f} ids/s"
                progress.update(task, completed=step, figures=figures)
                if not console.is_terminal:
                    console.print(f"{step}/{config.steps}  {figures}")
                sums, counts, ids = torch.zeros_like(sums), torch.zeros_like(counts), 0
                began = time.perf_counter()
            if step % config.save_every == 0 or step == config.steps:
                found_losses = evaluate(working.refresh(), heldout, config.padded_ids)
                for name, value in found_losses.items():
                    log.add_scalar(f"heldout/{name}", value, step)
                    progress.console.print(f"step {step}: held-out {name} {value:.3f}")
                save_checkpoint(output / "checkpoints", step, {"decoder": decoder}, optimizers,
                                asdict(config))  # fmt: skip
                model.save_pretrained(output / "model", dtype=config.store)
                if config.world == "pocket":
                    KnownSubjects.of(load_subjects()).save(output / "model")
                began = time.perf_counter()
    log.close()
    return output / "model"


def main(config_path: Path, resume: bool = False) -> None:
    """The command `unified train`."""
    folder = train(load_config(config_path), resume)
    Console(stderr=True).print(f"model saved in {folder}")
