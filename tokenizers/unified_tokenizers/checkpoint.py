"""Training checkpoints of safetensors and JSON: written beside, renamed into place, no pickle.

A checkpoint is a folder `step-000100` with `state.safetensors` (models, averages, optimizer
tensors) and `state.json` (step, optimizer scalars, the resolved configuration, anything plain).
The JSON is written last and the folder renamed last of all: a folder with that name is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

__all__ = [
    "begin",
    "changed_settings",
    "latest_checkpoint",
    "load_checkpoint",
    "publish",
    "save_checkpoint",
]


def save_checkpoint(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    extra: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Write the checkpoint of `step` under `folder`, then drop all but the last `keep`."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {"step": step, "extra": dict(extra), "optimizers": {}}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            tensors[f"module/{name}/{key}"] = value.detach().clone().contiguous()
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        plain["optimizers"][name] = {"param_groups": state["param_groups"], "scalars": {}}
        for index, entries in state["state"].items():
            for key, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{name}/{index}/{key}"] = value.detach().clone().contiguous()
                else:
                    plain["optimizers"][name]["scalars"].setdefault(str(index), {})[key] = value
    partial = begin(folder, step)
    save_file(tensors, partial / "state.safetensors")
    (partial / "state.json").write_text(json.dumps(plain), "utf-8")
    return publish(partial, keep)


def begin(folder: Path, step: int) -> Path:
    """An empty folder, beside its place, to write the checkpoint of a step into."""
    partial = folder / f"step-{step:07d}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def publish(partial: Path, keep: int) -> Path:
    """Let all files of a folder reach the disk, rename it into place, drop all but the last `keep`.

    Returns its place.
    """
    final = partial.with_suffix("")
    for path in (*partial.iterdir(), partial):
        _sync(path)
    if final.exists():
        _remove(final)
    os.replace(partial, final)
    _sync(final.parent)
    for old in sorted(final.parent.glob("step-???????"))[:-keep]:
        _remove(old)
    return final


def _remove(folder: Path) -> None:
    """Renamed first: a folder half removed must not look whole."""
    beside = folder.with_name(f"{folder.name}.removed")
    shutil.rmtree(beside, ignore_errors=True)
    os.replace(folder, beside)
    shutil.rmtree(beside)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def latest_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint under `folder`; unfinished ones are passed over."""
    whole = [path for path in sorted(folder.glob("step-???????")) if (path / "state.json").exists()]
    return whole[-1] if whole else None


def load_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
) -> tuple[int, dict[str, Any]]:
    """Put a checkpoint's state into modules and optimizers; returns (step, extra).

    Raises:
        ValueError: damaged files, or the state of modules of another shape.
    """
    try:
        plain = json.loads((path / "state.json").read_text("utf-8"))
        tensors = load_file(path / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"the checkpoint {path} is damaged ({error}); remove it to go on from the one before"
        ) from None
    for name, module in modules.items():
        prefix = f"module/{name}/"
        try:
            module.load_state_dict(
                {
                    key.removeprefix(prefix): v
                    for key, v in tensors.items()
                    if key.startswith(prefix)
                }
            )
        except RuntimeError as error:
            summary = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the checkpoint {path} is of another {name} than the configuration's: {summary}"
            ) from None
    for name, optimizer in optimizers.items():
        saved = plain["optimizers"][name]
        state: dict[int, dict[str, Any]] = {
            int(index): dict(entries) for index, entries in saved["scalars"].items()
        }
        prefix = f"optimizer/{name}/"
        for key, value in tensors.items():
            if key.startswith(prefix):
                index, entry = key.removeprefix(prefix).split("/", 1)
                state.setdefault(int(index), {})[entry] = value
        optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})
    return int(plain["step"]), plain["extra"]


def changed_settings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What a resumed run's settings were and are, where they differ: `steps 100 -> 200; ...`.

    Empty when nothing differs: only then does the run go on as if it had never been stopped.
    """
    plain = json.loads(json.dumps(now))  # as the checkpoint holds it: tuples are lists
    names = sorted(saved.keys() | plain.keys())
    return "; ".join(
        f"{name} {saved.get(name)!r} -> {plain.get(name)!r}"
        for name in names
        if saved.get(name) != plain.get(name)
    )
