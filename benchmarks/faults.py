"""What commands, runs and readers survive: SIGKILL at any moment, full disks, input of any kind.

    python benchmarks/faults.py [--quick] [--only training,commands,fuzz,media,folders]

- training: a run of 60 steps is killed 20 times, every second time while a checkpoint is being
  written, and resumed each time; two processes likewise, data-parallel and under FSDP2. The end
  must have the bits of a run never killed.
- commands: every command that writes is killed before each rename, link, folder, removal and fsync
  that it does (16 of each at most), and run again; it is given disks of 16 KiB to 1 MiB, and two of
  it write to one place. Lost is whatever is neither as before nor as it was to be.
- fuzz: 100,000 mutated shards, documents, code shards and sources of importers. Each must be
  accepted, or refused with a reason, without a crash, a hang, or anything executed.
- media: 20,000 mutated pictures and sounds, which must not be read wrong either where the format
  has checksums.
- folders: 20,000 mutated folders of models, of every layout that opens.

kills counts those of training and of commands together, kills_lost what was lost in either.

Progress goes to stderr; the last line on stdout is one JSON object. The whole takes two hours and a
half on two cores, --quick under two minutes of each part.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)

PARTS = ("training", "commands", "fuzz", "media", "folders")


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    return parts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the cases")
    parser.add_argument("--only", type=_parts, default=PARTS, help=f"of {', '.join(PARTS)}")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
import tempfile
from pathlib import Path
from typing import Any

import _fault_folders
import _fault_kills
import _fault_media
from _fuzz import fuzz
from _kills import kills, make_start
from _shared import machine, say


def kill_training(quick: bool) -> dict[str, Any]:
    """Kills of a training; see `_kills.kills`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_start(folder)
        result = kills(folder, 3 if quick else 20, 1)
        figures = {f"training_{key}": value for key, value in result.items()}
        for parallel in ("data",) if quick else ("data", "fsdp"):
            two = kills(folder, 1 if quick else 5, 2, parallel)
            figures |= {f"two_processes_{parallel}_{key}": value for key, value in two.items()}
    return figures


def main() -> None:
    options = _parser().parse_args()
    figures: dict[str, Any] = {}
    count = 400 if options.quick else 20_000
    if "training" in options.only:
        figures |= kill_training(options.quick)
    if "commands" in options.only:
        figures |= _fault_kills.measure(options.quick)
    if {"training", "commands"} & set(options.only):
        figures["kills"] = sum(
            value
            for name, value in figures.items()
            if name == "kills" or (name.endswith("_kills") and type(value) is int)
        )
        unequal = [name for name, value in figures.items() if "bit_equal" in name and not value]
        figures["kills_lost"] = figures.get("kills_lost", 0) + len(unequal)
    if "fuzz" in options.only:
        cases = 3_000 if options.quick else 100_000
        say(f"reading {cases:,} broken inputs")
        figures |= fuzz(cases)
    if "media" in options.only:
        say(f"reading {count:,} broken pictures and sounds")
        figures |= _fault_media.measure(count)
    if "folders" in options.only:
        say(f"opening {count:,} mutated folders of models")
        figures |= _fault_folders.measure(count)
    versions = machine(1, ["transformers", "safetensors", "pillow", "soundfile"])
    print(json.dumps({**figures, "parts": options.only, "machine": versions}))


if __name__ == "__main__":
    main()
