"""Data-parallel training: one process a device, started by torchrun; every process steps alike.

Losses are computed by methods of the tokenizers, not by one `forward`, so gradients are averaged by
hand after `backward`. Codebooks that follow by moving averages are kept in step by the quantizer
library, and `check_in_step` finds out when anything is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed, nn

__all__ = [
    "average_gradients", "check_in_step", "greatest", "join", "leave", "rank", "wait", "world_size",
]  # fmt: skip


def join() -> bool:
    """Join the processes that torchrun started; False where this process is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return False
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return True


def leave() -> None:
    """Leave them again."""
    distributed.destroy_process_group()


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 logs and saves."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def greatest(numbers: Sequence[int]) -> list[int]:
    """Of each number the greatest of all processes."""
    if world_size() == 1:
        return list(numbers)
    held = torch.tensor(numbers, dtype=torch.int64)
    distributed.all_reduce(held, distributed.ReduceOp.MAX)
    return [int(number) for number in held]


def wait() -> None:
    """Until all processes are here."""
    if world_size() > 1:
        distributed.barrier()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean of all processes' gradients, in all of them."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(part.view_as(gradient))


def check_in_step(module: nn.Module, step: int) -> None:
    """Raises ValueError where the processes' parameters or buffers (codebooks) have drifted apart.

    They are compared bit by bit, through sums of their bit patterns.
    """
    if world_size() == 1:
        return
    names, sums = [], []
    for name, value in module.state_dict().items():
        names.append(name)
        sums.append(_sum(value))
    mine = torch.stack(sums)
    first = mine.clone()
    distributed.broadcast(first, src=0)
    wrong = [name for name, same in zip(names, (mine == first).tolist()) if not same]
    bad = torch.tensor(len(wrong))
    distributed.all_reduce(bad)
    if bad:
        at = f"; here first in {wrong[0]}" if wrong else ""
        raise ValueError(f"the processes have drifted apart at step {step}{at}")


def _sum(value: Tensor) -> Tensor:
    """A sum over bit patterns, each weighed by its place."""
    whole = value.detach().contiguous().flatten()
    if whole.is_floating_point():
        whole = whole.float().view(torch.int32)
    places = torch.arange(1, len(whole) + 1, dtype=torch.int64, device=whole.device)
    return (whole.long() * places).sum().cpu()
