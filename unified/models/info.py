"""What a model folder holds, read without loading the model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.models.files import read_words
from unified.models.hf_checkpoint import read_config
from unified.models.model_tasks import plugin_of
from unified.sequence.modality import registered_modalities
from unified.tasks.task_plugin import load_plugin
from unified_base.safetensors_files import read_header

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["describe_model", "print_model"]


def describe_model(name: str, directory: Path) -> dict[str, Any]:
    """Blocks, hashes, format, sizes and sampling defaults of the model in a folder.

    Raises ValueError for a folder without a model, or with a damaged one.
    """
    vocabulary, format, sampling = read_words(directory)
    config = read_config(directory)
    if isinstance(language := config.get("text_config"), dict):  # of a checkpoint of several models
        config = {**language, **config}
    blocks = [
        {
            "name": block.name,
            "start": block.start,
            "stop": block.stop,
            "size": block.size,
            "level": block.level,
            "fingerprint": block.fingerprint,
        }
        for block in vocabulary.blocks
    ]
    parts = {"decoder": directory}
    for modality in registered_modalities():
        folder = directory / f"{modality}_tokenizer"
        if folder.is_dir():
            parts[folder.name] = folder
    plugin = plugin_of(directory)
    subjects = None if plugin is None else load_plugin(plugin).subjects(directory)
    return {
        "model": name,
        "directory": str(directory),
        "architecture": (config.get("architectures") or [config.get("model_type")])[0],
        "layers": config.get("num_hidden_layers"),
        "width": config.get("hidden_size"),
        "positions": config.get("max_position_embeddings"),
        "format": {"name": format.name, "markers": list(format.markers)},
        "vocabulary": {
            "hash": vocabulary.hash,
            "size": vocabulary.size,
            "text_size": vocabulary.text_size,
            "text_rows": vocabulary.text_rows,
            "blocks": blocks,
        },
        "weights": {part: _weights(folder) for part, folder in parts.items()},
        "sampling": sampling.to_json(),
        "plugin": plugin,
        "subjects": None if subjects is None else len(subjects),
    }


def _weights(folder: Path) -> dict[str, int]:
    """The number of parameters and the bytes of a folder's safetensors files."""
    parameters = size = 0
    for path in sorted(folder.glob("*.safetensors")):
        parameters += sum(math.prod(tensor.shape) for tensor in read_header(path).values())
        size += path.stat().st_size
    return {"parameters": parameters, "bytes": size}


def print_model(found: dict[str, Any], console: Console) -> None:
    """The description as tables."""
    from rich.table import Table

    def plain(*headers: str) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for header in headers:
            numeric = header in ("start", "stop", "size", "level", "parameters", "MB")
            table.add_column(header, justify="right" if numeric else "left", overflow="fold")
        return table

    vocabulary = found["vocabulary"]
    top = plain("model", found["model"])
    top.show_header = False
    rows = {
        "model": f"{found['model']} ({found['directory']})",
        "decoder": f"{found['architecture']}, {found['layers']} layers of width {found['width']}, "
        f"{found['positions']} positions",
        "format": f"{found['format']['name']}: {' '.join(found['format']['markers'])}",
        "vocabulary": f"{vocabulary['size']} ids, {vocabulary['text_size']} of text "
        f"in {vocabulary['text_rows']} rows",
        "hash": vocabulary["hash"],
        "subjects": str(found["subjects"] or "not listed"),
    }
    for key, value in rows.items():
        top.add_row(key, value)
    blocks = plain("block", "start", "stop", "size", "level", "fingerprint")
    for block in vocabulary["blocks"]:
        cells = [block[key] for key in ("name", "start", "stop", "size", "level", "fingerprint")]
        blocks.add_row(*("" if cell is None else str(cell) for cell in cells))
    weights = plain("weights", "parameters", "MB")
    for part, numbers in found["weights"].items():
        weights.add_row(part, f"{numbers['parameters']:,}", f"{numbers['bytes'] / 1e6:.1f}")
    total = sum(numbers["bytes"] for numbers in found["weights"].values())
    weights.add_row("together", "", f"{total / 1e6:.1f}")
    for table in (top, blocks, weights):
        console.print(table)
        console.print()
