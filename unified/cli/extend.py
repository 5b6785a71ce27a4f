"""The command that gives a language model pictures and sound."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from unified.cli.encoders import make_grafts, named
from unified.cli.options import DeviceName
from unified.cli.terminal import AsJson, Seed, note, result, warnings_as_notes
from unified.cli.tokenizer import open_tokenizer

Codes = Annotated[
    str | None,
    typer.Option(
        metavar="LAYOUT",
        help="Levels of a code: row, or together by depth or heads (default: as the format).",
    ),
]
_TOKENIZER = "{} tokenizer: its folder, a model's folder, or a codec's name on the hub."


def extend(
    llm: Annotated[
        str,
        typer.Argument(
            metavar="LLM", help="A causal language model: its folder or name on the hub."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to fill.")],
    image: Annotated[
        str | None, typer.Option("--image", metavar="TOK", help=_TOKENIZER.format("Image"))
    ] = None,
    audio: Annotated[
        str | None, typer.Option("--audio", metavar="TOK", help=_TOKENIZER.format("Audio"))
    ] = None,
    boxes: Annotated[
        int | None,
        typer.Option(
            "--boxes", min=1, metavar="BINS", help="Boxes and points, in so many bins a side."
        ),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(
            "--video",
            metavar="TOK",
            help=_TOKENIZER.format("Video")
            + " An image tokenizer codes each frame. --format video.",
        ),
    ] = None,
    video_rate: Annotated[
        float,
        typer.Option(
            "--video-rate", min=0.01, max=1000, help="Frames a second, of --video with pictures."
        ),
    ] = 2.0,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="F",
            help="Of `grammar list`, a .yaml file, or its template's: chat, chat-tools.",
        ),
    ] = "pocket",
    initialise: Annotated[
        str,
        typer.Option(
            "--init", metavar="NAME", help="New rows: mean-covariance, zero, normal or codebook."
        ),
    ] = "mean-covariance",
    see: Annotated[
        str | None,
        typer.Option("--see", metavar="ENC", help="Read pictures as vectors of this encoder."),
    ] = None,
    hear: Annotated[
        str | None,
        typer.Option("--hear", metavar="ENC", help="Read sounds as vectors of this encoder."),
    ] = None,
    read: Annotated[
        list[str] | None,
        typer.Option(
            "--read",
            metavar="MEDIA=ENC[,OPTION=N]",
            help="Read video, region or image (frames=N, tiles=N), or state=NUMBERS; repeatable.",
        ),
    ] = None,
    connector: Annotated[
        list[str] | None,
        typer.Option(
            "--connector",
            metavar="[MEDIA=]NAME[,OPTION=N]",
            help="Between encoder and model: linear, mlp (default), pool, merge, qformer or"
            " resampler; of all media, or of one.",
        ),
    ] = None,
    encoder_layer: Annotated[
        int | None,
        typer.Option(
            "--encoder-layer", metavar="N", help="Whose states are read (default: its output)."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="NAME[,OPTION=N]",
            help="In the model's layers: visual-expert, adaption-prompts, gated-cross-attention or"
            " modality-adapters.",
        ),
    ] = None,
    bidirectional: Annotated[
        str | None,
        typer.Option(
            "--bidirectional",
            metavar="NAME,...",
            help="Roles and spans of vectors whose positions see one another, such as prompt.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="NAME,...", help="Labels, each of them one id."),
    ] = None,
    max_grid: Annotated[
        int, typer.Option("--max-grid", min=1, help="Largest side of a picture, in codes.")
    ] = 64,
    device: DeviceName = "cpu",
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", metavar="TYPE", help="float32, bfloat16, float16 (default: its own)."
        ),
    ] = None,
    image_codes: Codes = None,
    audio_codes: Codes = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Give a language model rows for pictures and sound; its text stays what it was."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists already and is not empty; choose another folder")
    import torch
    from transformers.utils import logging

    from unified.models.model import UnifiedModel

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    grafts = make_grafts({"image": see, "audio": hear}, read or (), connector or (), encoder_layer)
    if layers is not None:
        name, options = named("--layers", layers)
        grafts |= {"layers": name, "layer_options": options}
    if bidirectional is not None:
        grafts["bidirectional"] = [name.strip() for name in bidirectional.split(",")]
    media = {
        f"{modality}_tokenizer": _open(name, modality)
        for modality, name in (("image", image), ("audio", audio))
    }
    places: dict[str, Any] = {}
    if boxes is not None:
        from unified_tokenizers.locations import LocationTokenizer

        places = {kind: LocationTokenizer(kind, boxes) for kind in ("box", "point")}
        format = "grounded" if format == "pocket" else format
    if labels is not None:
        from unified_tokenizers.label_codes import LabelTokenizer

        places["label"] = LabelTokenizer(labels.split(","))
    torch.manual_seed(seed)
    with warnings_as_notes():
        model = UnifiedModel.extend(
            llm, format=format, tokenizers={**places, **_video(video, video_rate)},
            max_grid=max_grid, initialise=initialise, dtype=dtype, device=device,
            image_codes=image_codes, audio_codes=audio_codes, **media, **grafts,
        )  # fmt: skip
    model.save_pretrained(output, dtype=None)
    vocabulary = model.vocabulary
    new = vocabulary.size - vocabulary.text_rows
    stored = str(next(model.hf.parameters()).dtype).removeprefix("torch.")
    note(
        f"{model.hf.config.model_type} in {stored}: {vocabulary.text_size:,} text ids in"
        f" {vocabulary.text_rows:,} rows, and {new:,} new rows"
    )
    for kind, embedder in model.embedders.items():
        grid = "x".join(map(str, embedder.vectors_grid or ()))
        size = f"{grid} vectors each" if grid else "as many vectors as the encoder gives"
        size += ", which the layers attend to" if embedder.attended else ""
        note(f"{kind} is read through {embedder.encoder.label} and"
             f" {embedder.connector.name}: {size}; the connector is untrained")  # fmt: skip
    values = {
        "path": str(output),
        "model_type": model.hf.config.model_type,
        "format": model.grammar.format.name,
        "codes": None if model.codes is None else model.codes.to_json(),
        "dtype": stored,
        "text_ids": vocabulary.text_size,
        "text_rows": vocabulary.text_rows,
        "new_rows": new,
        "vocabulary": vocabulary.hash,
    }
    if model.embedders:
        values["embeds"] = {k: e.connector.describe() for k, e in model.embedders.items()}
    result(values, as_json, str(output))


def together(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model of ours with its codes in a row.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to fill.")],
    codes: Annotated[
        str, typer.Option("--codes", metavar="NAME", help="What writes them: depth or heads.")
    ] = "depth",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="MEDIA", help="Only image or audio; repeatable."),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Turn a model with codes in a row into one with the codes of a step in one position.

    What it has learnt is kept; train the depth decoder with train: depth, then all of it.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists already and is not empty; choose another folder")
    import torch

    from unified.models.info import codes_in_words, describe_model
    from unified.models.model import UnifiedModel

    torch.manual_seed(seed)
    whole = UnifiedModel.from_pretrained(model, read_weights=False)
    whole.together(codes, modalities=only).save_pretrained(output, dtype=None)
    description = describe_model(str(output), output)
    note(f"format {description['format']['name']}: {codes_in_words(description)}")
    values = {name: description[name] for name in ("format", "codes", "weights")}
    result({"path": str(output), **values}, as_json, str(output))


def _video(name: str | None, rate: float) -> dict[str, Any]:
    """The video tokenizer by its modality: one of frames where it is of pictures."""
    if name is None:
        return {}
    tokenizer = open_tokenizer(name, "video")
    if tokenizer.modality == "image":
        from unified_tokenizers import FrameTokenizer

        tokenizer = FrameTokenizer(cast("Any", tokenizer), rate)
    if tokenizer.modality != "video":
        raise ValueError(f"--video {name}: the tokenizer is for {tokenizer.modality}")
    return {"video": tokenizer}


def _open(name: str | None, modality: str) -> Any:
    if name is None:
        return None
    tokenizer = open_tokenizer(name, modality)
    if tokenizer.modality != modality:
        raise ValueError(f"--{modality} {name}: the tokenizer is for {tokenizer.modality}")
    return tokenizer
