"""The time that files of articles bear."""

from __future__ import annotations

import os
import time

__all__ = ["time_of_export"]


def time_of_export() -> float:
    """Seconds since 1970: now, or what SOURCE_DATE_EPOCH says, so that files can be made again.

    https://reproducible-builds.org/specs/source-date-epoch/
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    within = epoch.isascii() and epoch.isdigit() and len(epoch) <= 10
    return float(epoch) if within else time.time()
