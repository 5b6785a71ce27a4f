"""A run's checkpoints: safetensors and JSON, written beside and renamed, one part a process.

    step-0000600/
        state.json                        step, settings, counters, how many processes and parts
        part-00000-of-00002.safetensors   what process 0 holds of every tensor
        rank-00000-of-00002.json          its position in the data, its random numbers

A folder of that name is whole: it was renamed after everything in it had reached the disk, and
state.json holds the checksum of every other file and its own. Tensors are split over processes by
rows, as FSDP2 splits them, and every part says which rows it has, so that any number of processes
can read them. (`torch.distributed.checkpoint` pickles its metadata, and its files are whole only
when all of them are there; so this is ours.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unified_base.checksums import file_sha256
from unified_base.disk import naming_full_disk
from unified_base.files import regular
from unified_base.structured import read_json
from unified_base.tensor_file import save_tensors
from unified_base.training.checkpoint_files import (
    RESUME,
    STATE,
    begin,
    compare_files,
    damaged,
    latest_checkpoint,
    publish,
    read_state,
    while_writing,
)
from unified_base.training.dist import DistContext

__all__ = ["Checkpoint", "read_latest", "save_checkpoint"]

_MAX_JSON = 256 << 20


class Checkpoint:
    """A complete checkpoint: `state` (JSON), `ranks` (JSON, one a process), tensors by name.

    compared: whether its files have checksums, which they were compared with.
    """

    def __init__(self, folder: Path, rank: int = 0, world: int = 1) -> None:
        """rank, world: which of how many processes this is; each compares its share of the files.

        Raises ValueError, naming the file, where one is missing or damaged.
        """
        self.folder = folder
        self.state = read_state(folder)
        try:
            world_then, parts = int(self.state["world"]), int(self.state["parts"])
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(folder / STATE, error) from None
        self.compared = compare_files(folder, self.state, rank, world)
        names = [_rank_name(number, world_then) for number in range(world_then)]
        self.ranks = [_read_json(folder / name) for name in names]
        self._parts: dict[str, list[tuple[int, int, Path]]] = {}
        for path in [folder / _part_name(number, world_then) for number in range(parts)]:
            try:
                with safe_open(regular(path, "weights"), "pt") as part:
                    rows = json.loads(part.metadata()["rows"])
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                raise damaged(path, error) from None
            for name, (start, stop) in rows.items():
                self._parts.setdefault(name, []).append((start, stop, path))

    @property
    def step(self) -> int:
        return int(self.state["step"])

    def names(self, prefix: str) -> list[str]:
        """Of the tensors that begin so, without the prefix."""
        return [name.removeprefix(prefix) for name in self._parts if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the whole tensor."""
        _, stop, path = max(self._parts[name])
        with safe_open(regular(path, "weights"), "pt") as part:
            shape = part.get_slice(name).get_shape()
        return (stop, *shape[1:]) if shape else ()

    def read(self, name: str, like: Tensor | None = None) -> Tensor:
        """A tensor whole, or the rows of it that `like`, a part of a tensor of FSDP2, holds."""
        if name not in self._parts:
            raise ValueError(f"the checkpoint {self.folder} has no {name}: it is of another run")
        first, last = (
            _rows(like) if like is not None else (0, max(s for _, s, _ in self._parts[name]))
        )
        pieces: list[Tensor] = []
        for start, stop, path in sorted(self._parts[name]):
            low, high = max(start, first), min(stop, last)
            if low < high or (stop == start == 0 and not pieces):
                try:
                    with safe_open(regular(path, "weights"), "pt") as part:
                        rows = part.get_slice(name)
                        whole = stop - start == high - low or not rows.get_shape()
                        pieces.append(
                            part.get_tensor(name) if whole else rows[low - start : high - start]
                        )
                except (SafetensorError, OSError) as error:
                    raise damaged(path, error) from None
        if not pieces:  # fewer rows than processes: this one holds none
            assert like is not None
            return torch.empty_like(_local(like))
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def put(self, name: str, target: Tensor) -> None:
        """Fill a tensor, or this process's part of it. ValueError where the shapes differ."""
        local = _local(target)
        value = self.read(name, target)
        if value.shape != local.shape:
            raise ValueError(
                f"the checkpoint {self.folder} has {name} of shape {tuple(value.shape)}, the"
                f" configuration's is {tuple(local.shape)}; it is of another run"
            )
        with torch.no_grad():
            local.copy_(value)


def save_checkpoint(
    folder: Path,
    step: int,
    dist: DistContext,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    local_state: Mapping[str, Any],
    sharded: bool,
    keep: int,
) -> Path:
    """Write the checkpoint of a step, all processes together, and drop all but the last `keep`.

    Args:
        folder: that holds the run's checkpoints.
        step: of the run.
        dist: the processes; each calls this.
        tensors: by name; each process's own parts where they are sharded, else the main one's.
        state: of the run, as JSON.
        local_state: of this process, as JSON.
        sharded: whether the processes hold parts of the tensors.
        keep: how many checkpoints stay.

    Returns:
        The checkpoint's folder.

    Raises:
        FullDiskError: the disk is full.
    """
    partial = folder / f"step-{step:07d}.partial"
    with while_writing(folder, step) if dist.is_main else naming_full_disk(partial, RESUME):
        if dist.is_main:
            begin(folder, step)
        dist.barrier()
        if dist.is_main or sharded:
            _save_part(partial, dist, tensors)
        _write_json(partial / _rank_name(dist.rank, dist.world), local_state)
        dist.barrier()
        if dist.is_main:
            parts = dist.world if sharded else 1
            publish(partial, {**state, "step": step, "world": dist.world, "parts": parts}, keep)
        dist.barrier()
    return partial.with_suffix("")


def _save_part(partial: Path, dist: DistContext, tensors: Mapping[str, Tensor]) -> None:
    """What this process holds of every tensor, and its checksum for `publish`."""
    rows = {name: _rows(tensor) for name, tensor in tensors.items()}
    held = {name: _local(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}
    name = _part_name(dist.rank, dist.world)
    final = partial.with_suffix("") / name
    save_tensors(held, partial / name, {"rows": json.dumps(rows)}, final, RESUME)
    (partial / f"{name}.sha256").write_text(file_sha256(partial / name), "ascii")


def read_latest(folder: Path, rank: int = 0, world: int = 1) -> Checkpoint | None:
    """The last complete checkpoint under a folder, or None; see `Checkpoint`."""
    path = latest_checkpoint(folder)
    return None if path is None else Checkpoint(path, rank, world)


def _local(tensor: Any) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _rows(tensor: Any) -> tuple[int, int]:
    """First row and last + 1 of what this process holds; (0, 0) of a tensor without dimensions."""
    if not hasattr(tensor, "to_local"):
        return (0, tensor.shape[0]) if tensor.ndim else (0, 0)
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return offset[0], offset[0] + shape[0]


def _part_name(rank: int, world: int) -> str:
    return f"part-{rank:05d}-of-{world:05d}.safetensors"


def _rank_name(rank: int, world: int) -> str:
    return f"rank-{rank:05d}-of-{world:05d}.json"


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value), "utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = read_json(path, _MAX_JSON)
    except ValueError as error:
        raise damaged(path, error) from None
    return value
