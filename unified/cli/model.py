"""Commands about models: what one knows and is made of, building its world, training it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified.cli.terminal import AsJson, ModelName, model_directory, note, result
from unified_base.text import counted

if TYPE_CHECKING:
    from unified.training.config import TrainConfig

Config = Annotated[
    Path,
    typer.Argument(metavar="CONFIG", help="A run's YAML file; `unified demo DIR` has examples."),
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Replace entries of it: optimizer.lr=1e-4 steps=20."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]


def help_config(print_keys: Callable[[], str]) -> Any:
    """The option --help-config, which prints every key of a run's file and ends."""

    def show(wanted: bool) -> None:
        if wanted:
            from unified_base.terminal import say

            say(print_keys())
            raise typer.Exit

    return typer.Option(
        "--help-config", is_eager=True, callback=show, help="Every key of CONFIG, and end."
    )


def _train_keys() -> str:
    from unified.training.config import TrainConfig
    from unified_base.config_help import as_text

    return as_text(TrainConfig)


def subjects(model: ModelName = "pocket", as_json: AsJson = False) -> None:
    """What the model knows: name, kind and glyph of every subject."""
    from unified.models.model_tasks import plugin_of
    from unified.tasks.task_plugin import load_plugin
    from unified_base.terminal import as_json as as_json_text
    from unified_base.terminal import say

    directory = model_directory(model)
    name = plugin_of(directory)
    if name is None:
        raise ValueError(
            f"model {model} does not say what it knows: it has no plug-in, as models of a world do;"
            " `unified tasks` tells what it can be asked"
        )
    plugin = load_plugin(name)
    known = plugin.subjects(directory)
    if known is None:
        raise ValueError(
            f"model {model} does not say what it knows: it has no {' or '.join(plugin.files)}"
        )
    if as_json:
        say(as_json_text(known))
        return
    width = max(len(subject["name"]) for subject in known)
    for subject in known:
        say(f"{subject['name']:<{width}}  {subject['kind']:<11}  {subject['glyph']}")


def info(model: ModelName = "pocket", as_json: AsJson = False) -> None:
    """What the model is made of: blocks with their offsets, hashes, format, sizes."""
    from unified.models.info import describe_model, print_model

    description = describe_model(model, model_directory(model))
    if as_json:
        result(description, True, "")
    else:
        from unified_base.terminal import console

        print_model(description, console())


Folder = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to fill.")]
WorldSeed = Annotated[int, typer.Option("--seed", min=0)]
Scale = Annotated[
    float, typer.Option("--scale", min=0.0, max=100.0, help="Share of the full world.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes.")]


