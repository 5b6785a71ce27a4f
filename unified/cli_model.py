"""Commands about models: what one knows and is made of, building its world, training it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unified.cli_terminal import AsJson, ModelName, model_directory, note, result

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A run's YAML file, see configs/.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]


def subjects(model: ModelName = "pocket", as_json: AsJson = False) -> None:
    """What the model knows: name, kind and glyph of every subject."""
    import json

    from unified.subjects import KnownSubjects, describe

    known = KnownSubjects.load(model_directory(model))
    if known is None:
        raise ValueError(f"model {model} does not say what it knows: it has no subjects.json")
    if as_json:
        print(json.dumps([describe(subject) for subject in known.subjects], ensure_ascii=False))
        return
    width = max(len(subject.name) for subject in known.subjects)
    for subject in known.subjects:
        print(f"{subject.name:<{width}}  {subject.kind:<11}  {subject.glyph}")


def info(model: ModelName = "pocket", as_json: AsJson = False) -> None:
    """What the model is made of: blocks with their offsets, hashes, format, sizes."""
    from unified.model_info import describe_model, print_model

    found = describe_model(model, model_directory(model))
    if as_json:
        result(found, True, "")
    else:
        from rich.console import Console

        print_model(found, Console())


def build_pocket(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to fill.")],
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    scale: Annotated[
        float, typer.Option("--scale", min=0.0, max=100.0, help="Share of the full world.")
    ] = 1.0,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="KIND", help="Only this kind; repeatable.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 2,
    double: Annotated[
        Path | None,
        typer.Option("--double", metavar="FONT", help="Of draw: 192x192, by NotoColorEmoji.ttf."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the pocket world: shards of documents, the same from the same seed."""
    from unified_data.pocket.build import build_pocket as build
    from unified_data.pocket.build import progress_bar

    with progress_bar() as progress:
        index = build(output, seed, scale, only, workers, progress, double)
    samples = sum(shard["samples"] for shard in index["shards"])
    size = sum(shard["bytes"] for shard in index["shards"])
    note(f"{samples:,} documents in {len(index['shards'])} shards, {size / 1e6:.1f} MB")
    result({"path": str(output), "documents": samples, "bytes": size}, as_json, str(output))


def train(config: Config, resume: Resume = False) -> None:
    """Train a decoder from one configuration file."""
    from unified.training import main

    main(existing(config), resume)


def existing(config: Path) -> Path:
    """A run's file. Raises ValueError where there is none."""
    if not config.is_file():
        raise ValueError(f"there is no configuration {config}; see configs/")
    return config
