"""The cluster of Ray that a command works on: the one there is, or one of this machine alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unified_base.extras import missing_extra

__all__ = ["cores_each", "ray_cluster"]

_MOST_CORES = 8  # of an engine: more seldom have more memory to read from


@contextmanager
def ray_cluster(purpose: str) -> Iterator[Any]:
    """The module `ray`, connected while the block runs.

    To the cluster that RAY_ADDRESS names ("auto": the one that this machine is part of); where that
    is not set one of this machine alone is started, whose processes end with the block. Whoever is
    connected already stays so.

    purpose: what an error calls it. Raises ValueError where ray is not installed, or no cluster can
    be reached.
    """
    try:
        import ray
    except ImportError:
        raise missing_extra(purpose, "ray", "ray") from None
    if ray.is_initialized():
        yield ray
        return
    try:
        # Without an address Ray joins what a file in /tmp names, and waits for it if it is gone.
        address = os.environ.get("RAY_ADDRESS") or "local"
        own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        ray.init(address, **own, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # some are no more than that
        reason = " ".join(str(error).split())
        raise ValueError(
            f"no cluster of Ray can be reached or started: {reason}; is RAY_ADDRESS right, and has"
            " the machine room for it?"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def cores_each(ray: Any, engines: int) -> int:
    """Cores of each of several engines, so that their share of them fits on the smallest machine.

    ray: as `ray_cluster` gives it.
    """
    cores = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    machines = [int(number) for number in cores if number >= 1]
    if not machines:
        return 1
    beside = -(-engines // len(machines))
    return max(1, min(_MOST_CORES, min(machines) // beside))
