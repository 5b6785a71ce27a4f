"""Thousands of short requests of all verbs, while clients vanish and the process is killed.

What is counted. A *request* is asked until it is answered: where the connection fails or breaks off
because the process was killed, or the server says 429 or 503, the client asks again (`retried`).
*Lost*: no answer though the process was not killed meanwhile, or a refusal. *Mixed up*: an answer
other than the one that the same request had alone, to the bit. Clients that vanish come on top.
*Articles lost*: articles that a client was told are complete, or segments that it was told are
done, and that the library does not have in the end, whole.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from _serving_cases import (
    Case,
    NotServed,
    all_cases,
    document_digest,
    official_client,
    vanishing,
)
from _serving_process import ServerProcess
from _serving_streams import Read, begin, vanish
from _shared import say

__all__ = ["Storm", "killed_part", "memory_part"]

_CLIENTS = 8
_VANISHING = 5  # of so many requests comes one more, whose client vanishes


@dataclass
class Storm:
    """Requests of all cases in turn by eight clients, and what came of them.

    Attributes:
        server: that is asked.
        cases: with their answers alone.
        counts: "answered", "retried", "vanished", "lost", "mixed".
        faults: what is wrong, in words.
        articles: of clients that were told of them, with the name of their case.
    """

    server: ServerProcess
    cases: list[tuple[Case, str]]
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    articles: list[tuple[str, Read]] = field(default_factory=list)
    lives: int = 0  # so often was the process killed
    serving: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, number: int, answered: Callable[[int], None], seed: int) -> None:
        """Ask so many requests. answered: told after each, by the client that has it."""
        numbers, chance = iter(range(number)), random.Random(seed)
        order = [chance.randrange(len(self.cases)) for _ in range(number)]

        def ask_on() -> None:
            own = random.Random(threading.get_ident())
            with official_client(self.server.url) as client:
                while True:
                    with self._lock:
                        at = next(numbers, None)
                    if at is None:
                        return
                    self._until_answered(client, *self.cases[order[at]])
                    with self._lock:
                        self.counts["answered"] += 1
                        so_far = self.counts["answered"]
                    answered(so_far)
                    if at % _VANISHING == 0:
                        self._vanish(at // _VANISHING, own)

        threads = [threading.Thread(target=ask_on) for _ in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.counts["answered"] != number:
            self._fault("lost", f"{number - self.counts['answered']} requests: a client failed")

    def _until_answered(self, client: Any, case: Case, alone: str) -> None:
        while True:
            self.serving.wait()
            lives, read = self.lives, Read()
            try:
                digest = case.ask(client, read)
                if digest != alone:
                    self._fault("mixed", f"{case.name}: another answer than alone")
                return
            except ValueError as error:
                self._fault("lost", f"{case.name}: {error}")
                return
            except NotServed as error:
                with self._lock:
                    self.counts["retried"] += 1
                if str(error) in ("429", "503"):
                    time.sleep(0.1)
                elif lives == self.lives and self.serving.is_set():
                    self._fault("lost", f"{case.name}: {error}, and nobody had killed the process")
            finally:
                if read.id:
                    with self._lock:
                        self.articles.append((case.name, read))

    def _vanish(self, number: int, chance: random.Random) -> None:
        self.serving.wait()
        try:
            connection, answer = begin(self.server.port, vanishing(number))
            for _ in range(chance.randrange(30)):
                answer.readline()
            vanish(connection, answer, chance.random() < 0.5)
        except (OSError, AttributeError, http.client.HTTPException):
            pass  # the process was killed first, or the answer was over
        with self._lock:
            self.counts["vanished"] += 1

    def _fault(self, kind: str, text: str) -> None:
        with self._lock:
            self.counts[kind] += 1
            self.faults.append(text)
        say(f"fault: {text}")


def _alone(server: ServerProcess, seeds: int) -> list[tuple[Case, str]]:
    """All cases, each asked for while nothing else is."""
    with official_client(server.url) as client:
        cases = all_cases(client, server.port, seeds)
        return [(case, case.ask(client, Read())) for case in cases]


def memory_part(server: ServerProcess, number: int, seeds: int) -> dict[str, Any]:
    """Whether a server's memory stays as it is over so many requests, whose clients may vanish.

    The first half of them warms up: KV slots that are left as prefix cache come to fill their share
    of memory. Growth is the mean of the last tenth over that of the tenth behind the middle.
    """
    storm = Storm(server, _alone(server, seeds))
    storm.serving.set()
    sizes: dict[int, int] = {}

    def look(answered: int) -> None:
        if answered % max(1, number // 200) == 0:
            sizes[answered] = server.rss()
        if answered % max(1, number // 10) == 0:
            say(f"{answered} requests: {server.rss() / 2**20:.0f} MB")

    began, idle = time.perf_counter(), server.rss()
    storm.run(number, look, seed=1)
    seconds = time.perf_counter() - began

    def mean(first: float, last: float) -> float:
        part = [size for at, size in sizes.items() if first * number < at <= last * number]
        return sum(part) / len(part)

    server.wait_until_idle()
    return {
        "rss_growth_mb": round((mean(0.9, 1.0) - mean(0.5, 0.6)) / 2**20, 1),
        "rss_mb": [round(each / 2**20) for each in (idle, mean(0.1, 0.2), mean(0.5, 0.6),
                                                   mean(0.9, 1.0))],
        "memory_requests": number,
        "memory_lost": storm.counts["lost"] + storm.counts["mixed"],
        "memory_vanished": storm.counts["vanished"],
        "requests_per_second": round(number / seconds, 2),
        "prefix_cache_mb": round(server.metrics()["unified_kv_prefix_bytes"] / 2**20),
    }  # fmt: skip


def killed_part(server: ServerProcess, number: int, kills: int, seeds: int) -> dict[str, Any]:
    """Requests while clients vanish and the process gets SIGKILL and is started again, so often."""
    storm = Storm(server, _alone(server, seeds))
    storm.serving.set()
    chance = random.Random(kills)
    due = sorted(chance.sample(range(1, number - number // 10), kills))
    over = threading.Event()

    def kill() -> None:
        for at in due:
            while storm.counts["answered"] < at:
                if over.wait(0.02):
                    return
            time.sleep(chance.uniform(0, 0.3))
            storm.serving.clear()
            storm.lives += 1
            server.kill()
            server.start()
            storm.serving.set()
            say(f"kill {storm.lives} of {kills}, after {storm.counts['answered']} requests")

    killer = threading.Thread(target=kill)
    killer.start()
    storm.run(number, lambda _: None, seed=2)
    over.set()
    killer.join()
    server.wait_until_idle()
    missing = _missing(server, storm)
    counts = storm.counts
    return {
        "lost": counts["lost"] + counts["mixed"] + missing,
        "lost_of": {"requests": counts["lost"], "mixed_up": counts["mixed"], "articles": missing},
        "answered": counts["answered"],
        "retried": counts["retried"],
        "vanished": counts["vanished"],
        "kills": storm.lives,
        "articles_completed": sum(read.complete for _, read in storm.articles),
        "articles_broken_off": sum(not read.complete for _, read in storm.articles),
        "start_s": round(sorted(server.starts)[len(server.starts) // 2], 2),
        "faults": storm.faults[:10],
    }


def _missing(server: ServerProcess, storm: Storm) -> int:
    """Articles that the library lacks, or has otherwise, though clients were told of them."""
    listed: dict[str, str] = {}
    page: dict[str, Any] = {"more": True}
    while page["more"]:
        before = f"&before={page['articles'][-1]['id']}" if listed else ""
        page = server.json(f"/v1/articles?limit=200{before}")
        listed |= {each["id"]: each["status"] for each in page["articles"]}
    missing, whole = 0, dict[str, str]()
    for name, read in storm.articles:
        expected = "completed" if read.complete else "stopped"
        fault = ""
        if listed.get(read.id) not in (expected, "completed"):
            fault = f"article {read.id} is {listed.get(read.id, 'not listed')}, not {expected}"
        else:
            document = server.json(f"/v1/articles/{read.id}/document")
            number = len(document["segments"])
            if read.segments and max(read.segments) >= number:
                fault = f"article {read.id} has {number} segments, {max(read.segments)} was done"
            elif read.complete:
                digest = document_digest(document)
                if whole.setdefault(name, digest) != digest:
                    fault = f"article {read.id} is another than others of its seed"
        if fault:
            missing += 1
            say(f"fault: {fault}")
            storm.faults.append(fault)
    return missing
