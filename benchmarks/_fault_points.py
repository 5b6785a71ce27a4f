"""Faults at chosen calls of the system: the n-th rename, link, mkdir, unlink, fsync in a folder.

A child process does the work and is ended by SIGKILL just before that call, or is told that the
disk is full. `Case` says what the work is and when what it left is whole.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any

CALLS = ("replace", "rename", "link", "symlink", "unlink", "remove", "mkdir", "rmdir", "fsync")
_BEGUN = re.compile(r"\..*\.(partial|lock|replaced)\Z")
"""Names of what a killed process may leave for the next one to remove."""

Snapshot = dict[str, str]
"""Files below a folder by their path, each with a digest of its content; folders end with a /."""


class Fault:
    """Counts the calls that concern a folder, and does something before one of them.

    at: the call, from 1; None only counts. action: "kill", or the name of an errno, which the
    call and those after it (a full disk stays full) fail with, but for removals.
    """

    def __init__(self, folder: Path, at: int | None, action: str = "kill") -> None:
        self.folder = os.path.realpath(folder)
        self.at, self.action = at, action
        self.count = 0
        self.calls: list[str] = []

    @contextmanager
    def __call__(self) -> Iterator[Fault]:
        from unified_base import exchange

        before = {name: getattr(os, name) for name in CALLS}
        system_call = exchange._system_call
        for name, function in before.items():
            setattr(os, name, self._wrapped(name, function))

        def swapping() -> Any:
            swap = system_call()
            return None if swap is None else self._wrapped("exchange", swap)

        exchange._system_call = swapping
        try:
            yield self
        finally:
            exchange._system_call = system_call
            for name, function in before.items():
                setattr(os, name, function)

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if any(self._inside(arg, named) for arg in (*args, *named.values())):
                self._meet(name)
            return function(*args, **named)

        return call

    def _meet(self, name: str) -> None:
        self.count += 1
        self.calls.append(name)
        if self.at is None or self.count < self.at:
            return
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif name not in ("unlink", "remove", "rmdir"):
            number = getattr(errno, self.action)
            raise OSError(number, os.strerror(number))

    def _inside(self, arg: Any, named: dict[str, Any]) -> bool:
        if isinstance(arg, int) and not isinstance(arg, bool):
            try:
                path = os.readlink(f"/proc/self/fd/{arg}")
            except OSError:
                return False
        elif isinstance(arg, str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(arg))
        else:
            return False
        return path == self.folder or path.startswith(f"{self.folder}{os.sep}")


def all_or_nothing(folder: Path, now: Snapshot, before: Snapshot, after: Snapshot) -> bool:
    return now in (before, after)


@dataclass
class Case:
    """A piece of work that writes below a folder.

    Attributes:
        name: of the command and its output.
        work: does it, given the folder; a command's exit code or None.
        before: what is done first, undisturbed, where something is to be replaced.
        whole: whether what lies below a folder is whole, given its snapshot and those of before and
            of the work undisturbed; by default every file is one of theirs, all of before or all of
            the work's.
        ignored: names of files that differ from run to run (logs).
    """

    name: str
    work: Callable[[Path], Any]
    before: Callable[[Path], Any] | None = None
    whole: Callable[[Path, Snapshot, Snapshot, Snapshot], bool] = all_or_nothing
    ignored: str = r"(?!)"


def snapshot(folder: Path, ignored: str = r"(?!)", begun: bool = False) -> Snapshot:
    """What lies below a folder. begun: with what is only begun."""
    entries: Snapshot = {}
    for parent, folders, names in os.walk(folder):
        if not begun:
            folders[:] = [name for name in folders if not _BEGUN.fullmatch(name)]
        inside = Path(parent).relative_to(folder)
        entries |= {f"{inside / name}/": "" for name in folders}
        for name in names:
            if re.fullmatch(ignored, name) or (_BEGUN.fullmatch(name) and not begun):
                continue
            data = (Path(parent) / name).read_bytes()
            entries[str(inside / name)] = hashlib.sha256(data).hexdigest()[:16]
    return entries


def in_child(work: Callable[[], Any], log: Path) -> int:
    """Run something in a forked process; its exit code, or minus the signal that ended it."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            with log.open("wb", buffering=0) as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            code = int(work() or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@dataclass
