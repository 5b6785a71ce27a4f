"""Worker processes that end with their parent, however the parent ends.

A worker learns of its parent's death from the system (Linux) and from a thread that waits for the
end of a pipe (everywhere); both also work where the parent died before the worker had started.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

__all__ = ["Tie", "in_processes"]

_PR_SET_PDEATHSIG = 1
_AHEAD = 4
"""Results for each worker that wait for one before them."""


class Tie:
    """Made by a process for those that it will start; they call `hold` first of all."""

    def __init__(self) -> None:
        self.parent = os.getpid()
        # The system's signal comes when the thread that started a process ends.
        self.by_signal = threading.current_thread() is threading.main_thread()

    def hold(self) -> None:
        """End this process as soon as its parent has ended. SIGINT is the parent's to answer."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if sys.platform == "linux" and self.by_signal:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self.parent:
            os._exit(1)
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def in_processes(
    function: Callable[[Any], Any],
    jobs: Sequence[Any],
    workers: int,
    start: Callable[[], None] | None = None,
    method: str = "spawn",
    ordered: bool = False,
    name: Callable[[Any], str] = repr,
    advice: str = "",
) -> Generator[tuple[int, Any]]:
    """What a function makes of jobs in other processes: (number of the job, result).

    Args:
        function, start: importable by name; `start` runs once in each worker.
        workers: processes; as many as there are jobs at most.
        method: how they begin, "spawn" or "fork".
        ordered: results in the order of the jobs, else as they come.
        name: how the error that a worker was killed calls its job. advice: what to do then.

    When the iteration ends, is closed or fails, the workers have ended.

    Raises:
        ValueError: a worker was killed; its job is named.
        Exception: what the function or `start` raised.
    """
    context: Any = multiprocessing.get_context(method)
    tie = Tie()
    crew: list[_Worker] = []
    try:
        for _ in range(min(workers, len(jobs))):
            crew.append(_Worker(context, tie, function, start))
        yield from _deal(crew, jobs, ordered)
    except _Ended as ended:
        job = name(jobs[ended.number]) if ended.number is not None else "its first job"
        raise ValueError(
            f"{ended} while it worked on {job}{'; ' if advice else ''}{advice}"
        ) from None
    finally:
        for worker in crew:
            worker.close()


class _Ended(Exception):  # noqa: N818  the error for the user is made of it
    """A worker is gone. number: of its job."""

    def __init__(self, text: str, number: int | None) -> None:
        super().__init__(text)
        self.number = number


def _deal(crew: list[_Worker], jobs: Sequence[Any], ordered: bool) -> Generator[tuple[int, Any]]:
    waiting: dict[int, Any] = {}
    begun = told = 0
    while told < len(jobs):
        for worker in crew:
            if worker.job is None and begun < min(len(jobs), told + _AHEAD * len(crew)):
                worker.begin(begun, jobs[begun])
                begun += 1
        busy = {worker.pipe: worker for worker in crew if worker.job is not None}
        for pipe in wait([*busy]):
            worker = busy[pipe]  # type: ignore[index]
            number, result = worker.result()
            waiting[number] = result
        ready = [told] if ordered else [*waiting]
        while ready and ready[0] in waiting:
            number = ready.pop(0)
            yield number, waiting.pop(number)
            told += 1
            if ordered:
                ready.append(told)


class _Worker:
    """A process, and the end of the pipe to it. job: the number of what it works on."""

    def __init__(
        self,
        context: Any,
        tie: Tie,
        function: Callable[[Any], Any],
        start: Callable[[], None] | None,
    ) -> None:
        self.job: int | None = None
        self.pipe: Connection
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(tie, other), daemon=True)
        self._process.start()
        other.close()
        # What they need to be read may take seconds to import: only once the worker is tied.
        self._send((function, start))

    def begin(self, number: int, job: Any) -> None:
        self.job = number
        self._send(job)

    def _send(self, message: Any) -> None:
        try:
            self.pipe.send(message)
        except OSError:
            raise self._ended() from None

    def result(self) -> tuple[int, Any]:
        """The job's number, and its result."""
        assert self.job is not None
        try:
            sound, value = self.pipe.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        number, self.job = self.job, None
        if not sound:
            raise value
        return number, value

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _ended(self) -> _Ended:
        self._process.join(1)
        code = self._process.exitcode
        why = f"exit code {code}"
        if code is not None and code < 0:
            why = f"signal {signal.Signals(-code).name}"
        return _Ended(f"a worker process ({self._process.pid}) was ended ({why})", self.job)


def _work(tie: Tie, pipe: Connection) -> None:
    """What a worker does: results until its parent hangs up."""
    tie.hold()
    try:
        function, start = pipe.recv()
        ready = start is None
        while True:
            job = pipe.recv()
            try:
                if not ready and start is not None:
                    start()
                    ready = True
                answer = True, function(job)
            except Exception as error:
                answer = False, error
            pipe.send(answer)
    except (EOFError, OSError):
        return
