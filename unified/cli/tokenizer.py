"""Commands about media tokenizers: training one, measuring one, seeing what one keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unified.cli.model import Changes, Config, Resume, existing, help_config
from unified.cli.terminal import (
    DECODERS,
    AsJson,
    DecoderName,
    DecoderSteps,
    check_decoder,
    note,
    result,
    warnings_as_notes,
)

_NAME = "A tokenizer's or model's folder, or a codec's name on the hub."
Name = Annotated[str, typer.Argument(metavar="NAME", help=_NAME)]


def _train_keys() -> str:
    from unified_base.config_help import as_text
    from unified_tokenizers.training_config import TokenizerTraining

    return as_text(TokenizerTraining)


def train(
    config: Config,
    changes: Changes = None,
    resume: Resume = False,
    keys: Annotated[bool, help_config(_train_keys)] = False,
) -> None:
    """Train a media tokenizer from one configuration file."""
    from unified_tokenizers.training import main

    with warnings_as_notes():
        main(existing(config), resume, changes or ())


def evaluate(
    name: Name,
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Shards, folders or files.")],
    audio: Annotated[
        bool, typer.Option("--audio", help="Of a model: its audio tokenizer.")
    ] = False,
    against: Annotated[
        str,
        typer.Option("--against", metavar="CODECS", help="webp,avif,jpeg for pictures, opus."),
    ] = "",
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Pictures, or seconds of sound, at most.")
    ] = 1000,
    max_broken: Annotated[
        int,
        typer.Option("--max-broken", min=0, help="Broken media to leave out; more is an error."),
    ] = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="F.png", help="Rate against quality.")
    ] = None,
    decoder: DecoderName = "vq",
    steps: DecoderSteps = None,
    as_json: AsJson = False,
) -> None:
    """Bits and quality of a tokenizer, beside classical codecs on the same files."""
    from unified.articles.outputs import check_format, check_writable
    from unified_base.atomic import atomic_path

    if plot is not None:
        check_format(plot, (".png",), "a plot")
        check_writable(plot)
    check_decoder(decoder, steps)
    if decoder == "diffusion-2x":
        raise ValueError("pictures of twice the side have no originals here; use diffusion")
    tokenizer = open_tokenizer(name, "audio" if audio else "image", decoder, steps)
    codecs = [codec for codec in against.split(",") if codec]
    report = _report(tokenizer, tuple(data), codecs, limit, max_broken)
    if plot is not None:
        from unified_tokenizers.report import save_plot

        with atomic_path(plot) as partial:
            save_plot(report, partial, f"{name} on {', '.join(data)}")
    if as_json:
        result({"tokenizer": name, "data": data, **report}, True, "")
    else:
        _print(report)
    if plot is not None:
        note(f"wrote {plot}")


def reconstruct(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture or a sound.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="F.png or F.wav to write.")
    ],
    name: Annotated[str, typer.Option("--tokenizer", metavar="NAME", help=_NAME)] = "pocket",
    decoder: DecoderName = "vq",
    steps: DecoderSteps = None,
    as_json: AsJson = False,
) -> None:
    """A file through codes and back: of a picture, the original and what came back beside it."""
    from unified.articles.outputs import check_format, check_writable
    from unified_base.media_source import media_kind

    sound = media_kind(file.name) == "audio"
    check_format(output, (".wav",) if sound else (".png",), "a sound" if sound else "a picture")
    check_writable(output)
    check_decoder(decoder, steps)
    if sound and DECODERS[decoder]:
        raise ValueError(f"the decoder {decoder} is for pictures, {file} is a sound")
    tokenizer = open_tokenizer(name, "audio" if sound else "image", decoder, steps)
    if sound:
        number, size = _reconstruct_sound(tokenizer, file, output)
        bits = f"{size:.2f} kbit/s"
    else:
        number, size = _reconstruct_picture(tokenizer, file, output)
        bits = f"{size:.4f} bits a pixel"
    note(f"{number:,} codes, {bits}")
    result({"path": str(output), "codes": number, "bits": size}, as_json, str(output))


def _reconstruct_picture(tokenizer: Any, file: Path, output: Path) -> tuple[int, float]:
    import numpy as np

    from unified_base.images import load_image, save_png
    from unified_tokenizers.report import reconstruct_picture

    pixels = load_image(file)
    restored, codes = reconstruct_picture(tokenizer, pixels)
    times = restored.shape[0] // pixels.shape[0]  # a diffusion decoder may give twice the side
    shown = pixels.repeat(times, 0).repeat(times, 1)
    gap = np.full((shown.shape[0], max(1, shown.shape[1] // 50), 3), 255, np.uint8)
    save_png(output, np.concatenate([shown, gap, restored], axis=1))
    return codes.numel(), _bits(tokenizer, codes) / (pixels.shape[0] * pixels.shape[1])


def _reconstruct_sound(tokenizer: Any, file: Path, output: Path) -> tuple[int, float]:
    from unified.sequence.preprocess import fit_sound
    from unified_base.sounds import load_audio, save_wav
    from unified_tokenizers.report import reconstruct_sound

    with warnings_as_notes():
        waveform, notes = fit_sound(*load_audio(file), tokenizer.sample_rate)
    for text in notes:
        note(text)
    restored, codes = reconstruct_sound(tokenizer, waveform[0])
    save_wav(output, restored[None], tokenizer.sample_rate)
    seconds = waveform.shape[1] / tokenizer.sample_rate
    return codes.numel(), _bits(tokenizer, codes) / seconds / 1000


def _bits(tokenizer: Any, codes: Any) -> float:
    """Bits of codes (1, K, *grid), before entropy coding."""
    import math

    return sum(
        codes[:, level].numel() * math.log2(size)
        for level, size in enumerate(tokenizer.codebook_sizes)
    )


def open_tokenizer(name: str, modality: str, decoder: str = "vq", steps: int | None = None) -> Any:
    """The tokenizer of a model for a modality, or the one in a folder or on the hub."""
    from unified.models.files import model_directory
    from unified_tokenizers import load_tokenizer

    if name == "pocket" or (Path(name) / "unified.json").is_file():
        name = str(model_directory(name) / f"{modality}_tokenizer")
    if not DECODERS[decoder]:
        return load_tokenizer(name)
    from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer

    how = {"scale": DECODERS[decoder], "steps": 8 if steps is None else steps}
    return DiffusionTokenizer.from_pretrained(name, None, **how)


def _report(
    tokenizer: Any, data: tuple[str, ...], codecs: list[str], limit: int, max_broken: int
) -> dict[str, Any]:
    """The measures, with `broken`: how many media were left out."""
    from itertools import islice

    import numpy as np
    from rich.progress import Progress, TextColumn

    from unified_base.terminal import console
    from unified_tokenizers.classical import check_codecs
    from unified_tokenizers.media import load_recordings, read_pictures
    from unified_tokenizers.report import evaluate_pictures, evaluate_sounds

    check_codecs(codecs, tokenizer.modality)
    broken: list[Any] = []
    columns = (TextColumn("{task.fields[done]} {task.description}"),)
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(
            "pictures" if tokenizer.modality == "image" else "recordings", done=0, total=None
        )

        def report(done: int) -> None:
            bar.update(task, done=done)

        if tokenizer.modality == "image":
            media = read_pictures(data, max_broken, broken.append)
            pictures = (pixels for _, pixels in islice(media, limit))
            measures = evaluate_pictures(tokenizer, pictures, codecs, report)
        else:
            rate = tokenizer.sample_rate
            sounds = load_recordings(data, rate, limit, max_broken, broken.append)
            waveforms = (sound.astype(np.float32) / 32768 for sound in sounds)
            measures = evaluate_sounds(tokenizer, waveforms, codecs, report)
    for medium in broken[:_MOST_NOTES]:
        note(f"left out {medium}")
    if len(broken) > _MOST_NOTES:
        note(f"left out {len(broken) - _MOST_NOTES:,} more")
    return {**measures, "broken": len(broken)}


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table

    from unified_base.terminal import console

    unit = "bpp" if "bpp" in report else "kbps"
    names = [n for n in report if n in _MEASURES and report[n] is not None]
    table = Table(box=None)
    for heading in ("", unit, "headers", *(name.replace("_", " ") for name in names)):
        table.add_column(heading, justify="left" if not heading else "right")

    def row(label: str, bits: float, headers: float | None, values: dict[str, Any]) -> None:
        shown = [f"{bits:.4g}", "" if headers is None else f"{headers:.3g}"]
        shown += ["" if values[n] is None else f"{values[n]:.4g}" for n in names]
        table.add_row(label, *shown)

    row("codes", report[unit], None, report)
    row("codes, entropy-coded", report[f"{unit}_entropy_coded"], None, report)
    for codec, points in report["against"].items():
        for point in points:
            setting = point.get("quality", point.get("asked_kbps"))
            row(f"{codec} {setting:g}", point[unit], point[f"{unit}_of_headers"], point)
    out = console()
    out.print(table)
    out.print(
        f"codebooks {report['codebook_sizes']}, used {report['usage']}, perplexity"
        f" {report['perplexity']}, {report['codes']:,} codes"
    )


_MOST_NOTES = 10
_MEASURES = ("psnr_db", "ssim", "ms_ssim", "stoi", "pesq", "si_sdr_db", "mel_distance")
