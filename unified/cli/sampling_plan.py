"""`unified estimate --sample`: what sampling from a model takes of memory, and what fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unified.cli.terminal import result
from unified_base.hub import fetch_files, is_hub_name

__all__ = ["MEMORIES", "config_of", "show_sampling"]

MEMORIES = (16e9, 24e9, 80e9)
"""Bytes of devices that are common."""
_IDS = 2048


def config_of(name: Path) -> Path:
    """The config.json of a shipped model, a folder, a name on the Hugging Face hub, or itself.

    Raises ValueError where there is none. Nothing else is fetched from the hub.
    """
    from unified.models.files import model_directory

    if name.is_file():
        return name
    if not name.is_dir() and is_hub_name(str(name)):
        return fetch_files(str(name), ["config.json"]) / "config.json"
    return model_directory(str(name)) / "config.json"


def show_sampling(name: Path, as_json: bool) -> None:
    """Print the memory of sampling from a model. Raises ValueError where it cannot be told."""
    from unified.models.hf_checkpoint import read_json
    from unified.models.sampling_memory import sampling_memory
    from unified_base.model_config import check_model_config

    path = config_of(name)
    config = read_json(path)
    check_model_config(config, str(path))
    memory = sampling_memory(config, str(path))
    values = memory.to_json(MEMORIES, _IDS)
    lines = [
        f"parameters   {memory.parameters / 1e6:,.1f} M",
        f"weights      {_sizes(memory.weights)} on a device",
    ]
    if memory.packed:
        lines.append(f"             {_sizes(memory.packed)} on the CPU")
    cache = {kind: 1000 * size for kind, size in memory.cache.items()}
    lines += [
        f"KV cache     {_sizes(cache)} for 1,000 ids of a sequence (guided: twice)",
        f"workspace    {_size(memory.workspace('bfloat16'))} of a pass, and"
        f" {_size(memory.logits)} for the logits of each row",
        "",
        f"rows of {_IDS:,} ids / longest sequence, in a device of",
        " " * 13 + "".join(f"{size / 1e9:.0f} GB".rjust(16) for size in MEMORIES),
    ]
    for dtype in memory.weights:
        fits = [memory.fit(dtype, size, _IDS) for size in MEMORIES]
        cells = [f"{fit.rows:,} / {fit.longest:,}" if fit.longest else "-" for fit in fits]
        lines.append(dtype.ljust(13) + "".join(cell.rjust(16) for cell in cells))
    result(values, as_json, "\n".join(lines))


def _size(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_size(size)}" for name, size in sizes.items())
