"""Let the threads of numerical libraries sleep while they wait for each other, instead of spinning.

OpenMP's threads, torch's among them, spin for some milliseconds at the end of every parallel loop.
On an idle machine that saves a few per cent. Where there are more threads than cores, a spinning
thread keeps the one that it waits for from running: two processes that decode pictures on two cores
take six to twenty times the processor time of one, four more than that.
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
        # GNU's, which torch has on Linux: first a moment awake. Asleep at once, a picture alone
        # on two cores takes 27 ms; so 23.5, and 22 where they never sleep.
        os.environ["GOMP_SPINCOUNT"] = "2000"
