"""What a model folder holds, read without loading the model; what a model can be asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.request import MODES
from unified.engine.sampler import SpanSampling
from unified.formats.grammar import Grammar
from unified.models.choose_backend import likely_backends
from unified.models.code_output import CodesOutput
from unified.models.files import FILE_NAME, read_words
from unified.models.grafting.graft_files import LAYERS_KEY, LOOKING_BACK, check_layers
from unified.models.hf_checkpoint import read_config, read_json
from unified.models.model_tasks import plugin_of
from unified.models.published_decoders import has_compiled_inside
from unified.sequence.modality import registered_modalities
from unified.tasks.task_plugin import load_plugin
from unified_base.safetensors_files import read_header
from unified_base.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from unified.models.model import UnifiedModel

__all__ = ["describe_model", "describe_tasks", "print_model", "tasks_in_words"]


def describe_model(name: str, directory: Path) -> dict[str, Any]:
    """Blocks, hashes, format, sizes and sampling defaults of the model in a folder.

    Raises ValueError for a folder without a model, or with a damaged one.
    """
    vocabulary, format, sampling = read_words(directory)
    config = read_config(directory)
    compiled = LlamaCpuConfig.covers(config) or has_compiled_inside(config)
    path = directory / FILE_NAME
    layers = check_layers(read_json(path).get(LAYERS_KEY), str(path)) if path.exists() else None
    compiled = compiled and not format.bidirectional and layers is None
    backends = likely_backends(config, compiled)
    if layers is not None and layers["name"] in LOOKING_BACK:
        backends = dict.fromkeys(backends, "transformers")
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
    for ending in ("encoder", "connector"):  # of what is read as vectors
        parts |= {path.name: path for path in sorted(directory.glob(f"*_{ending}"))}
    spans = Grammar(format, vocabulary).span_grammars
    held = {kind: span.num_together for kind, span in spans.items()}
    plugin = plugin_of(directory)
    subjects = None if plugin is None else load_plugin(plugin).subjects(directory)
    return {
        "model": name,
        "directory": str(directory),
        "architecture": (config.get("architectures") or [config.get("model_type")])[0],
        "layers": config.get("num_hidden_layers", config.get("num_layers")),
        "width": config.get("hidden_size", config.get("d_model")),
        "positions": config.get("max_position_embeddings"),
        "backends": backends,
        "format": {
            "name": format.name,
            "markers": list(format.markers),
            "ids_of_a_position": held,
        },
        "codes": _codes(directory) if max(held.values(), default=1) > 1 else None,
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


def describe_tasks(name: str, model: UnifiedModel) -> dict[str, Any]:
    """What a model can be asked: for each verb its prompt, sizes, voices and sampling parameters,
    or why not."""
    tasks = model.tasks
    verbs = tasks.describe()
    for verb, entry in verbs.items():
        if entry["able"]:
            task = tasks.task(verb)
            chosen = task.sampling_over(model.sampling).to_json()
            kinds = MODES if task.slot.kind == "any" else (task.slot.kind,)
            entry["sampling"] = {kind: chosen[kind] for kind in kinds}
            entry["max_ids"] = chosen["max_ids"]
    return {
        "model": name,
        "format": model.grammar.format.name,
        "plugin": model.plugin,
        "tasks": verbs,
    }


def tasks_in_words(description: Mapping[str, Any]) -> str:
    """The description of `describe_tasks` as lines for people."""
    lines = [f"{description['model']}, format {description['format']}"]
    if description["plugin"] is not None:
        lines.append(f"words are read by plug-in {description['plugin']} first")
    for verb, entry in description["tasks"].items():
        if not entry["able"]:
            lines += ["", f"{verb:<9} no: {entry['reason']}"]
            continue
        lines += ["", f"{verb:<9} {_in_a_line(entry)}"]
        voices = entry["voices"]
        facts = {
            "sizes": entry["sizes"],
            "voices": ", ".join(voices) if isinstance(voices, list) else voices,
            "voice": entry["voice"],
            "negative": entry["negative"],
            "sampling": ", ".join(
                f"{kind}.{key}={value}"
                for kind, values in entry["sampling"].items()
                for key, value in _changed(values).items()
            ),
            "language": entry["language"],
            "example": entry["example"],
            "source": entry["source"],
        }
        lines += [f"{'':<9} {fact + ':':<9} {value}" for fact, value in facts.items() if value]
        lines += [f"{'':<9} {'or:':<9} {_in_a_line(form)}" for form in entry["forms"]]
    return "\n".join(lines)


def _in_a_line(entry: Mapping[str, Any]) -> str:
    kinds = " then ".join((*entry["thoughts"], entry["makes"]))
    return f"{' '.join(entry['prompt'].splitlines())} -> {kinds}"


def _changed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling parameters of a kind that are not as usual, and its temperature."""
    usual = SpanSampling().to_json()
    changed = {
        name: value
        for name, value in values.items()
        if name == "temperature" or value != usual[name]
    }
    if "guidance" in changed:
        changed["guidance"] = changed["guidance"]["scale"]
    return changed


