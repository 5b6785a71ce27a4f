"""The state of optimizers by the names of parameters, as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unified_base.training.checkpoint import Checkpoint

__all__ = ["load_optimizer_state", "optimizer_tensors", "set_lr"]

Optimizers = Mapping[str, torch.optim.Optimizer]


def set_lr(optimizers: Optimizers, lr: float) -> None:
    """Set the learning rate of every group."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = lr


def optimizer_tensors(
    optimizers: Optimizers, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The optimizers' state: NAME/ENTRY -> tensor (counters are float32 of no dimension)."""
    tensors = {}
    names: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}
    for optimizer in optimizers.values():
        for parameter, entries in optimizer.state.items():
            for entry, value in entries.items():
                tensors[f"{names[parameter]}/{entry}"] = torch.as_tensor(value)
    return tensors


def load_optimizer_state(
    optimizers: Optimizers,
    parameters: Mapping[str, nn.Parameter],
    checkpoint: Checkpoint,
    prefix: str,
) -> None:
    """Put back what `optimizer_tensors` gave, which a checkpoint holds under `prefix`.

    Raises:
        ValueError: a checkpoint of other parameters.
    """
    entries_of: dict[str, list[str]] = {}
    for key in checkpoint.names(prefix):
        name, _, entry = key.rpartition("/")
        entries_of.setdefault(name, []).append(entry)
    # One that never had a gradient has no entries.
    if odd := sorted(set(entries_of) - set(parameters)):
        raise ValueError(
            f"the checkpoint {checkpoint.folder} trains other parameters than the configuration,"
            f" among them {odd[0]}; go on with the settings it was made with"
        )
    names = {parameter: name for name, parameter in parameters.items()}
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names[parameter]
                for entry in entries_of.get(name, ()):
                    key = f"{prefix}{name}/{entry}"
                    if checkpoint.shape(key) == tuple(parameter.shape):
                        value = torch.zeros_like(parameter)
                        checkpoint.put(key, value)
                    else:  # a counter
                        value = checkpoint.read(key)
                    optimizer.state[parameter][entry] = value
