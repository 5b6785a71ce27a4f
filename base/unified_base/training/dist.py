"""The processes of a run: alone, or started by torchrun or `accelerate launch`.

accelerate finds them, their devices and their backend. Data-parallel processes hold the whole
model and add up their gradients once a step; under FSDP2 each holds a part of every parameter.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

__all__ = ["DistContext", "shard"]

T = TypeVar("T")


class DistContext:
    """Which process this is, and what the processes do together.

    Attributes:
        rank, world: which process of how many this is.
        device: the accelerator of this process where there is one, else the CPU.
    """

    def __init__(self, cpu: bool = False) -> None:
        """Join the processes that a launcher started, if any. cpu: leave accelerators alone."""
        self.world, self.rank, self.device = 1, 0, torch.device("cpu")
        cpu = cpu or not torch.cuda.is_available()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 or not cpu:
            from accelerate import PartialState

            state = PartialState(cpu=cpu)
            self.world, self.rank = state.num_processes, state.process_index
            self.device = state.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that logs and saves."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            distributed.barrier()

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all processes, in float64."""
        if self.world == 1:
            return list(numbers)
        held = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(held)
        return held.tolist()

    def max(self, numbers: Sequence[int]) -> list[int]:
        """Of each number the greatest of all processes."""
        if self.world == 1:
            return [int(number) for number in numbers]
        held = torch.tensor([int(n) for n in numbers], dtype=torch.int64, device=self.device)
        distributed.all_reduce(held, distributed.ReduceOp.MAX)
        return [int(number) for number in held]

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of the processes."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every parameter's gradient becomes the sum of all processes' gradients.

        A process may have none of some: an expert met no id there, or its data has ended.
        """
        self._reduce_gradients(parameters, 1)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every parameter's gradient becomes the mean of all processes' gradients."""
        self._reduce_gradients(parameters, self.world)

    def _reduce_gradients(self, parameters: Iterable[nn.Parameter], divisor: int) -> None:
        if self.world == 1:
            return
        gradients: list[Tensor] = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        if divisor != 1:
            flat /= divisor
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(part.view_as(gradient))

    def check_in_step(self, module: nn.Module, step: int) -> None:
        """Raises ValueError where the processes' parameters or buffers (codebooks) have drifted
        apart. They are compared bit by bit, through sums of their bit patterns."""
        if self.world == 1:
            return
        names = list(module.state_dict())
        mine = torch.stack([_bit_sum(value) for value in module.state_dict().values()])
        mine = mine.to(self.device)
        main = mine.clone()
        distributed.broadcast(main, src=0)
        wrong = [name for name, same in zip(names, (mine == main).tolist()) if not same]
        if self.max([len(wrong)])[0]:
            first = f"; here first in {wrong[0]}" if wrong else ""
            raise ValueError(f"the processes have drifted apart at step {step}{first}")

    def close(self) -> None:
        """Leave the other processes."""
        if self.world > 1:
            distributed.destroy_process_group()


def _bit_sum(value: Tensor) -> Tensor:
    """A sum over bit patterns, each weighed by its position."""
    flat = value.detach().contiguous().flatten()
    if flat.is_floating_point():
        flat = flat.float().view(torch.int32)
    positions = torch.arange(1, len(flat) + 1, dtype=torch.int64, device=flat.device)
    return (flat.long() * positions).sum().cpu()


def shard(
    module: nn.Module, layers: Sequence[nn.Module], precision: str, dist: DistContext
) -> None:
    """Split every parameter over the processes, by torch's FSDP2 (arXiv:2411.00284).

    torch's own call rather than accelerate's wrapper: that one shards on accelerators only, so that
    what is trained on many could not be tested here.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    options: dict[str, Any] = {"mesh": init_device_mesh(dist.device.type, (dist.world,))}
    if precision == "bfloat16":
        # The weights of a loss must not be rounded with what goes into the layers.
        options["mp_policy"] = MixedPrecisionPolicy(
            torch.bfloat16, torch.float32, cast_forward_inputs=False
        )
    for layer in layers:
        fully_shard(layer, **options)
    fully_shard(module, **options)
