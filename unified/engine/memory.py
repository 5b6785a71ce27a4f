"""How much memory there is for KV caches."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_bytes"]

_UNKNOWN = 4 << 30  # where the system does not say


def available_bytes() -> int:
    """Bytes of memory that a program could use now without others being swapped out.

    On Linux what the kernel says, and what the control group of this process leaves; elsewhere half
    of what is built in, where that is known.
    """
    limits = [_of_machine(), _of_group(Path("/sys/fs/cgroup"))]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else _UNKNOWN


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):  # Windows has none of these
        return None


def _of_group(folder: Path) -> int | None:
    """What a control group (version 2) may still take; None where nothing bounds it."""
    try:
        most = (folder / "memory.max").read_text().strip()
        current = int((folder / "memory.current").read_text())
    except OSError:
        return None
    return max(0, int(most) - current) if most.isdecimal() else None
