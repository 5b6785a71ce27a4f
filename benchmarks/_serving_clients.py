"""Sixteen clients at once beside one: ids a second, what came first, and whether it is the same."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from _serving_process import ServerProcess
from _serving_streams import KINDS, Asked, Read, asked_for, read_stream
from _shared import say

__all__ = ["CLIENTS", "clients_part"]

CLIENTS = 16
# What is waited for, of each kind of request.
FIRST = {"article": "text", "picture": "row", "sound": "sound"}


def clients_part(server: ServerProcess, rounds: int, each: int, alone: int) -> dict[str, Any]:
    """Rounds of one client and of sixteen in turn; every client asks its next once it has one.

    No two requests have one seed, so that nothing is guessed from an earlier answer.

    Args:
        server: that listens.
        rounds: of each side; medians are over them.
        each: requests of each kind (`KINDS`) of a client in a round of sixteen.
        alone: answers of each kind that are asked for once more, alone, and compared.
    """
    numbers = iter(range(10**6))
    for kind in KINDS:  # caches, threads, files
        _checked(read_stream(server.port, asked_for(kind, next(numbers))), kind)
    rates: dict[int, list[float]] = {1: [], CLIENTS: []}
    spent: dict[int, list[float]] = {1: [], CLIENTS: []}
    first: dict[int, dict[str, list[float]]] = {1: {}, CLIENTS: {}}
    answers: list[tuple[Asked, Read]] = []
    for number in range(rounds):
        for clients in (1, CLIENTS) if number % 2 else (CLIENTS, 1):
            # One client's share has to be long enough to be measured, too.
            share = each if clients == CLIENTS else max(2, each)
            plans = [_plan(numbers, share, client) for client in range(clients)]
            before = server.cpu_seconds()
            seconds, pairs = _round(server.port, plans)
            ids = sum(read.ids for _, read in pairs)
            rates[clients].append(ids / seconds)
            spent[clients].append((server.cpu_seconds() - before) / ids * 1e3)
            for asked, read in pairs:
                # A picture's rows stand behind texts and sounds in an article.
                name = FIRST[asked.kind]
                first[clients].setdefault(name, []).append(read.first[name])
            if clients == CLIENTS:
                answers += pairs
            say(f"{clients} clients: {ids} ids in {seconds:.1f} s, {ids / seconds:.0f} a second")
    other = _other_than_alone(server.port, answers, alone)
    medians = {clients: float(np.median(values)) for clients, values in rates.items()}
    ratios = np.array(rates[CLIENTS]) / np.array(rates[1])
    p95 = {clients: {name: _p95(values) for name, values in each.items()}
           for clients, each in first.items()}  # fmt: skip
    return {
        "clients": CLIENTS,
        "ids_per_second_ratio": round(float(np.median(ratios)), 2),
        "ids_per_second": [round(medians[clients]) for clients in (1, CLIENTS)],
        # Of the server's process, which a busy machine does not change as it does the others.
        "cpu_ms_per_id": [round(float(np.median(spent[clients])), 3) for clients in (1, CLIENTS)],
        "first_text_p95_s": p95[CLIENTS]["text"],
        "first_text_p95_ratio": round(p95[CLIENTS]["text"] / p95[1]["text"], 2),
        "first_picture_row_p95_s": p95[CLIENTS]["row"],
        "first_sound_p95_s": p95[CLIENTS]["sound"],
        "one_client_p95_s": p95[1],
        "requests": [len(first[clients]["text"]) for clients in (1, CLIENTS)],
        "compared_with_alone": alone * len(KINDS),
        "other_than_alone": other,
    }


def _plan(numbers: Any, each: int, client: int) -> list[Asked]:
    """What a client asks, its kinds in an order that goes round from client to client."""
    kinds = [KINDS[(client + index) % len(KINDS)] for index in range(len(KINDS))] * each
    return [asked_for(kind, next(numbers)) for kind in kinds]


def _round(port: int, plans: list[list[Asked]]) -> tuple[float, list[tuple[Asked, Read]]]:
    """(seconds from the first request to the end of the last answer, all answers)."""
    pairs: list[tuple[Asked, Read]] = []

    def ask(plan: list[Asked]) -> None:
        for asked in plan:
            pairs.append((asked, read_stream(port, asked)))

    threads = [threading.Thread(target=ask, args=(plan,)) for plan in plans]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if len(pairs) != sum(len(plan) for plan in plans):
        raise RuntimeError("a client failed; its fault stands above")
    for asked, read in pairs:
        _checked(read, asked.kind)
    return seconds, pairs


def _checked(read: Read, kind: str) -> None:
    if not read.complete:
        raise RuntimeError(f"no answer to a request for a {kind}: {read.failure or 'it broke off'}")


def _other_than_alone(port: int, answers: list[tuple[Asked, Read]], number: int) -> int:
    """How many of some answers of each kind are others where they are asked for alone."""
    others = 0
    for kind in KINDS:
        pairs = [pair for pair in answers if pair[0].kind == kind]
        for asked, read in pairs[:: max(1, len(pairs) // number)][:number]:
            others += read_stream(port, asked).digest != read.digest
    return others


def _p95(values: list[float]) -> float:
    return round(float(np.quantile(values, 0.95)), 4)
