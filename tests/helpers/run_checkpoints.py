"""Checkpoints of a run, compared bit for bit."""

from pathlib import Path

import torch
from safetensors.torch import load_file


def tensors(output: str, step: int = 6) -> dict[str, torch.Tensor]:
    folder = Path(output) / "checkpoints" / f"step-{step:07d}"
    return load_file(folder / "part-00000-of-00001.safetensors")


def same(single: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert single.keys() == other.keys()
    for name, value in single.items():
        assert torch.equal(other[name], value), name
