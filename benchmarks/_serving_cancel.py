"""Clients that vanish while fifteen others are served: what was still computed for their rows.

The server runs with `_serving_traced`, which notes every step in which ids were chosen for a row. A
step that ran when the connection was closed belongs to before it.
"""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

from _serving_clients import CLIENTS
from _serving_process import ServerProcess
from _serving_streams import Asked, asked_for, begin, read_stream, vanish
from _shared import say

__all__ = ["cancel_part"]


def cancel_part(server: ServerProcess, trace: Path, number: int) -> dict[str, Any]:
    """Let one client after another vanish, in the midst of its article.

    Args:
        server: traced.
        trace: its file.
        number: of clients that vanish.
    """
    chance, over = random.Random(20), threading.Event()
    seeds = iter(range(10**6))
    read_stream(server.port, asked_for("article", next(seeds)))
    lock, others = threading.Lock(), list[Asked]()

    def load() -> None:
        while not over.is_set():
            with lock:
                asked = asked_for("article", next(seeds))
            if read_stream(server.port, asked).complete:
                others.append(asked)

    threads = [threading.Thread(target=load) for _ in range(CLIENTS - 1)]
    for thread in threads:
        thread.start()
    while server.metrics()["unified_rows_running"] < CLIENTS - 1:
        time.sleep(0.01)
    closed: dict[int, float] = {}
    while len(closed) < number:
        with lock:
            asked = asked_for("article", next(seeds))
        at = _leave_midway(server.port, asked, chance)
        if at is not None:  # it was not complete by then
            closed[asked.seed] = at
    over.set()
    for thread in threads:
        thread.join()
    server.wait_until_idle()
    rows = _rows(trace)
    after = {seed: [step for step in rows[seed]["steps"] if step > at]
             for seed, at in closed.items() if rows[seed]["end"] == "Cancelled"}  # fmt: skip
    noticed = [[step for step in rows[seed]["steps"] if step > rows[seed]["cancelled"]]
               for seed in after]  # fmt: skip
    told = [rows[seed]["ended"] - at for seed, at in closed.items() if seed in after]
    # Rows beside those that left have the ids that they have alone.
    compared = [asked for asked in others if rows[asked.seed]["end"] == "Finished"][:4]
    before = {asked.seed: rows[asked.seed]["ids"] for asked in compared}
    for asked in compared:
        read_stream(server.port, asked)
    again = _rows(trace)
    steps = sorted(len(each) for each in after.values())
    say(f"{len(after)} of {number} rows cancelled; steps after: {steps}")
    return {
        "cancel_steps": steps[-1],
        "cancel_steps_median": steps[len(steps) // 2],
        "cancel_steps_once_noticed": max(len(each) for each in noticed),
        "cancel_seconds_max": round(max(told), 4),
        "cancels": len(steps),
        "finished_before_noticed": len(closed) - len(steps),
        "cancel_other_ids": sum(again[seed]["ids"] != ids for seed, ids in before.items()),
    }


def _leave_midway(port: int, asked: Asked, chance: random.Random) -> float | None:
    """Read a random number of events, then vanish. When that was; None: it was at its end."""
    connection, answer = begin(port, asked)
    wanted = chance.randrange(2, 40)
    for line in answer:
        if line.startswith(b"data: "):
            wanted -= 1
            if b'"article.completed"' in line:
                connection.close()
                return None
        if not wanted:
            break
    return vanish(connection, answer, chance.random() < 0.5)


def _rows(trace: Path) -> dict[int, dict[str, Any]]:
    """Rows that ended, by seed; the last of each."""
    lines = map(json.loads, trace.read_text("utf-8").splitlines())
    return {line["seed"]: line for line in lines}
