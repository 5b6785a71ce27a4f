"""Towers and retrieval on pictures of the world: part of benchmarks/grafting.py, or alone.

    python benchmarks/_grafting_retrieval.py --tower runs/world/tower/tower
    python benchmarks/_grafting_retrieval.py --steps 1500 --pictures 120 --output runs/tower
    python benchmarks/_grafting_retrieval.py --quick

- zero_shot: single things named right among the 265 subjects, none of which was a class of the
  training, on pictures whose combinations were held out;
- zero_shot_unseen: the same in the art style that is in no training picture;
- retrieval_recall_at_1: captions of held-out pictures of which the first hit of the index has that
  very caption.

Without --tower one is trained first by configs/world/tower.yaml, on single things painted here;
half of the captions say what it is and nothing else. `steer` pictures alone are looked at on the
way. --quick: 12 subjects, which says that everything works, and nothing of how well. Shares have
Wilson's 95% interval.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import _path  # noqa: F401 (before all of ours)

ROOT = Path(__file__).parents[1]

if TYPE_CHECKING:
    from _grafting_world import SinglePictures

    from unified.matching.tower import Tower


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tower", type=Path, help="a trained tower's folder")
    parser.add_argument("--each", type=int, default=2, help="pictures of a subject")
    parser.add_argument("--steps", type=int, default=400, help="of the training without --tower")
    parser.add_argument("--pictures", type=int, default=120, help="of a subject, to train on")
    parser.add_argument("--output", type=Path, help="where the training and its pictures stay")
    parser.add_argument("--quick", action="store_true", help="under two minutes")
    options = parser.parse_args()
    report = measure(
        options.tower, options.each, options.steps, options.quick, options.pictures, options.output
    )
    print(json.dumps(report))


def measure(
    folder: Path | None = None,
    each: int = 2,
    steps: int = 400,
    quick: bool = False,
    pictures: int = 120,
    output: Path | None = None,
) -> dict[str, Any]:
    """The figures, with what they were measured on."""
    from _grafting_world import single_pictures
    from _shared import machine, say

    from unified.matching.tower import Tower

    subjects = 12 if quick and folder is None else None
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        folder_of_run = output or work
        trained: dict[str, Any] = {}
        if folder is None:
            began = perf_counter()
            folder, trained = _train(
                folder_of_run, subjects, 60 if quick else steps, 20 if quick else pictures
            )
            trained["train_seconds"] = round(perf_counter() - began, 1)
        tower = Tower.from_pretrained(folder)
        say("zero-shot")
        known, unseen = (single_pictures(style, each, subjects) for style in (False, True))
        figures = {
            **zero_shot(tower, known, "zero_shot"),
            **zero_shot(tower, unseen, "zero_shot_unseen"),
            "zero_shot_pictures": [len(known.pictures), len(unseen.pictures)],
            "classes": len(known.classes),
            **_retrieval(tower, known, work),
        }
    return {
        **figures,
        **trained,
        "tower": tower.fingerprint,
        "machine": machine(1, ("torch", "transformers", "usearch")),
    }


def zero_shot(tower: Tower, singles: SinglePictures, name: str) -> dict[str, Any]:
    """The share of pictures whose nearest class is their own, and its interval."""
    pictures = tower.embed_pictures(singles.pictures)
    classes = tower.embed_texts(singles.classes)
    return _share(name, (pictures @ classes.T).argmax(1) == singles.labels)


def _share(name: str, right: Any) -> dict[str, Any]:
    from unified.evaluation.figures import wilson

    number, cases = int(sum(right)), len(right)
    interval = [round(bound, 4) for bound in wilson(number, cases)]
    return {name: round(number / cases, 4), f"{name}_interval": interval}


def _retrieval(tower: Tower, singles: SinglePictures, work: Path) -> dict[str, Any]:
    """Captions to the pictures of an index."""
    from _grafting_world import save_pairs

    from unified.matching.build_index import build_index
    from unified.matching.media_index import MediaIndex

    folder = save_pairs(singles, work / "held")
    began = perf_counter()
    build_index(work / "index", [folder], tower, "benchmark")
    indexed = perf_counter() - began
    index = MediaIndex.open(work / "index", tower)
    began = perf_counter()
    hits = [index.search_text(caption, 1)[0] for caption in singles.captions]
    seconds = perf_counter() - began
    right = [
        singles.captions[int(Path(hit.where.file).stem)] == caption
        for hit, caption in zip(hits, singles.captions)
    ]
    return {
        **_share("retrieval_recall_at_1", right),
        "indexed_per_second": round(len(right) / indexed, 1),
        "search_ms": round(1000 * seconds / len(right), 3),
    }


def _train(work: Path, subjects: int | None, steps: int, each: int) -> tuple[Path, dict[str, Any]]:
    """A tower of pictures painted here, by the world's own run file."""
    from _grafting_world import save_pairs, single_pictures
    from _shared import say

    from unified.matching.tower_config import load_config
    from unified.matching.tower_training import train

    say(f"painting {each} pictures of each subject")
    singles = single_pictures(False, each, subjects, "train", seed=0)
    data = save_pairs(singles, work / "train", brief=0.5)
    steer = save_pairs(single_pictures(False, 2, subjects, "steer", seed=11), work / "steer")
    changes = [
        f"output={work / 'run'}", f"data=[{data}]", f"validation=[{steer}]", f"steps={steps}",
        f"batch_size={64 if subjects else 256}", f"save_every={steps}",
        f"validate_every={max(1, steps // 6)}", "pattern=null", "precision=float32",
    ]  # fmt: skip
    config = load_config(ROOT / "configs" / "world" / "tower.yaml", changes)
    return train(config), {"steps": steps, "pictures": len(singles.pictures)}


if __name__ == "__main__":
    main()
