"""What a tokenizer keeps of media, at how many bits, beside classical codecs on the same files.

Legend: H W pixels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unified_base.extras import missing_extra
from unified_tokenizers.classical import (
    AUDIO_CODECS,
    IMAGE_CODECS,
    Coded,
    code_picture,
    code_sound,
)
from unified_tokenizers.measures import (
    CodeUse,
    mel_distance,
    ms_ssim,
    pesq,
    psnr,
    si_sdr,
    ssim,
    stoi,
)

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer, MediaTokenizer

__all__ = [
    "evaluate_pictures",
    "evaluate_sounds",
    "reconstruct_picture",
    "reconstruct_sound",
    "save_plot",
]

Progress = Callable[[int], None]
"""Called with the number of media that are done."""
_MOST_DB = 100.0


def reconstruct_picture(
    tokenizer: ImageTokenizer, pixels: np.ndarray
) -> tuple[np.ndarray, torch.Tensor]:
    """A picture, uint8 (H, W, 3), through codes and back, and the codes (1, K, h, w)."""
    coded = tokenizer.encode(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
    restored = (tokenizer.decode(coded)[0] * 255).round().byte().numpy()
    return np.ascontiguousarray(restored.transpose(1, 2, 0)), coded.codes


def reconstruct_sound(
    tokenizer: AudioTokenizer, waveform: np.ndarray
) -> tuple[np.ndarray, torch.Tensor]:
    """A mono waveform, float32 (S,), through codes and back, and the codes (1, K, T).

    A tokenizer of more channels gets the waveform in each, and gives their mean.
    """
    media = torch.from_numpy(waveform)[None, None].expand(1, tokenizer.channels, -1)
    coded = tokenizer.encode(media)
    return tokenizer.decode(coded)[0].mean(0).numpy(), coded.codes


@dataclass(frozen=True)
class _Kind:
    """How media of one kind are measured: what a size is counted in, and the unit of bits over it.

    scale: from bits over sizes to the unit. setting: what a codec is asked for.
    """

    size: str
    unit: str
    scale: float
    setting: str
    measures: tuple[str, ...]
    size_of: Callable[[np.ndarray], int]
    restore: Callable[[np.ndarray], tuple[np.ndarray, torch.Tensor]]
    code: Callable[[str, float, np.ndarray], Coded]
    measure: Callable[[np.ndarray, np.ndarray], dict[str, float]]


def evaluate_pictures(
    tokenizer: ImageTokenizer,
    pictures: Iterable[np.ndarray],
    against: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures of an image tokenizer, and of classical codecs, on uint8 pictures (H, W, 3).

    Bits are those of all pictures over all their pixels: `bpp` of the codes as they are,
    `bpp_entropy_coded` by how often each occurs (order 0, told by these same pictures). PSNR
    (counted as 100 dB where a picture comes back exactly), SSIM and MS-SSIM are means over
    pictures.

    Pictures are first what the tokenizer's published processor makes of them (`preprocess`), for
    the classical codecs too.

    Raises ValueError where there are no pictures.
    """
    pictures = (tokenizer.preprocess(pixels) for pixels in pictures)
    kind = _Kind(
        "pixels", "bpp", 1.0, "quality", ("psnr_db", "ssim", "ms_ssim"),
        size_of=lambda pixels: pixels.shape[0] * pixels.shape[1],
        restore=lambda pixels: reconstruct_picture(tokenizer, pixels),
        code=code_picture,
        measure=_look,
    )  # fmt: skip
    settings = {codec: IMAGE_CODECS[codec] for codec in against}
    report, own = _evaluate(tokenizer, kind, pictures, settings, progress)
    return {**report, "pictures": len(own)}