def _codes(directory: Path) -> dict[str, Any] | None:
    """What writes the codes of positions that hold several, as unified.json, or what is known of a
    published model, declares it."""
    where = directory / FILE_NAME
    if not where.exists():
        from unified.models.published import open_published

        codes = open_published(directory).codes
        return None if codes is None else codes.to_json()
    if (entry := read_json(where).get("codes")) is None:
        return None
    return CodesOutput.from_json(entry, f"{where}: codes").to_json()


def codes_in_words(description: Mapping[str, Any]) -> str:
    """How many ids a position holds, and what writes them: of `describe_model`."""
    held = description["format"]["ids_of_a_position"]
    if max(held.values(), default=1) == 1:
        return "one in a position"
    words = ", ".join(f"{number} of {kind}" for kind, number in held.items())
    codes = description["codes"] or {}
    depth = codes.get("depth")
    if depth is None:
        output = codes.get("output", "nothing that is declared")
        output = "a depth decoder of the checkpoint's own" if output == "model" else output
        return f"{words} in a position, by {output}"
    return (
        f"{words} in a position, by a depth decoder of {counted(depth['num_layers'], 'layer')} of"
        f" width {depth['hidden_size']}"
    )


def _weights(folder: Path) -> dict[str, int]:
    """The number of parameters and the bytes of a folder's safetensors files."""
    parameters = size = 0
    for path in sorted(folder.glob("*.safetensors")):
        parameters += sum(math.prod(tensor.shape) for tensor in read_header(path).values())
        size += path.stat().st_size
    return {"parameters": parameters, "bytes": size}


def print_model(description: dict[str, Any], console: Console) -> None:
    """The description as tables."""
    from rich.table import Table

    def plain(*headers: str) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for header in headers:
            numeric = header in ("start", "stop", "size", "level", "parameters", "MB")
            table.add_column(header, justify="right" if numeric else "left", overflow="fold")
        return table

    vocabulary, format = description["vocabulary"], description["format"]
    top = plain("model", description["model"])
    top.show_header = False
    rows = {
        "model": f"{description['model']} ({description['directory']})",
        "decoder": f"{description['architecture']}, {description['layers']} layers of width "
        f"{description['width']}, {description['positions']} positions",
        "backend": f"{description['backends']['cpu']} on the CPU, "
        f"{description['backends']['devices']} elsewhere",
        "format": f"{format['name']}: {' '.join(format['markers'])}",
        "codes": codes_in_words(description),
        "vocabulary": f"{vocabulary['size']} ids, {vocabulary['text_size']} of text "
        f"in {vocabulary['text_rows']} rows",
        "hash": vocabulary["hash"],
        "subjects": str(description["subjects"] or "not listed"),
    }
    for key, value in rows.items():
        top.add_row(key, value)
    blocks = plain("block", "start", "stop", "size", "level", "fingerprint")
    for block in vocabulary["blocks"]:
        cells = [block[key] for key in ("name", "start", "stop", "size", "level", "fingerprint")]
        blocks.add_row(*("" if cell is None else str(cell) for cell in cells))
    weights = plain("weights", "parameters", "MB")
    for part, numbers in description["weights"].items():
        weights.add_row(part, f"{numbers['parameters']:,}", f"{numbers['bytes'] / 1e6:.1f}")
    total = sum(numbers["bytes"] for numbers in description["weights"].values())
    weights.add_row("together", "", f"{total / 1e6:.1f}")
    for table in (top, blocks, weights):
        console.print(table)
        console.print()
