"""Fuzzing what reads other people's data: shards, documents, media and the sources of importers.

Sound inputs are broken by seeded mutations and read by the real readers. Each must be accepted or
refused with a ValueError (or, in the tolerant readers, a CorruptSample or Skipped). Anything else
is a failure: another exception, a hang, a crash of the process, memory beyond a bound, a file
opened outside the source's folder, and anything executed or connected to, which an audit hook sees.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import typing
from collections import Counter
from pathlib import Path
from typing import Any

from _fuzz_cases import Cases
from _fuzz_inputs import OUTSIDE

import unified_base

SECONDS = 5.0
"""What one case may take."""
GROWTH = 3 << 29
"""Bytes that a process may grow by: a picture may have 64 million pixels, and putting a transparent
one on white takes 20 bytes for each."""
_CHUNK = 2_000
_FORBIDDEN = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
              "os.startfile", "pickle.find_class", "socket.", "ctypes.dlopen", "urllib.",
              "webbrowser.", "shutil.unpack")  # fmt: skip


class _Hang(BaseException):
    """Raised by the watchdog; nothing catches it on its way."""


def fuzz(cases: int, seed: int = 0) -> dict[str, Any]:
    """Read that many broken inputs; what came of it.

    fuzz_cases; fuzz_failures; accepted, refused: cases by outcome; by_target: both for each kind of
    input; by_reason: how often each reason was given, the most frequent 40; failures: the first 20,
    each with its case, to be run again by `reproduce`; growth_mb: memory; seconds.
    """
    began = time.perf_counter()
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    targets: dict[str, Counter[str]] = {}
    failures: list[dict[str, Any]] = []
    growth = done = 0
    while done < cases:
        end = min(cases, done + _CHUNK)
        outcome = _in_child(done, end, seed)
        total.update(outcome["total"])
        reasons.update(outcome["reasons"])
        for name, counts in outcome["targets"].items():
            targets.setdefault(name, Counter()).update(counts)
        failures += outcome["failures"]
        growth = max(growth, outcome["growth"])
        done = outcome["next"]
    return {
        "fuzz_cases": done,
        "fuzz_failures": total["failed"],
        "accepted": total["accepted"],
        "refused": total["refused"],
        "by_target": {name: dict(targets[name]) for name in sorted(targets)},
        "by_reason": dict(reasons.most_common(40)),
        "failures": failures[:20],
        "growth_mb": round(growth / 1e6, 1),
        "seconds": round(time.perf_counter() - began, 1),
    }


def reproduce(case: int, seed: int = 0) -> str:
    """Run one case again in this process, to see its traceback; its outcome."""
    with tempfile.TemporaryDirectory() as folder:
        return Cases(Path(folder), seed).run(case)[1]


def _in_child(begin: int, end: int, seed: int) -> dict[str, Any]:
    """Run cases in a process of their own, so that a crash is one failure and not the end."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    inside, outside = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inside)
        code = 1
        faulthandler.disable()  # a crash is told by its exit code
        stderr = os.dup(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the MP3 library writes what it meets there
        try:
            with open(outside, "w") as pipe:
                _chunk(begin, end, seed, folder, pipe)
            code = 0
        except BaseException:
            os.write(stderr, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(outside)
    position, result = begin, None
    with open(inside) as pipe:
        for line in pipe:  # "case N" before each case, and the result at the end
            if line.startswith("case "):
                position = int(line[5:])
            else:
                result = json.loads(line)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(folder, ignore_errors=True)
    if result is not None and status == 0:
        return result
    error = f"the process ended with {os.waitstatus_to_exitcode(status)}"
    failure = {"case": position, "seed": seed, "target": "?", "error": error}
    if position > begin:  # the counts of the cases before it went with the process
        outcome = _in_child(begin, position, seed)
        outcome["total"]["failed"] = outcome["total"].get("failed", 0) + 1
        return {**outcome, "failures": [*outcome["failures"], failure], "next": position + 1}
    return {"total": {"failed": 1}, "reasons": {}, "targets": {}, "failures": [failure],
            "growth": 0, "next": position + 1}  # fmt: skip


def _chunk(begin: int, end: int, seed: int, folder: Path, pipe: Any) -> None:
    run = Cases(folder, seed)
    for case in range(64):  # so that imports on first use come before the hook and the measure
        run.run(10**9 + case)
    events = _watch(folder)
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    targets: dict[str, Counter[str]] = {}
    failures = []
    start = _peak()

    def alarm(*_: object) -> None:
        raise _Hang(f"took longer than {SECONDS:g} s")

    signal.signal(signal.SIGALRM, alarm)
    for case in range(begin, end):
        pipe.write(f"case {case}\n")
        pipe.flush()
        target, outcome, error = "?", "failed", ""
        peak = _peak()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        # Inside a C library no handler runs: then the process ends.
        faulthandler.dump_traceback_later(10 * SECONDS, exit=True, file=2)
        try:
            target, reason = run.run(case)
            outcome = "refused" if reason else "accepted"
            if reason:
                reasons[_plain(reason)] += 1
        except BaseException as raised:
            target = run.target
            where = traceback.extract_tb(raised.__traceback__)[-1]
            error = f"{type(raised).__name__}: {str(raised)[:200]} ({where.name}, {where.filename})"
        signal.setitimer(signal.ITIMER_REAL, 0)
        if events:
            outcome, error = "failed", f"did {events[:3]}"
            events.clear()
        if _peak() - start > GROWTH and _peak() > peak:
            outcome, error = "failed", f"memory grew by {(_peak() - start) / 1e6:.0f} MB"
        total[outcome] += 1
        targets.setdefault(target, Counter())[outcome] += 1
        if outcome == "failed":
            failures.append({"case": case, "seed": seed, "target": target, "error": error})
    result = {"total": total, "reasons": reasons, "targets": targets, "failures": failures,
              "growth": _peak() - start, "next": end}  # fmt: skip
    pipe.write(json.dumps(result) + "\n")


def _watch(folder: Path) -> list[str]:
    """Puts an audit hook into this process for good; what it sees is added to the list."""
    events: list[str] = []
    secret = str((folder / OUTSIDE).resolve())
    # Running a module's code is how imports on first use look.
    ours = tuple(
        {
            "<frozen importlib",
            sys.prefix,
            sys.base_prefix,
            str(Path(unified_base.__file__).parents[2]),
        }
    )

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_FORBIDDEN):
            events.append(f"{event} {arguments!r}"[:200])
        elif event == "open" and isinstance(arguments[0], str):
            if arguments[0].startswith(secret) or arguments[0] == "/etc/passwd":
                events.append(f"open {arguments[0]}")
        elif event == "exec" and not getattr(arguments[0], "co_filename", "").startswith(ours):
            # Annotations of our own classes are evaluated by typing when an error names fields.
            if sys._getframe(1).f_code.co_filename == typing.__file__:
                return
            events.append(f"exec {arguments[0]!r}"[:200])

    sys.addaudithook(hook)
    return events


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _plain(reason: str) -> str:
    """A reason without names and numbers, so that equal ones are counted together."""
    reason = re.sub(r"^.*?(line|item|row|sample|annotation) \S+: ", "", reason)
    reason = re.sub(
        r"'[^']*'|\"[^\"]*\"|[\w.-]+\.(png|jpg|webp|flac|wav|json|codes|tar)", "_", reason
    )
    return re.sub(r"\S*[0-9/]\S*", "#", reason)[:90]