def evaluate_sounds(
    tokenizer: AudioTokenizer,
    sounds: Iterable[np.ndarray],
    against: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures of an audio tokenizer, and of classical codecs, on mono float32 waveforms (S,).

    At the tokenizer's sample rate. `kbps` and `kbps_entropy_coded` as bits of pictures in
    `evaluate_pictures`. PESQ at 8 and 16 kHz alone, and where the library is installed.

    Raises ValueError where there are no sounds.
    """
    rate = tokenizer.sample_rate
    with_pesq = rate in (8_000, 16_000) and _has_pesq()
    kind = _Kind(
        "samples", "kbps", rate / 1000, "asked_kbps",
        ("stoi", "pesq", "si_sdr_db", "mel_distance"),
        size_of=len,
        restore=lambda waveform: reconstruct_sound(tokenizer, waveform),
        code=lambda codec, kbps, waveform: code_sound(codec, kbps, waveform, rate),
        measure=lambda waveform, restored: _listen(waveform, restored, rate, with_pesq),
    )  # fmt: skip
    settings = {codec: AUDIO_CODECS[codec] for codec in against}
    report, own = _evaluate(tokenizer, kind, sounds, settings, progress)
    return {**report, "seconds": round(sum(item["samples"] for item in own) / rate, 2)}


def _evaluate(
    tokenizer: MediaTokenizer,
    kind: _Kind,
    media: Iterable[np.ndarray],
    settings: dict[str, tuple[float, ...]],
    progress: Progress | None,
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """The report without its number of media, and the tokenizer's figures of each of them."""
    use = CodeUse(tokenizer.codebook_sizes)
    points: dict[tuple[str, float], list[dict[str, float]]] = {
        (codec, value): [] for codec, values in settings.items() for value in values
    }
    own: list[dict[str, float]] = []
    for medium in media:
        restored, codes = kind.restore(medium)
        use.add(codes)
        size = {kind.size: kind.size_of(medium)}
        own.append({**size, "codes": codes[0, 0].numel(), **kind.measure(medium, restored)})
        for (codec, value), measured in points.items():
            coded = kind.code(codec, value, medium)
            bits = {"bits": 8 * coded.num_bytes, "header": 8 * coded.header_bytes}
            measured.append({**size, **bits, **kind.measure(medium, coded.media)})
        if progress is not None:
            progress(len(own))
    if not own:
        what = {"image": "pictures", "audio": "sounds"}[tokenizer.modality]
        raise ValueError(f"there are no {what} to evaluate on")
    report = _own_figures(tokenizer, use, own, kind)
    report |= {name: _mean(own, name) for name in kind.measures}
    report["against"] = _curves(points, kind)
    return report, own


def _look(pixels: np.ndarray, restored: np.ndarray) -> dict[str, float]:
    figures = {"psnr_db": min(psnr(pixels, restored), _MOST_DB)}
    # Below a window's size there is no SSIM; the mean is over the others.
    if min(pixels.shape[:2]) >= 11:
        figures |= {"ssim": ssim(pixels, restored), "ms_ssim": ms_ssim(pixels, restored)}
    return figures


def _has_pesq() -> bool:
    try:
        import pesq  # noqa: F401
    except ImportError:
        return False
    return True


def _listen(
    waveform: np.ndarray, restored: np.ndarray, rate: int, with_pesq: bool
) -> dict[str, float]:
    figures = {
        "stoi": stoi(waveform, restored, rate),
        "si_sdr_db": si_sdr(waveform, restored),
        "mel_distance": mel_distance(waveform, restored, rate),
    }
    if with_pesq and (score := pesq(waveform, restored, rate)) is not None:
        figures["pesq"] = score
    return figures


def _mean(items: Sequence[dict[str, float]], name: str) -> float | None:
    """Mean of those that have the measure."""
    values = [item[name] for item in items if name in item]
    return round(fmean(values), 4) if values else None


def _own_figures(
    tokenizer: MediaTokenizer, use: CodeUse, own: Sequence[dict[str, float]], kind: _Kind
) -> dict[str, Any]:
    codes = sum(item["codes"] for item in own)
    size = sum(item[kind.size] for item in own)
    bits = [math.log2(number) for number in tokenizer.codebook_sizes]
    return {
        "codebook_sizes": list(tokenizer.codebook_sizes),
        "codes": codes * len(bits),
        kind.unit: round(kind.scale * codes * sum(bits) / size, 5),
        f"{kind.unit}_entropy_coded": round(kind.scale * codes * sum(use.entropy) / size, 5),
        "usage": [round(share, 4) for share in use.usage],
        "perplexity": [round(number, 1) for number in use.perplexity],
    }


def _curves(
    points: dict[tuple[str, float], list[dict[str, float]]], kind: _Kind
) -> dict[str, list[dict[str, Any]]]:
    curves: dict[str, list[dict[str, Any]]] = {}
    for (codec, value), measured in points.items():
        scale = kind.scale / sum(item[kind.size] for item in measured)
        curves.setdefault(codec, []).append(
            {
                kind.setting: value,
                kind.unit: round(scale * sum(item["bits"] for item in measured), 5),
                f"{kind.unit}_of_headers": round(
                    scale * sum(item["header"] for item in measured), 5
                ),
                **{name: _mean(measured, name) for name in kind.measures},
            }
        )
    return curves


def save_plot(report: dict[str, Any], path: Path, title: str) -> None:
    """Rate against quality as a PNG: the codecs' curves, with and without headers, and the
    tokenizer's points, its codes as they are and entropy-coded.

    Raises ValueError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("a plot", "matplotlib", "measure") from None
    unit = "bpp" if "bpp" in report else "kbps"
    names = [n for n in ("psnr_db", "ms_ssim", "stoi", "pesq") if report.get(n) is not None]
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names):
        for color, (codec, points) in enumerate(report["against"].items()):
            measured = [p for p in points if p[name] is not None]
            bits, heights = [p[unit] for p in measured], [p[name] for p in measured]
            plain = [p[unit] - p[f"{unit}_of_headers"] for p in measured]
            axes.plot(bits, heights, ".-", color=f"C{color}", label=codec)
            axes.plot(plain, heights, ":", color=f"C{color}", label=f"{codec}, headers taken off")
        axes.plot(report[unit], report[name], "k*", markersize=12, label="tokenizer")
        coded = report[f"{unit}_entropy_coded"]
        axes.plot(coded, report[name], "k+", markersize=10, label="tokenizer, entropy-coded")
        axes.set_xscale("log")
        axes.set_xlabel("bits per pixel" if unit == "bpp" else "kbit/s")
        axes.set_ylabel(name.replace("_", " "))
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=120)
