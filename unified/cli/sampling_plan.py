"""`unified estimate --sample`: what sampling from a model takes of memory, and what fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unified.cli.terminal import result
from unified_base.hub import fetch_files, is_hub_name

if TYPE_CHECKING:
    from unified.engine.backends.depth_config import DepthConfig

__all__ = ["MEMORIES", "config_of", "show_sampling"]

MEMORIES = (16e9, 24e9, 80e9)
"""Bytes of devices that are common."""
_POSITIONS = 2048


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
    memory = sampling_memory(config, str(path), *_positions_of(path.parent))
    values = memory.to_json(MEMORIES, _POSITIONS)
    lines = [
        f"parameters   {memory.parameters / 1e6:,.1f} M",
        f"weights      {_sizes(memory.weights)} on a device",
    ]
    if memory.packed:
        lines.append(f"             {_sizes(memory.packed)} on the CPU")
    cache = {kind: 1000 * size for kind, size in memory.cache.items()}
    lines += [
        f"KV cache     {_sizes(cache)} for 1,000 positions of a sequence (guided: twice)",
        f"workspace    {_size(memory.workspace('bfloat16'))} of a pass, and"
        f" {_size(memory.logits)} for the logits of each row",
    ]
    if memory.depth_cache:
        depth = _sizes(memory.depth_cache)
        lines.append(f"             {depth} in the depth decoder, for each row of a pass")
    if memory.ids_of_a_position > 1:
        lines.append(f"positions    hold up to {memory.ids_of_a_position} ids each")
    lines += [
        "",
        f"rows of {_POSITIONS:,} positions / longest sequence, in a device of",
        " " * 13 + "".join(f"{size / 1e9:.0f} GB".rjust(16) for size in MEMORIES),
    ]
    for dtype in memory.weights:
        fits = [memory.fit(dtype, size, _POSITIONS) for size in MEMORIES]
        cells = [f"{fit.rows:,} / {fit.longest:,}" if fit.longest else "-" for fit in fits]
        lines.append(dtype.ljust(13) + "".join(cell.rjust(16) for cell in cells))
    result(values, as_json, "\n".join(lines))


def _positions_of(folder: Path) -> tuple[DepthConfig | None, int]:
    """(the depth decoder that unified.json beside a config.json declares, the most ids of a
    position of its format); of none where there is no unified.json.

    Raises ValueError for a damaged one.
    """
    from unified.formats.grammar import Grammar
    from unified.models.code_output import CodesOutput
    from unified.models.files import FILE_NAME, read_words
    from unified.models.hf_checkpoint import read_json

    path = folder / FILE_NAME
    if not path.exists():
        return None, 1
    declared = read_json(path).get("codes")
    depth = None if declared is None else CodesOutput.from_json(declared, f"{path}: codes").depth
    vocabulary, format, _ = read_words(folder)
    return depth, Grammar(format, vocabulary).num_together


def _size(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_size(size)}" for name, size in sizes.items())
