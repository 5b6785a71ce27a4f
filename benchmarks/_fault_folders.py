"""Mutated model folders: each is opened and used, or refused in one line, whatever is in it.

A failure is anything but success or a one-line ValueError that a terminal can show, more than ten
seconds, or more than 1 GB. Cases run in forked children, so that a crash is one failure.
"""

from __future__ import annotations

if __name__ == "__main__":
    import _path  # noqa: F401 (before all others)

import json
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from _fault_models import FOLDERS, use
from _fault_mutations import mutate
from _shared import say

SECONDS = 10
"""Of processor time, that one case may take: the machine may be busy."""
MEMORY = 1 << 30
"""Bytes of address space that a case may add."""
_CHUNK = 40


class _Hang(BaseException):
    """Raised by the alarm; nothing catches it on its way."""


def measure(count: int, seed: int = 0, only: tuple[str, ...] = tuple(FOLDERS)) -> dict[str, Any]:
    """Use that many mutated folders.

    folder_cases; folder_failures; folder_refused; folder_by_kind: (accepted, refused) by folder and
    mutation; folder_first_failures: the first 20, each with its case for `reproduce`.
    """
    _warm_up()
    with tempfile.TemporaryDirectory(prefix="folders-") as name:
        bases = {kind: Path(name) / kind for kind in only}
        for kind, folder in bases.items():
            FOLDERS[kind](folder)
            use(kind, folder)
        counts: Counter[str] = Counter()
        kinds: dict[str, Counter[str]] = {}
        failures: list[dict[str, Any]] = []
        case = 0
        while case < count:
            case = _chunk(case, min(count, case + _CHUNK), seed, bases, counts, kinds, failures)
            if case % (_CHUNK * 10) == 0:
                say(f"{case:,} mutated folders, {len(failures)} failures")
    return {
        "folder_cases": case,
        "folder_failures": len(failures),
        "folder_refused": counts["refused"],
        "folder_by_kind": {name: dict(outcomes) for name, outcomes in sorted(kinds.items())},
        "folder_first_failures": failures[:20],
    }


def run_case(case: int, seed: int, bases: dict[str, Path], scratch: Path) -> tuple[str, str, str]:
    """(folder and mutation, outcome, message) of one case; outcome is accepted, refused, failed."""
    rng = random.Random(f"{seed} {case}")
    kind = rng.choice(list(bases))
    folder = scratch / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bases[kind], folder)
    what = kind
    try:
        what = f"{kind} {mutate(folder, rng)}"
        use(kind, folder)
    except ValueError as error:
        message = str(error)
        plain = message.isprintable() and 0 < len(message) < 2000
        return what, "refused" if plain else "failed", repr(message[:2000])
    except _Hang:
        signal.setitimer(signal.ITIMER_PROF, 0)  # or the next one may end the process
        return what, "failed", f"more than {SECONDS} s: {_where()}"
    except BaseException as error:
        return what, "failed", f"{type(error).__name__}: {str(error)[:300]} {_where()}"
    return what, "accepted", ""


def reproduce(case: int, seed: int = 0) -> None:
    """Use the folder of one case in this process, to see its traceback."""
    with tempfile.TemporaryDirectory() as name:
        rng = random.Random(f"{seed} {case}")
        kind = rng.choice(list(FOLDERS))
        folder = Path(name) / "model"
        FOLDERS[kind](folder)
        print(kind, mutate(folder, rng))
        use(kind, folder)


def _warm_up() -> None:
    """Import what the children would import each for themselves."""
    import torch
    import transformers

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity(50)


def _where() -> str:
    import sys

    error = sys.exc_info()[1]
    frames = traceback.extract_tb(error.__traceback__) if error else []
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[::-1][:6])


def _chunk(
    begin: int, end: int, seed: int, bases: dict[str, Path], counts: Counter[str],
    kinds: dict[str, Counter[str]], failures: list[dict[str, Any]],
) -> int:  # fmt: skip
    """Run cases in a child; the number of the next one."""
    scratch = Path(tempfile.mkdtemp(prefix="folder-"))
    inside, outside = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inside)
        try:
            _run(begin, end, seed, bases, scratch, outside)
        finally:
            os._exit(0)
    os.close(outside)
    done, began = begin, time.monotonic()
    with open(inside) as pipe:
        for line in pipe:
            what, outcome, message = json.loads(line)
            counts[outcome] += 1
            kinds.setdefault(what, Counter())[outcome] += 1
            if outcome == "failed":
                failures.append({"case": done, "what": what, "error": message})
            done += 1
    _, status = os.waitpid(child, 0)
    shutil.rmtree(scratch, ignore_errors=True)
    if done < end:
        code = os.waitstatus_to_exitcode(status)
        took = time.monotonic() - began
        failures.append({"case": done, "error": f"the process ended with {code} ({took:.0f} s)"})
        counts["failed"] += 1
        done += 1
    return done


def _run(
    begin: int, end: int, seed: int, bases: dict[str, Path], scratch: Path, pipe: int
) -> None:  # fmt: skip
    """In the child: cases one after another, a line for each."""

    def alarm(*_: Any) -> None:
        raise _Hang

    signal.signal(signal.SIGALRM, alarm)
    signal.signal(signal.SIGPROF, alarm)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + MEMORY,) * 2)
    for case in range(begin, end):
        # A second alarm, should the first fall into code that calls nothing of Python's.
        signal.setitimer(signal.ITIMER_PROF, SECONDS, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, 12 * SECONDS, SECONDS)  # for what waits
        outcome = run_case(case, seed, bases, scratch)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        os.write(pipe, (json.dumps(outcome) + "\n").encode())


if __name__ == "__main__":
    import sys

    result = measure(*map(int, sys.argv[1:3]), tuple(sys.argv[3:]) or tuple(FOLDERS))
    print(json.dumps(result, indent=1))
