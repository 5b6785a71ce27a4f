"""Encoders before a language model, towers, boxes and videos: what they are measured to do.

    python benchmarks/grafting.py [--quick] [--only exact,towers,ground,video,aligned,shots]
                                  [--tower DIR]

Each part is a script of its own (`_grafting_*.py`), whose figures and settings its first lines say:

- exact: step0_equal, parity, embeds_overhead; nothing is trained;
- towers: zero_shot, zero_shot_unseen, retrieval_recall_at_1 and tiles_gain, of the tower in --tower
  or of one that is trained first (half an hour);
- ground: ground_iou, of a decoder trained here (ten minutes);
- video: video_motion and video_seconds_per_minute, of tokenizers and decoders trained here;
- aligned: codes held to texts beside others that are not;
- shots: icl_gain, of a decoder trained here.

--quick runs everything at sizes that say that it works, and nothing of how well. Progress goes to
stderr; the last line on stdout is one JSON object: the figures, and each part's own under `parts`.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)

FIGURES = (
    "step0_equal", "parity", "embeds_overhead", "zero_shot", "zero_shot_unseen",
    "retrieval_recall_at_1", "tiles_gain", "ground_iou", "video_motion",
    "video_seconds_per_minute", "icl_gain",
)  # fmt: skip
PARTS = ("exact", "towers", "ground", "video", "aligned", "shots")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, that all works")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--tower", help="a trained tower's folder, in place of a training")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded
    _parser().parse_args()

# isort: split
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _shared import machine, say

FOLDER = Path(__file__).parent


def script(name: str, *arguments: str) -> dict[str, Any]:
    """The JSON object on the last line of a part's script. Raises CalledProcessError."""
    path = FOLDER / f"_grafting_{name}.py"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, path, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    say(f"{name}: {time.perf_counter() - began:.0f} s")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def part(name: str, quick: bool, tower: str | None, work: Path) -> dict[str, Any]:
    """The figures of a part."""
    small = ["--quick"] if quick else []
    if name == "towers":
        if tower is None:
            arguments = [
                *small,
                "--steps",
                "1350",
                "--pictures",
                "100",
                "--output",
                str(work / "tower"),
            ]
            figures = script("retrieval", *arguments)
            tower = str(work / "tower" / "run" / "tower")
        else:
            figures = script("retrieval", "--tower", tower, *(["--each", "1"] if quick else []))
        few = ["--each", "1", "--subjects", "12"] if quick else []
        return {**figures, **script("tiles", "--tower", tower, *few)}
    if name == "ground" and not quick:
        return script("ground", "--steps", "900", "--pictures", "2000", "--cases", "200")
    return script(name, *small)


def main() -> None:
    options = _parser().parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        _parser().error(f"--only has {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    began = time.perf_counter()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as work:
        for name in parts:
            results[name] = part(name, options.quick, options.tower, Path(work))
    merged = {key: value for result in results.values() for key, value in result.items()}
    report = {name: merged[name] for name in FIGURES if name in merged}
    report |= {
        "parts": results, "sample": "quick" if options.quick else "full",
        "benchmark_seconds": round(time.perf_counter() - began, 1),
        "machine": machine(1, ("transformers",)),
    }  # fmt: skip
    print(json.dumps(report))


if __name__ == "__main__":
    main()
