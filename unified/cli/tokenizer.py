"""Commands about media tokenizers: training, measuring, seeing what one keeps, converting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

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
from unified_base.text import counted

if TYPE_CHECKING:
    import numpy as np
    import torch

    from unified_tokenizers.base import (
        AudioTokenizer,
        ImageTokenizer,
        MediaTokenizer,
        Modality,
    )

_NAME = (
    "A tokenizer's folder, a codec's name on the hub, or a model (pocket, a folder), with /image or"
    " /audio after it for one of its tokenizers."
)
Name = Annotated[str, typer.Argument(metavar="NAME", help=_NAME)]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Where to compute: cpu, cuda, cuda:1, mps.")
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype", metavar="TYPE", help="In which codes are decoded: float32, bfloat16, float16."
    ),
]


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
        bool, typer.Option("--audio", help="Of a model: its audio tokenizer, as NAME/audio.")
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
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """Bits and quality of a tokenizer, beside classical codecs on the same files."""
    from unified.articles.outputs import check_format, check_writable
    from unified_base.atomic import atomic_path
    from unified_tokenizers.measures import check_installed

    if plot is not None:
        check_format(plot, (".png",), "a plot")
        check_writable(plot)
    check_decoder(decoder, steps)
    if decoder == "diffusion-2x":
        raise ValueError("pictures of twice the side have no originals here; use diffusion")
    modality: Modality = "audio" if audio else "image"
    tokenizer = open_tokenizer(name, modality, decoder, steps, device, dtype)
    check_installed(tokenizer.modality, plot is not None)
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
    device: Device = "cpu",
    dtype: Dtype = "float32",
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
    modality: Modality = "audio" if sound else "image"
    tokenizer: Any = open_tokenizer(name, modality, decoder, steps, device, dtype)
    if tokenizer.modality != modality:
        raise ValueError(f"{name} is a tokenizer for {tokenizer.modality}, {file} is {modality}")
    if sound:
        number, size = _reconstruct_sound(tokenizer, file, output)
        bits = f"{size:.2f} kbit/s"
    else:
        number, size = _reconstruct_picture(tokenizer, file, output)
        bits = f"{size:.4f} bits a pixel"
    note(f"{counted(number, 'code')}, {bits}")
    result({"path": str(output), "codes": number, "bits": size}, as_json, str(output))


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A .bin, .pt, .pth or .ckpt, a folder with one, a hub name."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write.")],
    model_type: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Where no config.json is beside it: chameleon_vqgan, apertus1p5_vision_tokenizer,"
            " wavtokenizer.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Weights that were published as a pickle alone, to safetensors and config.json.

    Pickles are read here alone, and never unasked: with torch's weights_only, in a process of its
    own with limits on memory and time.
    """
    from unified_tokenizers.convert import convert_tokenizer

    converted = convert_tokenizer(source, output, model_type)
    if converted.left_out:
        note(f"left out {converted.left_out:,} entries that are no tensors")
    note(f"{converted.tensors:,} tensors, fingerprint {converted.fingerprint}")
    entries = {
        "path": str(output), "tensors": converted.tensors, "left_out": converted.left_out,
        "fingerprint": converted.fingerprint,
    }  # fmt: skip
    result(entries, as_json, str(output))


def _reconstruct_picture(tokenizer: ImageTokenizer, file: Path, output: Path) -> tuple[int, float]:
    import numpy as np

    from unified_base.images import load_image, save_png
    from unified_tokenizers.report import reconstruct_picture

    original = load_image(file)
    pixels = tokenizer.preprocess(original)
    if pixels.shape != original.shape:
        note(f"preprocessed from {_size(original)} to {_size(pixels)} pixels, as it was published")
    restored, codes = reconstruct_picture(tokenizer, pixels)
    times = restored.shape[0] // pixels.shape[0]  # a diffusion decoder may give twice the side
    enlarged = pixels.repeat(times, 0).repeat(times, 1)
    gap = np.full((enlarged.shape[0], max(1, enlarged.shape[1] // 50), 3), 255, np.uint8)
    save_png(output, np.concatenate([enlarged, gap, restored], axis=1))
    return codes.numel(), _bits(tokenizer, codes) / (pixels.shape[0] * pixels.shape[1])


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"


def _reconstruct_sound(tokenizer: AudioTokenizer, file: Path, output: Path) -> tuple[int, float]:
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


def _bits(tokenizer: MediaTokenizer, codes: torch.Tensor) -> float:
    """Bits of codes (1, K, *grid), before entropy coding."""
    import math

    return sum(
        codes[:, level].numel() * math.log2(size)
        for level, size in enumerate(tokenizer.codebook_sizes)
    )


def open_tokenizer(
    name: str,
    modality: str,
    decoder: str = "vq",
    steps: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> MediaTokenizer:
    """The tokenizer of a model for a modality, or the one in a folder or on the hub.

    Args:
        name: of a model, with "/image", "/audio" or "/video" after it in place of `modality`, or
            of a tokenizer, which may be of another modality.
        decoder, steps: see `DECODERS`.
    """
    from unified_tokenizers import load_tokenizer
    from unified_tokenizers.loading import dtype_named

    folder, of_model = tokenizer_folder(name, modality)
    if not DECODERS[decoder]:
        wanted: Any = modality if of_model or _holds_several(folder) else None
        tokenizer: MediaTokenizer = load_tokenizer(folder, wanted, device=device, dtype=dtype)
        return tokenizer
    from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer

    settings = {"scale": DECODERS[decoder], "steps": 8 if steps is None else steps}
    diffusion = DiffusionTokenizer.from_pretrained(folder, None, **settings)
    return diffusion.to(device, dtype_named(dtype))


def tokenizer_folder(name: str, modality: str) -> tuple[str, bool]:
    """A model's folder for the tokenizer, or the name as it is; and whether it is a model's."""
    from unified.models.files import model_directory

    model, _, last = name.rpartition("/")
    if last in ("image", "audio", "video") and _is_model(model):
        return str(model_directory(model) / f"{last}_tokenizer"), False
    if _is_model(name):
        return str(model_directory(name) / f"{modality}_tokenizer"), True
    return name, False


def _is_model(name: str) -> bool:
    return name == "pocket" or (Path(name) / "unified.json").is_file()


def _holds_several(folder: str) -> bool:
    """Whether a folder is a whole checkpoint with an image and an audio tokenizer inside."""
    from unified_tokenizers.registry import holds_several
    from unified_tokenizers.saved_config import read_entries

    config = Path(folder) / "config.json"
    return config.is_file() and holds_several(read_entries(config, "tokenizer"))


def _report(
    tokenizer: MediaTokenizer, data: tuple[str, ...], codecs: list[str], limit: int, max_broken: int
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
            measures = evaluate_pictures(
                cast("ImageTokenizer", tokenizer), pictures, codecs, report
            )
        else:
            audio = cast("AudioTokenizer", tokenizer)
            rate = audio.sample_rate
            sounds = load_recordings(data, rate, limit, max_broken, broken.append)
            waveforms = (sound.astype(np.float32) / 32768 for sound in sounds)
            measures = evaluate_sounds(audio, waveforms, codecs, report)
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
        cells = [f"{bits:.4g}", "" if headers is None else f"{headers:.3g}"]
        cells += ["" if values[n] is None else f"{values[n]:.4g}" for n in names]
        table.add_row(label, *cells)

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
        f" {report['perplexity']}, {counted(report['codes'], 'code')}"
    )


_MOST_NOTES = 10
_MEASURES = ("psnr_db", "ssim", "ms_ssim", "stoi", "pesq", "si_sdr_db", "mel_distance")
