"""`unified serve` under load: sixteen clients beside one, vanishing clients, kills, memory, idling.

    python benchmarks/serving.py [--quick] [--only clients,cancel,memory,killed,idle]

Each part starts the command as a process of its own, with the shipped model, and asks it over HTTP.

clients: ids a second of sixteen clients over those of one, articles, pictures and sounds alike; 95%
of first texts, first rows of pictures and first sounds came within so many seconds; answers that
are others than alone. cancel: steps of the engine for a row that began after its client was gone,
the most of all. memory: what the process grew by over the second half of 2,000 requests. killed:
2,000 requests while clients vanish and the process is killed and restarted 20 times; what is
counted as lost says `_serving_storm.py`. idle: the share of a core of a server that waits, after
it has served.

Figures depend on what else the machine does: `load` is its load average before and after. Progress
goes to stderr; the last line on stdout is one JSON object.
"""

from __future__ import annotations

import argparse

import _path  # before all others

PARTS = ("clients", "cancel", "memory", "killed", "idle")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, requests and kills")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()
    _path.needs("serve", "fastapi", "uvicorn", "python_multipart")

# isort: split
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from _serving_cancel import cancel_part
from _serving_clients import clients_part
from _serving_process import ServerProcess
from _serving_storm import killed_part, memory_part
from _serving_streams import asked_for, read_stream
from _shared import machine, say

from unified.engine.backends.cpu.threads import ThreadPool


def idle_part(server: ServerProcess, seconds: float) -> dict[str, Any]:
    """The share of a core that a server takes which has served and waits."""
    for kind in ("article", "sound"):
        read_stream(server.port, asked_for(kind, 0))
    server.wait_until_idle()
    time.sleep(5)  # threads that wait for more work a while end
    began, before = time.perf_counter(), server.cpu_seconds()
    time.sleep(seconds)
    share = (server.cpu_seconds() - before) / (time.perf_counter() - began)
    say(f"idle: {share:.2%} of a core over {seconds:.0f} s")
    return {"idle_cpu_percent": round(100 * share, 3)}


def _measured(part: str, quick: bool, folder: Path) -> dict[str, Any]:
    trace = folder / "trace.jsonl" if part == "cancel" else None
    with ServerProcess(folder, trace=trace) as server:
        say(f"{part}: a server after {server.starts[0]:.1f} s")
        if part == "clients":
            return clients_part(server, *((2, 1, 2) if quick else (5, 2, 8)))
        if trace is not None:
            return cancel_part(server, trace, 6 if quick else 60)
        if part == "memory":
            return memory_part(server, *((40, 1) if quick else (2_000, 3)))
        if part == "killed":
            return killed_part(server, *((40, 2, 1) if quick else (2_000, 20, 3)))
        return idle_part(server, 10 if quick else 60)


def main() -> None:
    options = _parser().parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        _parser().error(f"--only has {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    began, load = time.perf_counter(), os.getloadavg()[0]
    results: dict[str, Any] = {}
    for part in parts:
        with tempfile.TemporaryDirectory(prefix="unified-serving-") as name:
            results |= _measured(part, options.quick, Path(name))
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(time.perf_counter() - began, 1)
    results["load"] = [round(each, 2) for each in (load, os.getloadavg()[0])]
    packages = ("numpy", "numba", "fastapi", "uvicorn", "openai")
    results["machine"] = machine(ThreadPool.shared().threads, packages)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
