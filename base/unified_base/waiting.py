"""How the threads of numerical libraries wait for each other: asleep, where a process can choose.

OpenMP's threads, torch's among them, wait awake for some milliseconds at the end of every loop.
Alone on a machine that saves the waking, a few per cent; where threads are more than cores they
keep those that they wait for from running: two processes that decode pictures on two cores take
six to twenty times the processor time of one, four more than that.
"""

from __future__ import annotations

import os
import sys

__all__ = ["wait_asleep"]

_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait, in this process and those that it starts.

    OpenMP reads its settings when it is loaded: after torch has been imported this does nothing,
    nor where the user has set one of them.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in _CHOICES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
