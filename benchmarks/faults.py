"""What a run and its data survive: SIGKILL at any moment, and input that is broken in any way.

    python benchmarks/faults.py [--quick] [--only kills|fuzz]

A training of 60 steps is killed 20 times, every second time while a checkpoint is being written,
and resumed each time; two processes likewise, data-parallel and under FSDP2. 100,000 mutated
shards, documents, code shards and import sources are read; each must be accepted, or refused with a
reason, without a crash, a hang, or anything executed.

Progress goes to stderr; the last line on stdout is one JSON object. The whole takes half an hour on
two cores, --quick (4 kills, 3,000 cases) two minutes.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("kills", "fuzz"))
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
import tempfile
from pathlib import Path
from typing import Any

from _fuzz import fuzz
from _kills import kills, make_start
from _shared import machine, say


def killed(quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_start(folder)
        one = kills(folder, 3 if quick else 20, 1)
        found = {"kills": one["kills"], "kills_while_saving": one["while_saving"],
                 "kills_bit_equal": one["bit_equal"]}  # fmt: skip
        for parallel in ("data",) if quick else ("data", "fsdp"):
            two = kills(folder, 1 if quick else 5, 2, parallel)
            found |= {f"two_processes_{parallel}_{key}": value for key, value in two.items()}
    return found


def main() -> None:
    arguments = _parser().parse_args()
    found: dict[str, Any] = {}
    if arguments.only != "fuzz":
        found |= killed(arguments.quick)
    if arguments.only != "kills":
        cases = 3_000 if arguments.quick else 100_000
        say(f"reading {cases:,} broken inputs")
        found |= fuzz(cases)
    print(json.dumps({**found, "machine": machine(1, ["transformers", "safetensors"])}))


if __name__ == "__main__":
    main()
