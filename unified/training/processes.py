"""The processes of a run: alone, or started by torchrun or `accelerate launch`.

accelerate finds them, their devices and their backend. Data-parallel processes hold the whole
decoder and add up their gradients once a step; under FSDP2 each holds a part of every parameter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import distributed, nn

__all__ = ["Processes", "shard"]


class Processes:
    """Which process this is, and what they do together."""

    def __init__(self) -> None:
        import os

        self.world, self.rank, self.device = 1, 0, torch.device("cpu")
        together = int(os.environ.get("WORLD_SIZE", "1")) > 1
        if together or torch.cuda.is_available():
            from accelerate import PartialState

            state = PartialState(cpu=not torch.cuda.is_available())
            self.world, self.rank = state.num_processes, state.process_index
            self.device = state.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            distributed.barrier()

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all processes, in float64."""
        if self.world == 1:
            return list(numbers)
        held = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(held)
        return held.tolist()

    def greatest(self, number: int) -> int:
        """Of all processes' numbers."""
        if self.world == 1:
            return number
        held = torch.tensor(number, dtype=torch.int64, device=self.device)
        distributed.all_reduce(held, distributed.ReduceOp.MAX)
        return int(held)

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in the order of the processes."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every parameter's gradient becomes the sum of all processes' ones.

        A process may have none of some: an expert met no id there, or its data has ended.
        """
        if self.world == 1:
            return
        held = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            held.append(parameter.grad)
        flat = torch.cat([gradient.flatten() for gradient in held])
        distributed.all_reduce(flat)
        for gradient, part in zip(held, flat.split([g.numel() for g in held])):
            gradient.copy_(part.view_as(gradient))

    def leave(self) -> None:
        if self.world > 1:
            distributed.destroy_process_group()


def shard(module: nn.Module, layers: Sequence[nn.Module], precision: str, found: Processes) -> None:
    """Split every parameter over the processes, by torch's FSDP2 (arXiv:2411.00284).

    torch's own call rather than accelerate's wrapper: that one shards on accelerators only, so that
    what is trained on many could not be tested here.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(found.device.type, (found.world,))
    how: dict[str, Any] = {"mesh": mesh}
    if precision == "bfloat16":
        # A pass's weights must not be rounded with what goes into the layers.
        how["mp_policy"] = MixedPrecisionPolicy(
            torch.bfloat16, torch.float32, cast_forward_inputs=False
        )
    for layer in layers:
        fully_shard(layer, **how)
    fully_shard(module, **how)
