"""Many threads step one engine in turns: whoever waits for an event of its own steps it for all.

No thread is kept for sampling: one caller's stream runs in the caller's thread, without a switch of
threads for each id. Of several callers one steps and the others sleep; whoever has what it waited
for leaves the turn to the next. Callers that cannot wait (event loops, callbacks) have one thread
of the driver's wait in their stead.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from unified_base.signals import HeldInterrupt

__all__ = ["Driver", "Failing", "Steppable"]

# Seconds after which a sleeper looks again by itself. Everything that it waits for wakes it; but a
# finalizer may run in the midst of the few lines between looking and sleeping.
_LOOK_AGAIN = 1.0


class Steppable(Protocol):
    """What a driver steps: `Engine`."""

    def step(self) -> bool:
        """Do what can be done in one pass; False once there is nothing to do."""


class Failing(Protocol):
    """Who is told that the engine failed: `Call`."""

    def fail(self, error: BaseException) -> None:
        """End with an error."""


class Driver:
    """Steps an engine for any number of threads, one at a time.

    Attributes:
        lock: of all that the waiting threads look at. Held for a few lines, never for a step.
        failure: what a step raised; nobody steps from then on.
    """

    def __init__(self, engine: Steppable) -> None:
        self.lock = threading.RLock()
        self.failure: BaseException | None = None
        self._engine = engine
        self._process = os.getpid()
        self._stepper: int | None = None  # the thread that steps
        self._sleepers: deque[threading.Condition] = deque()
        # Nothing to do is not asked for twice: not before something is added, resumed, cancelled.
        self._changes = 0
        self._idle_since = -1
        self._hooks: list[Callable[[], None]] = []
        self._callers: list[Failing] = []
        self._wanted: list[Callable[[], bool]] = []  # for each that asked for a thread
        self._thread: threading.Thread | None = None

    def condition(self) -> threading.Condition:
        """What one thread sleeps on; whoever changes what it waits for notifies it."""
        return threading.Condition(self.lock)

    def enter(self, caller: Failing, hook: Callable[[], None] | None = None) -> None:
        """Register a caller. hook: called before every step, in the thread that steps."""
        with self.lock:
            self._check()
            self._callers = [*self._callers, caller]
            if hook is not None:
                self._hooks = [*self._hooks, hook]

    def exit(self, caller: Failing, hook: Callable[[], None] | None = None) -> None:
        """The inverse of `enter`; again has no effect."""
        with self.lock:
            self._callers = [other for other in self._callers if other is not caller]
            self._hooks = [other for other in self._hooks if other is not hook]

    @property
    def is_forked(self) -> bool:
        """Whether this is another process than the one it steps in, without its threads."""
        return self._process != os.getpid()

    def steps_here(self) -> bool:
        """Whether this thread is the one that steps now, as in a callback of the engine."""
        return self._stepper == threading.get_ident()

    def changed(self) -> None:
        """Tell that the engine may have something to do again."""
        with self.lock:
            self._changes += 1
            self._wake_next()

    def wait(self, ready: Callable[[], bool], condition: threading.Condition) -> None:
        """Return once `ready` says yes; meanwhile step the engine if nobody else does.

        Args:
            ready: asked with the lock held.
            condition: see `condition`; notified when the answer may have changed.

        Raises:
            RuntimeError: the engine failed in another thread.
            BaseException: the engine failed in this thread, or Ctrl-C: whatever a step raised.
        """
        assert not self.steps_here(), "a callback of the engine would wait for itself"
        thread = threading.get_ident()
        try:
            while True:
                with self.lock:
                    if ready():
                        return
                    self._check()
                    changes = self._changes
                    if self._stepper is not None or self._idle_since == changes:
                        self._sleep(condition)
                        continue
                    self._stepper = thread
                self._step(changes)
        finally:
            # Here and not behind the step: Ctrl-C may come between any two lines.
            with self.lock:
                if self._stepper == thread:
                    self._stepper = None
                self._wake_next()

    def _sleep(self, condition: threading.Condition) -> None:
        self._sleepers.append(condition)
        try:
            condition.wait(_LOOK_AGAIN)
        finally:
            self._sleepers.remove(condition)

    def _step(self, changes: int) -> None:
        """One step, by this thread. changes: how many there were before it."""
        with HeldInterrupt():  # others share the step, which one of them must not tear off
            try:
                for hook in self._hooks:
                    hook()
                busy = self._engine.step()
            except BaseException as error:
                self._fail(error)
                raise
        with self.lock:
            self._stepper = None
            if not busy and changes == self._changes:
                self._idle_since = changes

    def _fail(self, error: BaseException) -> None:
        with self.lock:
            self.failure = error
            for caller in self._callers:
                caller.fail(self._stopped())

    def _check(self) -> None:
        if self.failure is not None:
            raise self._stopped()

    def _stopped(self) -> RuntimeError:
        reason = f"{type(self.failure).__name__}: {self.failure}".removesuffix(": ")
        error = RuntimeError(f"the engine stopped in the midst of a step: {reason}")
        error.__cause__ = self.failure
        return error

    def _wake_next(self) -> None:
        """Let one of those who sleep step, if nobody does and there is something to do."""
        if self._stepper is None and self._sleepers and self._idle_since != self._changes:
            self._sleepers[0].notify_all()

    # For callers that cannot wait.

    def step_in_background(self, wanted: Callable[[], bool]) -> None:
        """Step in a thread of the driver's while `wanted` says yes.

        wanted: asked before every step and every second, with the lock held. The thread is shared,
        and ends once nobody wants it.
        """
        with self.lock:
            self._wanted.append(wanted)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="unified sampling", daemon=True
                )
                self._thread.start()

    def _is_unwanted(self) -> bool:
        self._wanted = [wanted for wanted in self._wanted if wanted()]
        return not self._wanted

    def _run(self) -> None:
        background = self.condition()
        while True:
            try:
                self.wait(self._is_unwanted, background)
            except BaseException as error:
                if self.failure is not None and error is not self.failure:
                    return  # of another thread's step
                raise
            with self.lock:
                if self._is_unwanted():
                    self._thread = None
                    return
