"""Does grounding train: a small decoder learns boxes of one or two things of the world.

    python benchmarks/_grafting_ground.py [--quick] [--steps 700] [--pictures 1500] [--subjects 1]
                                          [--output DIR]

Pictures of the world's painter: things out of a few subjects, anywhere, of any size, at 96 pixels a
side, on white; boxes are the renderer's (`unified_data.world.thing_boxes`). With one subject there
is one thing in each picture; with more there are one or two, and one question in six is about what
is not there. The shipped picture tokenizer codes them (8x8 codes), a decoder with weights drawn
from a seed trains by `unified.training` on documents "Find: the fox" -> boxes, and is asked with
`UnifiedModel.ground`. One thread, float32.

`ground_iou` is the mean IoU over what is there in pictures that it has not seen, `at_half` the
share of questions with all boxes at IoU .5, `absent` that of things that are not there and got no
box. `fit_iou` and `fit_at_half` are of pictures that it was trained on, `before` is the IoU before
training, `middle` that of a box in the middle of the picture.

`--subjects 4 --pictures 48 --steps 160` learns its pictures by heart, and nothing of others.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import argparse
import json
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _shared import say

from unified import TextTokenizer, UnifiedModel
from unified.dataloading import Source
from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling
from unified.evaluation.box_match import BoxScore, match_boxes
from unified.evaluation.figures import mean
from unified.tasks.defaults import pocket_forms
from unified.tasks.size_rule import SizeRule
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.train import train
from unified_base.training.settings import ScheduleConfig
from unified_base.version import __version__
from unified_data.document import Box, Document, Image, Text
from unified_data.shards import ShardWriter
from unified_data.world.free_scene import FreeScene, Thing
from unified_data.world.ground_kinds import boxes_of
from unified_data.world.painting import SIDE, paint
from unified_data.world.tasks import ground_document
from unified_tokenizers.locations import LocationTokenizer

SUBJECTS = ("fox", "car", "moon", "balloon", "book", "cactus", "robot", "mushroom")
BINS = 48
FITTED = 100  # of the pictures trained on, asked about afterwards
SHAPE = {
    "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
    "head_dim": 32, "intermediate_size": 320, "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}  # fmt: skip


def scenes(names: tuple[str, ...], rng: np.random.Generator) -> Iterator[FreeScene]:
    """One thing, or two that do not touch, without end."""
    while True:
        chosen = rng.permutation(len(names))[: 1 + int(rng.random() < 0.5)]
        things = []
        for index in chosen:
            scale = float(rng.uniform(0.3, 0.6 if len(chosen) == 1 else 0.42))
            x, y = (scale / 2 + (1 - scale) * rng.random(2)).tolist()
            things.append(Thing(names[index], "noto", x, y, scale))
        apart = (
            len(things) == 1
            or max(abs(things[0].x - things[1].x), abs(things[0].y - things[1].y))
            >= (things[0].scale + things[1].scale) / 2
        )
        if apart:
            yield FreeScene(tuple(things))


def asked(
    names: tuple[str, ...], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, str, list[Box]]]:
    """A picture, what to find in it, and its boxes; one time in six it is not there."""
    for scene in scenes(names, rng):
        present = [thing.name for thing in scene.things]
        absent = [name for name in names if name not in present]
        choices = absent if absent and rng.random() < 1 / 6 else present
        name = choices[int(rng.integers(len(choices)))]
        yield paint(scene), f"the {name}", boxes_of(scene, name)


def document(pixels: np.ndarray, text: str, boxes: list[Box]) -> Document:
    answer: list[Text | Box] = [*boxes] if boxes else [Text("none")]
    return ground_document(Image(pixels), text, answer)


def measured(model: UnifiedModel, cases: list[tuple[np.ndarray, str, list[Box]]]) -> dict[str, Any]:
    """Figures of a model over cases, with its most likely answers; the mean's 95% interval is of a
    bootstrap over cases."""
    scores: list[tuple[bool, BoxScore]] = []
    for pixels, text, true in cases:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            boxes = [each.box for each in model.ground(pixels, text)]
        scores.append((bool(true), match_boxes(boxes, true)))
    there = [score for is_there, score in scores if is_there]
    absent = [score.right for is_there, score in scores if not is_there]
    iou = mean("iou", [score.iou for score in there])
    return {
        "iou": iou.value, "iou_interval": [round(iou.low, 4), round(iou.high, 4)],
        "at_half": float(np.mean([score.right for score in there])), "there": len(there),
        "absent": float(np.mean(absent)) if absent else None,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="8 pictures, 40 steps")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--subjects", type=int, default=1, help="1 to 8")
    parser.add_argument("--pictures", type=int, default=1_500, help="to train on")
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--optimizer", default="adamw", choices=("adamw", "muon"))
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--output", type=Path, help="where the model and its data stay")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.pictures, options.cases = 40, 8, 8
    torch.set_num_threads(1)
    names = SUBJECTS[: options.subjects]
    with tempfile.TemporaryDirectory() as scratch:
        run(options, names, options.output or Path(scratch))


def run(options: argparse.Namespace, names: tuple[str, ...], folder: Path) -> None:
    pocket = UnifiedModel.from_pretrained("pocket")
    texts = [f"Find: the {name}" for name in names] + ["none"]
    torch.manual_seed(0)
    model = UnifiedModel.create(
        SHAPE, text_tokenizer=TextTokenizer.train(texts, 270),
        image_tokenizer=pocket.image_tokenizer, format="grounded", max_grid=8,
        tokenizers={"box": LocationTokenizer("box", BINS)},
    )  # fmt: skip
    model.tasks = pocket_forms(SizeRule((SIDE, SIDE), fixed=True)).without_media(
        model.sequencer.missing
    )
    greedy = SpanSampling(temperature=0.0)
    model.sampling = Sampling(text=greedy, spans={"box": greedy}, max_ids=200, max_text_ids=8)
    model.save_pretrained(folder / "begin", dtype="float32")
    with ShardWriter(folder / "shards", "train", "ground") as writer:
        source = asked(names, np.random.default_rng(1))
        seen = [next(source) for _ in range(options.pictures)]
        for number, case in enumerate(seen):
            writer.write(f"g{number:05}", document(*case))
    say(f"{options.pictures:,} documents")
    unseen = asked(names, np.random.default_rng(2))
    cases = [next(unseen) for _ in range(options.cases)]
    before = measured(model, seen[:16])
    began, processor = time.perf_counter(), time.process_time()
    trained = train(
        TrainConfig(
            output=str(folder / "run"), init_from=str(folder / "begin"),
            sources={"ground": Source(str(folder / "shards" / "*.tar"), 1.0, loss="response")},
            validation={}, steps=options.steps, seq_len=320, global_batch_size=4,
            micro_batch_size=4, streams=4,
            optimizer=OptimizerConfig(name=options.optimizer, lr=options.lr),
            schedule=ScheduleConfig(warmup_steps=20), log_every=20, save_every=options.steps,
            validate_every=options.steps, threads=1, precision="float32",
        )
    )  # fmt: skip
    seconds, of_processor = time.perf_counter() - began, time.process_time() - processor
    after = UnifiedModel.from_pretrained(trained)
    after.sampling, after.tasks = model.sampling, model.tasks
    fit, figures = measured(after, seen[:FITTED]), measured(after, cases)
    middle = Box(SIDE / 4, SIDE / 4, 3 * SIDE / 4, 3 * SIDE / 4, SIDE, SIDE)
    result = {
        "fit_iou": fit["iou"], "fit_at_half": fit["at_half"],
        "ground_iou": figures["iou"], "ground_iou_interval": figures["iou_interval"],
        "cases_there": figures["there"], "at_half": figures["at_half"], "absent": figures["absent"],
        "before": before["iou"],
        "middle": float(np.mean([match_boxes([middle], true).iou for *_, true in cases if true])),
        "steps": options.steps, "pictures": options.pictures, "subjects": len(names),
        "cases": options.cases, "parameters": sum(p.numel() for p in after.hf.parameters()),
        "training_seconds": seconds, "processor_seconds": of_processor,
        "unified": __version__, "torch": torch.__version__, "machine": platform.machine(),
    }  # fmt: skip
    rounded = {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
