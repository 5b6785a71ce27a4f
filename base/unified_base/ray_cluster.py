"""The cluster of Ray that a command works on: the one there is, or one of this machine alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from unified_base.extras import missing_extra

__all__ = ["ray_cluster"]


@contextmanager
def ray_cluster(purpose: str) -> Iterator[Any]:
    """The module `ray`, connected while the block runs.

    To the cluster that RAY_ADDRESS names or that runs on this machine; else one is started, whose
    processes end with the block. Whoever is connected already stays so.

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
        ray.init(
            include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
        )  # fmt: skip
    except (ConnectionError, RuntimeError) as error:
        raise ValueError(
            f"no cluster of Ray can be reached: {error}; is RAY_ADDRESS right?"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
