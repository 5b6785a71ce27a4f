"""The commands about codes: documents turned into them once, and what they cost in a format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from unified.cli.terminal import AsJson, note, result
from unified_base.text import counted

_TOKENIZER = "A tokenizer's folder, or a codec's name on the hub."


def tokenize(
    shards: Annotated[
        list[str],
        typer.Argument(metavar="SHARDS...", help="Shards, patterns, or folders with an index."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="CODES", help="Folder of the code shards.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME_OR_PATH", help="Both tokenizers of this model."),
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="NAME", help=f"Of pictures. {_TOKENIZER}")
    ] = None,
    audio: Annotated[
        str | None, typer.Option("--audio", metavar="NAME", help=f"Of sounds. {_TOKENIZER}")
    ] = None,
    fit: Annotated[
        int | None,
        typer.Option(
            "--fit",
            min=1,
            metavar="PIXELS",
            help="Scale pictures down to so many pixels a side and cut them to what the tokenizer "
            "takes; mix and resample sounds. Without it what does not fit is left out.",
        ),
    ] = None,
    round_trip: Annotated[
        bool,
        typer.Option("--round-trip", help="Codes of what the tokenizer makes of the codes."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes (default: one a core).")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Where the tokenizers compute: cpu, cuda."),
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Under Ray Data, on all machines of its cluster.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Turn the pictures and sounds of shards into codes; killed, it goes on where it was."""
    from unified.dataloading.source_samples import find_shards
    from unified.dataloading.tokenize import MediaEncoderSpec, tokenize_shards

    if (model is None) == (image is None and audio is None):
        raise ValueError("whose codes? give --model, or --image or --audio or both")
    paths = find_shards(shards)
    others = {} if model is None else _of_model(model)
    spec = MediaEncoderSpec(image, audio, round_trip, fit, others, device=device)
    index = tokenize_shards(paths, output, spec, workers or _cores(), ray, note)
    names = {path.name for path in paths}
    coded = [shard for shard in index["shards"] if shard["file"] in names]
    left_out = sum(index["left_out"][n]["samples"] for n in names & set(index["left_out"]))
    values = {
        "path": str(output),
        "documents": sum(shard["samples"] for shard in coded),
        "left_out": left_out,
        "bytes": sum(shard["bytes"] for shard in coded),
    }
    note(
        f"{counted(values['documents'], 'document')} in {counted(len(coded), 'shard')}, "
        f"{values['bytes'] / 1e6:.1f} MB; "
        f"{left_out:,} left out"
    )
    result(values, as_json, str(output))


def codes(
    folder: Annotated[Path, typer.Argument(metavar="CODES", help="A folder of code shards.")],
    to: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="row, together, or a format by name or file (may be repeated; default: row and "
            "together).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What stored codes cost in a format, in ids and positions, and whether all of them fit it.

    Shards hold codes by level, without a layout: nothing in them is to be rewritten for another.
    """
    from unified.dataloading.codes_layout import lay_codes

    laid = [entry for layout in to or ("row", "together") for entry in lay_codes(folder, layout)]
    width = max((len(f"{entry.modality} {entry.format}") for entry in laid), default=0)
    lines = [
        f"{f'{entry.modality} {entry.format}':<{width}}  {counted(entry.spans, 'span')},"
        f" {counted(entry.codes, 'code')}: {counted(entry.ids, 'id')} in"
        f" {counted(entry.positions, 'position')}"
        for entry in laid
    ]
    result({"codes": [entry.to_json() for entry in laid]}, as_json, "\n".join(lines))


def _of_model(model: str) -> dict[str, str]:
    """The folders of a model's tokenizers, by modality."""
    from unified.cli.terminal import model_directory
    from unified.sequence.modality import registered_modalities

    folder = model_directory(model)
    folders = {name: folder / f"{name}_tokenizer" for name in registered_modalities()}
    names = {modality: str(path) for modality, path in folders.items() if path.is_dir()}
    if not names and (folder / "config.json").exists():
        from unified.models.pretrained import PretrainedCheckpoint, recognise

        pretrained = recognise(PretrainedCheckpoint.read(folder))
        inside = pretrained.inside if pretrained else ()
        names = dict.fromkeys(inside, str(folder))
    if not names:
        raise ValueError(f"model {model} has no media tokenizers")
    return names


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