def build_pocket(
    output: Folder,
    seed: WorldSeed = 0,
    scale: Scale = 1.0,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="KIND", help="Only this kind; repeatable.")
    ] = None,
    workers: Workers = 2,
    double: Annotated[
        Path | None,
        typer.Option("--double", metavar="FONT", help="Of draw: 192x192, by NotoColorEmoji.ttf."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the pocket world: shards of documents, the same from the same seed."""
    from unified_data.building import progress_bar
    from unified_data.pocket.build import build_pocket as build

    with progress_bar() as progress:
        index = build(output, seed, scale, only, workers, progress, double)
    _tell_built(output, index, as_json)


def build_world(
    output: Folder,
    seed: WorldSeed = 0,
    scale: Scale = 1.0,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="KINDS", help="Only these, as draw,describe; repeatable."),
    ] = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Build the world of free scenes: shards of documents, the same from the same seed."""
    from unified_data.building import progress_bar
    from unified_data.world.build import HEARD_KINDS, has_recorded_voices
    from unified_data.world.build import build_world as build

    kinds = None if only is None else [kind for part in only for kind in part.split(",")]
    with progress_bar() as progress:
        index = build(output, seed, scale, kinds, workers, progress)
    if not has_recorded_voices() and set(HEARD_KINDS) & set(kinds or HEARD_KINDS):
        note("without voices from recordings: flite is not installed (`apt-get install flite`)")
    _tell_built(output, index, as_json)


def build_charts(
    output: Folder,
    seed: WorldSeed = 0,
    scale: Scale = 1.0,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="KINDS", help="Only these, as chart_ask; repeatable."),
    ] = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Build the chart world: charts to tables and back, and questions, their numbers known."""
    from unified_data.building import progress_bar
    from unified_data.charts.build import build_charts as build

    kinds = None if only is None else [kind for part in only for kind in part.split(",")]
    with progress_bar() as progress:
        index = build(output, seed, scale, kinds, workers, progress)
    _tell_built(output, index, as_json)


def build_motion(
    output: Folder,
    seed: WorldSeed = 0,
    scale: Scale = 1.0,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="KIND", help="Only this kind; repeatable.")
    ] = None,
    workers: Workers = 2,
    as_json: AsJson = False,
) -> None:
    """Build the world of motion: videos of one thing that moves left, right, up or down."""
    from unified_data.building import progress_bar
    from unified_data.motion import build_motion as build

    with progress_bar() as progress:
        index = build(output, seed, scale, only, workers, progress)
    _tell_built(output, index, as_json)


def _tell_built(output: Path, index: dict[str, Any], as_json: bool) -> None:
    samples = sum(shard["samples"] for shard in index["shards"])
    size = sum(shard["bytes"] for shard in index["shards"])
    shards = counted(len(index["shards"]), "shard")
    note(f"{counted(samples, 'document')} in {shards}, {size / 1e6:.1f} MB")
    result({"path": str(output), "documents": samples, "bytes": size}, as_json, str(output))


def train(
    config: Config,
    changes: Changes = None,
    resume: Resume = False,
    keys: Annotated[bool, help_config(_train_keys)] = False,
) -> None:
    """Train a decoder from one configuration file, on preferences as well.

    Several processes: torchrun --nproc-per-node N -m unified train CONFIG
    """
    from unified.training.config import load_config
    from unified.training.train import train as run

    folder = run(load_config(existing(config), changes or ()), resume)
    if os.environ.get("RANK", "0") == "0":  # of several processes one tells it
        note(f"model saved in {folder}")


def estimate(
    config: Config,
    changes: Changes = None,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="h100, a100, ...")
    ] = "h100",
    devices: Annotated[int, typer.Option("--devices", min=1, max=10**6, help="How many.")] = 1,
    share: Annotated[
        float | None,
        typer.Option(
            "--share",
            min=0.01,
            max=1.0,
            help="Assumed share of the device's peak operations (MFU), 0 to 1.",
        ),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample",
            help="Memory of sampling; CONFIG is a model's name or folder, or a config.json.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What a run will take: ids, operations, memory of each device, hours; or sampling (--sample).

    With --sample no weights are read: bytes of weights by type, of the KV cache, and what fits.
    """
    if sample:
        if changes or share is not None or (device, devices) != ("h100", 1):
            raise ValueError(
                "--sample takes a model alone, without KEY=VALUE, --device, --devices and --share"
            )
        from unified.cli.sampling_plan import show_sampling

        show_sampling(config, as_json)
        return
    from unified.training.config import load_config
    from unified.training.estimate import DEVICES, SHARE, estimate_run, shape_of

    settings = load_config(existing(config), changes or ())
    run = estimate_run(
        settings, shape_of(settings), device, devices, SHARE if share is None else share
    )
    by_use = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in run.memory.items())
    total = sum(run.memory.values()) / 1e9
    has = DEVICES[device].memory / 1e9
    steps = counted(settings.steps, "step")
    lines = [
        f"parameters   {run.parameters / 1e6:,.1f} M, trained {run.trained / 1e6:,.1f} M",
        f"ids          {run.ids:,} ({steps} of {run.ids // settings.steps:,})",
        f"operations   {run.operations:.3g}",
        f"memory       {total:,.1f} of {has:g} GB on each device: {by_use}",
        f"time         {run.seconds / 3600:,.1f} hours on {devices} {device} at"
        f" {run.share:.0%} of their peak ({run.seconds * devices / 3600:,.0f} device hours)",
    ]
    if not run.fits:
        lines.append("it does not fit: " + _advice(settings))
    result(run.to_json(), as_json, "\n".join(lines))


def _advice(config: TrainConfig) -> str:
    """What takes memory away that the configuration has not taken yet."""
    if config.parallel != "fsdp" and config.train == "full":
        return "parallel: fsdp splits the weights over the devices"
    if not config.activation_checkpointing:
        return "activation_checkpointing: true keeps less of every layer"
    return "take more devices, a smaller seq_len, or train: lora"


def existing(config: Path) -> Path:
    """A run's file. Raises ValueError where there is none."""
    if not config.is_file():
        raise ValueError(f"there is no configuration {config}; `unified demo DIR` has examples")
    return config