class Outcome:
    """points: calls that the work makes. tried: those at which it met the fault. lost: what was not
    whole, or not mended by the same command, one line each."""

    points: int = 0
    tried: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.points += other.points
        self.tried += other.tried
        self.lost += other.lost


def try_case(case: Case, room: Path, most: int, action: str = "kill") -> Outcome:
    """Meet a case with a fault at each of its calls, `most` of them spread evenly.

    room: an empty folder for it, removed afterwards.
    """
    outcome = Outcome()
    log = room / "log"

    def fresh(name: str) -> Path:
        folder = room / name
        shutil.rmtree(folder, ignore_errors=True)
        if (room / "before").is_dir():
            shutil.copytree(room / "before", folder, symlinks=True)
        else:
            folder.mkdir(parents=True)
        return folder

    # All at one path: what is written may name it.
    output = fresh("place")
    if case.before is not None:
        assert in_child(lambda: case.before(output), log) == 0, log.read_text()  # type: ignore[misc]
        shutil.move(output, room / "before")
        output = fresh("place")
    before = snapshot(output, case.ignored)
    assert in_child(lambda: _count(case, output, room / "calls"), log) == 0, log.read_text()
    after = snapshot(output, case.ignored, begun=True)
    calls = (room / "calls").read_text().split()
    outcome.points = len(calls)
    step = max(1.0, len(calls) / most)
    for at in sorted({int(i * step) + 1 for i in range(min(most, len(calls)))}):
        output = fresh("place")
        fault = Fault(output, at, action)

        def work(fault: Fault = fault, output: Path = output) -> Any:
            with fault():
                return case.work(output)

        code = in_child(work, log)
        log_text = log.read_text("utf-8", "replace")
        where = f"{case.name}, {action} before call {at} ({calls[at - 1]})"
        if action == "kill" and code != -signal.SIGKILL:
            outcome.lost.append(f"{where}: it was not killed ({code}): {log_text[-300:]}")
            continue
        outcome.tried += 1
        now = snapshot(output, case.ignored)
        # What is only tried, or comes after all is in its place, may fail without an error.
        if action != "kill" and not (code == 0 and now == after):
            outcome.lost += [f"{where}: {fault}" for fault in _complaints(code, log_text, output)]
        if not case.whole(output, now, before, after):
            outcome.lost.append(f"{where}: not whole: {_difference(now, before, after)}")
        if in_child(partial(case.work, output), log) != 0:
            outcome.lost.append(f"{where}: a second run failed: {log.read_text()[-500:]}")
        elif (mended := snapshot(output, case.ignored, begun=True)) != after:
            odd = sorted(set(mended.items()) ^ set(after.items()))
            outcome.lost.append(f"{where}: a second run ends otherwise: {odd[:6]}")
    shutil.rmtree(room)
    return outcome


def _count(case: Case, output: Path, record: Path) -> Any:
    with Fault(output, None)() as fault:
        code = case.work(output)
    record.write_text("\n".join(fault.calls))
    return code


def names_output(log_text: str, output: Path) -> bool:
    """Whether a command said in one line which file below a folder it could not write."""
    return (
        re.search(rf"error: cannot (write|create)[^\n]* {re.escape(str(output))}", log_text)
        is not None
    )


def _complaints(code: int, log_text: str, output: Path) -> Iterator[str]:
    """What is wrong with how a command told of an error of the system."""
    if code != 2:
        yield f"exit code {code}: {log_text[-300:]}"
    elif not names_output(log_text, output):
        yield f"the file is not named: {log_text[-300:]}"
    names = (PurePath(name).name for name in snapshot(output, begun=True))
    if left := [name for name in names if _BEGUN.fullmatch(name)]:
        yield f"left behind: {left}"


def _difference(now: Snapshot, before: Snapshot, after: Snapshot) -> str:
    return (
        f"not as before {sorted(set(now.items()) ^ set(before.items()))[:4]}, "
        f"nor as after {sorted(set(now.items()) ^ set(after.items()))[:4]}"
    )
