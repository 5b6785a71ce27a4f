"""Processes that share the cores: what commands lose when several run at once.

    python benchmarks/contention.py [--quick] [--pictures 64]

Each round runs the same command (`unified draw`, each time as a process of its own) alone, two at
once, four at once, and alone beside as many busy loops as there are cores; rounds follow each
other, and every figure is a median over them.

two_processes, four_processes: seconds of two (four) at once over those of two (four) one after the
other; 1 is nothing lost, less is gained. busy_machine: seconds beside the busy loops over twice the
seconds alone, since half of the machine is its share. cpu_seconds: of one command, in each case:
what is spent on waiting shows there, also on a machine where others are at work.

Progress goes to stderr; the last line on stdout is one JSON object.
"""

from __future__ import annotations

import _path  # noqa: F401 (before all others)

# isort: split
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


CASES = {"alone": (1, False), "two": (2, False), "four": (4, False), "busy": (1, True)}
BUSY = "while True: pass"


@dataclass
class Runs:
    """Seconds of every round, and processor seconds of every command, by case."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {case: [] for case in CASES})
    spent: dict[str, list[float]] = field(default_factory=lambda: {case: [] for case in CASES})

    def add(self, case: str, pictures: int, folder: Path) -> None:
        """One round of a case."""
        number, busy = CASES[case]
        cores = len(os.sched_getaffinity(0)) if busy else 0
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(cores)]
        try:
            began = time.perf_counter()
            commands = [_draw(pictures, folder / f"{at}.png") for at in range(number)]
            for command in commands:
                _, status, used = os.wait4(command.pid, 0)
                command.returncode = os.waitstatus_to_exitcode(status)
                if command.returncode:
                    raise SystemExit(f"a command failed with exit code {command.returncode}")
                self.spent[case].append(used.ru_utime + used.ru_stime)
            self.seconds[case].append(time.perf_counter() - began)
        finally:
            for other in others:
                other.kill()
                other.wait()
        say(
            f"{case}: {self.seconds[case][-1]:.1f} s, "
            f"{median(self.spent[case][-number:]):.1f} processor s a command"
        )

    def results(self) -> dict[str, object]:
        alone = median(self.seconds["alone"])
        shares = {"two": 2, "four": 4, "busy": 2}
        ratio = {case: median(self.seconds[case]) / (n * alone) for case, n in shares.items()}
        return {
            "two_processes": round(ratio["two"], 3),
            "four_processes": round(ratio["four"], 3),
            "busy_machine": round(ratio["busy"], 3),
            "seconds": {case: round(median(x), 2) for case, x in self.seconds.items()},
            "cpu_seconds": {case: round(median(x), 2) for case, x in self.spent.items()},
        }


def _draw(pictures: int, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "unified", "draw", "a cat", "-n", str(pictures), "-o", output]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, fewer pictures")
    parser.add_argument("--pictures", type=int, help="of each command (default: 64; 16 if quick)")
    options = parser.parse_args()
    if not hasattr(os, "wait4") or not hasattr(os, "sched_getaffinity"):
        parser.error("needs Linux, which tells what each process has spent")
    # After --help and mistakes: these take seconds to load.
    from _shared import machine

    from unified.engine.backends.cpu.compiling import compile_kernels

    pictures = options.pictures or (16 if options.quick else 64)
    began, load = time.perf_counter(), os.getloadavg()
    compile_kernels()
    runs = Runs()
    with tempfile.TemporaryDirectory() as folder:
        Runs().add("alone", pictures, Path(folder))  # unmeasured: files come from the disk
        for _ in range(2 if options.quick else 3):
            for case in CASES:
                runs.add(case, pictures, Path(folder))
    results = runs.results()
    results["pictures"] = pictures
    results["load_before"] = [round(x, 2) for x in load]
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(time.perf_counter() - began, 1)
    results["machine"] = machine(len(os.sched_getaffinity(0)), ("transformers", "numba", "numpy"))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
