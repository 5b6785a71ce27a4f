"""Commands of the shipped model as whole processes: seconds, first text, memory, two at once.

    python benchmarks/startup.py [--quick] [--only draw,write]

Every command is run once unmeasured, so that files come from the system's cache, compiled loops
from theirs and byte code is written (PYTHONDONTWRITEBYTECODE is taken out of the environment); then
--runs times, all commands in turn. Seconds are medians, from the start of the process to its end.

draw_seconds: `unified draw "a cat"`. write_seconds: `unified write "The giant panda"`, with its
pictures and narration. first_text_seconds: until the first characters of that article are on
stderr. speak_seconds, listen_seconds, describe_seconds, help_seconds (`unified --help`): likewise.
rss_mb: the largest resident memory of any of these processes, in MB of 10^6 bytes, as the system
counts it (`os.wait4`: everything in memory, pages of mapped files and libraries included).
two_processes: two draws at once over two one after the other.

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
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

COMMANDS = {
    "draw": ("draw", "a cat", "-o", "cat.png"),
    "write": ("write", "The giant panda", "-o", "panda.html"),
    "speak": ("speak", "a cat above a tree", "-o", "cat.wav"),
    "listen": ("listen", "cat.wav"),
    "describe": ("describe", "cat.png"),
    "help": ("--help",),
}
INPUTS = {"listen": "speak", "describe": "draw"}
"""Commands that read what another one wrote."""


class Run(NamedTuple):
    """seconds: from start to end. first: until the first byte on stderr, None where none came.
    cpu: seconds of all cores. rss: bytes, at most."""

    seconds: float
    first: float | None
    cpu: float
    rss: int


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def run(name: str, folder: Path) -> Run:
    """One command in a process of its own."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "unified", *COMMANDS[name]], cwd=folder, env=_environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    first, output = None, b""
    while data := os.read(process.stderr.fileno(), 1 << 16):
        first = first or time.perf_counter() - began
        output += data
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"unified {name} failed: {output.decode(errors='replace')[-500:]}")
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(seconds, first, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def together(folder: Path) -> float:
    """Seconds of two draws at once."""
    began = time.perf_counter()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "unified", "draw", "a cat", "-o", f"{at}.png"], cwd=folder,
            env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for at in range(2)
    ]  # fmt: skip
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("one of two draws at once failed")
    return time.perf_counter() - began


def _environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three runs of each, not nine")
    parser.add_argument("--runs", type=int, help="of each command (default: 9; 3 if quick)")
    parser.add_argument("--only", default=",".join(COMMANDS), help="commands, such as draw,write")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(COMMANDS):
        parser.error(f"--only {min(unknown)!r}, expected some of {', '.join(COMMANDS)}")
    if not hasattr(os, "wait4"):
        parser.error("needs a system that tells how much memory a process has taken")
    # After --help and mistakes.
    from unified_base.version import __version__

    began, load = time.perf_counter(), os.getloadavg()
    results: dict[str, list[Run]] = {name: [] for name in names}
    pairs: list[float] = []
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        for name in dict.fromkeys((*(INPUTS[n] for n in names if n in INPUTS), *names)):
            run(name, folder)  # unmeasured
        for turn in range(options.runs or (3 if options.quick else 9)):
            for name in names:
                results[name].append(run(name, folder))
            pairs += [together(folder)] if "draw" in names else []
            say(f"run {turn + 1}: " + ", ".join(f"{n} {results[n][-1].seconds:.2f}" for n in names))
    figures: dict[str, Any] = {}
    for name, runs in results.items():
        figures[f"{name}_seconds"] = round(median(r.seconds for r in runs), 2)
    if "write" in names:
        figures["first_text_seconds"] = round(median(r.first or 0.0 for r in results["write"]), 2)
    figures["rss_mb"] = round(max(r.rss for runs in results.values() for r in runs) / 1e6)
    if pairs:
        alone = median(r.seconds for r in results["draw"])
        figures["two_processes"] = round(median(pairs) / (2 * alone), 2)
    print(json.dumps({
        **figures,
        "rss_mb_by_command": {n: round(max(r.rss for r in rs) / 1e6) for n, rs in results.items()},
        "cpu_seconds": {n: round(median(r.cpu for r in rs), 2) for n, rs in results.items()},
        "load_before": [round(x, 2) for x in load],
        "sample": "quick" if options.quick else "full",
        "benchmark_seconds": round(time.perf_counter() - began, 1),
        "machine": {**_machine(), "unified": __version__},
    }))  # fmt: skip


def _machine() -> dict[str, Any]:
    # Of `_shared`, which imports torch.
    from _shared import machine

    return machine(os.cpu_count() or 1, ("numba", "numpy", "typer"))


if __name__ == "__main__":
    main()
