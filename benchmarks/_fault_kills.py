"""Every command that writes, killed at each of its calls, on full disks, and two at a time.

`measure` gives the figures of benchmarks/faults.py. Each killed command runs again and must end as
one that was never killed, byte for byte, with nothing else left in the folder.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _fault_cases import LOGS, cases
from _fault_inputs import make_inputs
from _fault_points import Case, Outcome, in_child, names_output, snapshot, try_case
from _shared import say

QUICK, ALL = 2, 16
"""Calls at most of each command at which it is killed."""
_SIZES = (16, 64, 256, 1024)
"""KiB of the disks that are too small."""
_LIMITS = (4, 16, 64, 256)
"""KiB that no file may grow beyond, where no disk can be mounted. What a command says goes into a
file too, and takes less than the smallest."""


def measure(quick: bool) -> dict[str, Any]:
    """kills: SIGKILLs before a rename, link, mkdir, unlink or fsync. kills_lost: those after which
    something was neither as before nor as it was to be, or that the same command did not mend.
    full_disk_cases, two_writers_cases: likewise, with their failures. full_disk_by: "tmpfs" where
    small disks can be mounted, else "RLIMIT_FSIZE", a limit of the size of files."""
    with tempfile.TemporaryDirectory() as name, _one_core():
        folder = Path(name)
        every = cases(make_inputs(folder))
        _warm(every, folder)
        mounts = _can_mount(folder / "probe")
        counts = {"kills": Outcome(), "full_disk": Outcome(), "two_writers": Outcome()}
        for case in every[:: 4 if quick else 1]:
            outcomes = {
                "kills": try_case(case, folder / "room", QUICK if quick else ALL),
                "full_disk": fill_disks(case, folder / "room", quick, mounts),
                "two_writers": write_twice(case, folder / "room", 1 if quick else 3),
            }
            killed = outcomes["kills"]
            say(f"{case.name}: {killed.tried} of {killed.points} calls")
            for kind, outcome in outcomes.items():
                counts[kind].add(outcome)
                for line in outcome.lost:
                    say(f"  {line}")
    return {
        "kills": counts["kills"].tried,
        "kills_lost": len(counts["kills"].lost),
        "full_disk_by": "tmpfs" if mounts else "RLIMIT_FSIZE",
        **{
            f"{kind}_{what}": number
            for kind in ("full_disk", "two_writers")
            for what, number in (
                ("cases", counts[kind].tried), ("failures", len(counts[kind].lost))
            )
        },
    }  # fmt: skip


@contextmanager
def _one_core() -> Iterator[None]:
    """No threads of libraries, which a fork would leave behind."""
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(before)})
    torch.set_num_threads(1)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        torch.set_num_threads(threads)


def _warm(every: list[Case], folder: Path) -> None:
    """Run the commands that sample, so that what they import and compile is there for children."""
    (folder / "warm").mkdir()
    for case in every:
        if case.name in ("draw", "speak", "write html", "data show", "model"):
            case.work(folder / "warm")


# Disks that are too small.


def fill_disks(case: Case, room: Path, quick: bool, mounts: bool) -> Outcome:
    """A command on disks of several sizes: it succeeds, or names the file and leaves nothing.

    mounts: whether disks can be mounted; else files may have those sizes at most.
    """
    outcome = Outcome()
    sizes = _SIZES if mounts else _LIMITS
    for kibibytes in sizes[1:2] if quick else sizes:
        with _small_disk(room, kibibytes) if mounts else _folder(room) as disk:
            outcome.tried += 1
            output = disk / "place"
            output.mkdir()
            log = room / "log"
            work = partial(case.work, output)
            code = in_child(work if mounts else partial(_limited, work, kibibytes), log)
            log_text = log.read_text("utf-8", "replace")
            what = "a disk of" if mounts else "a disk that takes files of at most"
            where = f"{case.name} on {what} {kibibytes} KiB"
            if code == 0:
                continue
            if code != 2 or not names_output(log_text, output):
                outcome.lost.append(f"{where}: exit code {code}: {log_text[-400:]}")
            left = snapshot(output, f"{LOGS}|alarms.jsonl", begun=True)
            if odd := [name for name in left if not _belongs_to_run(name)]:
                outcome.lost.append(f"{where}: left behind: {odd[:5]}")
    return outcome


def _belongs_to_run(name: str) -> bool:
    """A run keeps its folder, its checkpoints, codes and logs: it goes on from them."""
    return name.startswith(("R/", "C/")) and ".partial" not in name and ".tmp" not in name


def _can_mount(probe: Path) -> bool:
    """Whether this user may mount file systems in memory, as in containers few may."""
    try:
        with _small_disk(probe, 16):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _small_disk(room: Path, kibibytes: int) -> Iterator[Path]:
    """A file system of this size in memory."""
    with _folder(room) as disk:
        options = f"size={kibibytes}k,nr_inodes=400"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        subprocess.run(command, capture_output=True, check=True)
        try:
            yield disk
        finally:
            subprocess.run(["umount", str(disk)], check=True)


@contextmanager
def _folder(room: Path) -> Iterator[Path]:
    disk = room / "disk"
    disk.mkdir(parents=True)
    try:
        yield disk
    finally:
        shutil.rmtree(room)


def _limited(work: Callable[[], Any], kibibytes: int) -> Any:
    """Work in this process, none of whose files may grow beyond a size from now on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (kibibytes << 10, kibibytes << 10))
    return work()


# Two at a time.


def write_twice(case: Case, room: Path, rounds: int) -> Outcome:
    """The command, and the one that is to be replaced where there is one, to one place at a time.

    Each succeeds or says that another writes there; what stands in the end is whole, one of the
    two, with nothing else beside it.
    """
    outcome = Outcome()
    other = case.before or case.work
    ends = []
    for work in (case.work, other):
        output = room / "place"
        output.mkdir(parents=True)
        assert in_child(partial(work, output), room / "log") == 0, (room / "log").read_text()
        ends.append(snapshot(output, case.ignored))
        shutil.rmtree(room)
    for _ in range(rounds):
        output = room / "place"
        output.mkdir(parents=True)
        children = []
        for number, work in enumerate((case.work, other)):
            child = os.fork()
            if child == 0:
                os._exit(in_child(partial(work, output), room / f"log{number}") & 0xFF)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        outcome.tried += 1
        where = f"{case.name}, two at a time"
        log_texts = [(room / f"log{n}").read_text("utf-8", "replace") for n in (0, 1)]
        for code, text in zip(codes, log_texts):
            refused = code == 2 and ("another process" in text or "there is something" in text)
            if code != 0 and not (refused or "exists already" in text):
                outcome.lost.append(f"{where}: exit code {code}: {text[-400:]}")
        now = snapshot(output, case.ignored, begun=True)
        if not any(_equal(case, now, end) for end in ends) or 0 not in codes:
            odd = sorted(set(now.items()) ^ set(ends[0].items()))
            outcome.lost.append(f"{where}: neither of the two: {codes}, {odd[:6]}")
        shutil.rmtree(room)
    return outcome


def _equal(case: Case, now: dict[str, str], end: dict[str, str]) -> bool:
    """Whether the files' contents are those of a command that was alone; a medium may have another
    name (see `unified_base.together`), so that a file that names it has other bytes."""
    return now == end or (
        case.name.startswith(("write md", "write json", "sample"))
        and {d for n, d in end.items() if not n.endswith((".md", ".json"))} <= set(now.values())
        and len(now) == len(end)
    )
