"""The state of torch's random numbers as JSON holds it: dropout goes on where it stopped."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

__all__ = ["random_state", "restore_random_state"]


def random_state(device: torch.device) -> dict[str, str]:
    """The states of the CPU's generator and, where it is in use, of the GPU's, in base64."""
    states = {"cpu": _to_text(torch.get_rng_state())}
    if device.type == "cuda":
        states["cuda"] = _to_text(torch.cuda.get_rng_state(device))
    return states


def restore_random_state(states: Mapping[str, str], device: torch.device) -> None:
    """Take up `random_state` again; a GPU's is left as it is where there was none."""
    torch.set_rng_state(_from_text(states["cpu"]))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(_from_text(states["cuda"]), device)


def _to_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _from_text(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), np.uint8).copy())
