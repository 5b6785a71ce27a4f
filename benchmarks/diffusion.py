"""The diffusion decoder beside the tokenizer's own, on the same codes of held-out pictures.

    python benchmarks/diffusion.py [--model NAME_OR_PATH] [--sheet F.png] [--font F.ttf] [--quick]

PSNR, MS-SSIM, sharpness and time of each number of steps. Sharpness is the energy of a picture's
gradients over that of its original: below 1 it is blurred, above 1 there is more than there was.
With a font (NotoColorEmoji.ttf) the originals at twice the size are painted too, and what is
decoded at twice the size is measured against them, beside the own decoder's picture scaled up. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _path  # noqa: F401 (before all others)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket", metavar="NAME_OR_PATH")
    parser.add_argument("--sheet", type=Path, metavar="F.png", help="pictures to look at")
    parser.add_argument("--font", type=Path, metavar="F.ttf", help="NotoColorEmoji.ttf")
    parser.add_argument("--quick", action="store_true", help="24 pictures instead of 200")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from _media import scenes
from _shared import interleaved, machine, say
from PIL import Image

from unified.models.files import model_directory
from unified_data.pocket.scenes import Scene, render, render_double
from unified_tokenizers import load_tokenizer
from unified_tokenizers.base import Codes
from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer
from unified_tokenizers.measures import ms_ssim, psnr

_STEPS = (1, 2, 4, 8, 20, 50)
_SHOWN = 8


def sharpness(original: np.ndarray, picture: np.ndarray) -> float:
    """Energy of the differences between neighbours, over the original's."""
    energy, wanted = (_energy(p.astype(np.float64)) for p in (picture, original))
    return energy / wanted


def _energy(pixels: np.ndarray) -> float:
    return float(
        np.square(np.diff(pixels, axis=0)).sum() + np.square(np.diff(pixels, axis=1)).sum()
    )


def _decoded(tokenizer: Any, codes: Codes) -> np.ndarray:
    decoded = tokenizer.decode(codes)
    return (decoded * 255).round().byte().permute(0, 2, 3, 1).numpy()


def _figures(originals: Sequence[np.ndarray], decoded: np.ndarray) -> dict[str, float]:
    pairs = list(zip(originals, decoded))
    return {
        "psnr_db": round(fmean(psnr(a, b) for a, b in pairs), 2),
        "ms_ssim": round(fmean(ms_ssim(a, b) for a, b in pairs), 4),
        "sharpness": round(fmean(sharpness(a, b) for a, b in pairs), 3),
    }


def _scaled(picture: np.ndarray) -> np.ndarray:
    """Twice the side, by Pillow's best filter."""
    size = (2 * picture.shape[1], 2 * picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def measure(
    scenes: Sequence[Scene], tokenizer: Any, decoder: Any, font: Path | None, repeats: int
) -> tuple[dict[str, Any], list[list[np.ndarray]]]:
    """The figures, and columns of pictures to look at: originals, and each decoder's."""
    originals = [render(scene) for scene in scenes]
    media = torch.from_numpy(np.stack(originals)).permute(0, 3, 1, 2).contiguous()
    codes = tokenizer.encode(media)
    ways: dict[str, Any] = {"vq": tokenizer}
    ways |= {f"diffusion_{n}": DiffusionTokenizer(tokenizer, decoder, n) for n in _STEPS}
    decoded = {name: _decoded(way, codes) for name, way in ways.items()}
    figures = {name: _figures(originals, pictures) for name, pictures in decoded.items()}
    columns = [originals, list(decoded["vq"]), list(decoded["diffusion_8"])]
    if 2 in decoder.config.scales and font is not None:
        doubles = [render_double(scene, font) for scene in scenes]
        up = np.stack([_scaled(picture) for picture in decoded["vq"]])
        figures["vq_scaled_up_2x"] = _figures(doubles, up)
        for steps in (1, 8):
            ways[name := f"diffusion_{steps}_2x"] = DiffusionTokenizer(tokenizer, decoder, steps, 2)
            decoded[name] = _decoded(ways[name], codes)
            figures[name] = _figures(doubles, decoded[name])
        columns += [doubles, list(up), list(decoded["diffusion_8_2x"])]
    first = Codes(codes.codes[:1], codes.size)
    jobs: list[Callable[[], Any]] = [lambda way=way: way.decode(first) for way in ways.values()]
    for name, seconds in zip(ways, interleaved(jobs, repeats)):
        figures[name]["milliseconds"] = round(1000 * median(seconds), 1)
    return figures, columns


def save_sheet(columns: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Rows of pictures, a column each way, all at 192 pixels."""
    rows = []
    for pictures in zip(*(column[:_SHOWN] for column in columns)):
        row = [p if len(p) == 192 else p.repeat(2, 0).repeat(2, 1) for p in pictures]
        rows.append(np.concatenate(row, axis=1))
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    options = _parser().parse_args()
    torch.set_num_threads(2)
    folder = model_directory(options.model) / "image_tokenizer"
    tokenizer = load_tokenizer(folder)
    try:
        decoder = DiffusionTokenizer.beside(folder, tokenizer).decoder
    except ValueError as error:  # the model has none
        raise SystemExit(f"error: {error}") from None
    number, repeats = (24, 3) if options.quick else (200, 9)
    pictures = scenes("heldout", number)
    by_decoder, columns = measure(pictures, tokenizer, decoder, options.font, repeats)
    for name, figures in by_decoder.items():
        say(f"{name:<18}" + "  ".join(f"{what} {value}" for what, value in figures.items()))
    if options.sheet is not None:
        save_sheet(columns, options.sheet)
    result = {
        "quick": options.quick,
        "pictures": number,
        "bits_per_pixel": round(tokenizer.bits_per_pixel, 4),
        "parameters": sum(p.numel() for p in decoder.parameters()),
        "decoders": by_decoder,
        "machine": machine(2, ("diffusers",)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
