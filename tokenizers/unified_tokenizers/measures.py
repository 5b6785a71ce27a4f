"""How near a reconstruction is to its original, and how well codes are used.

torchmetrics, pystoi and pesq do the work; the extra `measure` installs them.

Legend: H W pixels, S samples, K codebooks.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np
import torch

from unified_base.extras import missing_extra
from unified_tokenizers.spectral import MultiScaleMelLoss

__all__ = [
    "CodeUse",
    "check_installed",
    "mel_distance",
    "ms_ssim",
    "pesq",
    "psnr",
    "si_sdr",
    "ssim",
    "stoi",
]

# Of five scales, from Wang et al., 2003.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11


def _need(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        # torchmetrics imports others of this extra.
        lacking = error.name if isinstance(error, ModuleNotFoundError) else None
        package = (lacking or module).split(".")[0]
        raise missing_extra("measuring a tokenizer", package, "measure") from None


_NEEDED = {
    "image": ("torchmetrics.functional.image",),
    "audio": ("pystoi", "torchmetrics.functional.audio"),
}


def check_installed(modality: str, plot: bool = False) -> None:
    """Raises ValueError where a library that measures media of this modality is not installed.

    plot: whether `report.save_plot` is wanted too.
    """
    for module in (*_NEEDED[modality], *(["matplotlib"] if plot else [])):
        _need(module)


def _check_pictures(reference: np.ndarray, picture: np.ndarray) -> None:
    if reference.dtype != np.uint8 or picture.dtype != np.uint8 or reference.shape != picture.shape:
        raise ValueError(
            f"pictures are {reference.dtype} {reference.shape} and {picture.dtype} "
            f"{picture.shape}, expected uint8 of one shape"
        )


def psnr(reference: np.ndarray, picture: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 arrays of one shape; inf where they are equal.

    Raises ValueError for other dtypes or different shapes.
    """
    _check_pictures(reference, picture)
    error = float(np.mean((reference.astype(np.float64) - picture) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def _batch(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.transpose(2, 0, 1).copy())[None].float() / 255


def ssim(reference: np.ndarray, picture: np.ndarray) -> float:
    """Structural similarity of two uint8 pictures (H, W, 3), at most 1 (Wang et al., 2004).

    Raises ValueError for other arrays, and for sides below the window's 11 pixels.
    """
    return ms_ssim(reference, picture, scales=1)


def ms_ssim(reference: np.ndarray, picture: np.ndarray, scales: int | None = None) -> float:
    """Multi-scale SSIM of two uint8 pictures (H, W, 3), at most 1 (Wang et al., 2003).

    Args:
        scales: how many of the five; the default is as many as the picture has room for (two from
            22 pixels, three from 44, four from 99, five from 176). Their weights are scaled to a
            sum of 1.

    Raises ValueError for other arrays and for a picture too small for the scales.
    """
    _check_pictures(reference, picture)
    side = min(reference.shape[:2])
    # torchmetrics asks for the second condition, which four scales alone feel.
    room = sum(
        side // 2**scale >= _WINDOW and side // max(1, scale) ** 2 >= _WINDOW
        for scale in range(len(_SCALE_WEIGHTS))
    )
    if not 1 <= (room if scales is None else scales) <= room:
        raise ValueError(
            f"a picture of {reference.shape[0]}x{reference.shape[1]} pixels is too small for SSIM"
            f" at {scales or 1} scales; there is room for {room}"
        )
    metrics = _need("torchmetrics.functional.image")
    pair = _batch(picture), _batch(reference)
    if scales == 1:
        return float(metrics.structural_similarity_index_measure(*pair, data_range=1.0))
    weights = np.array(_SCALE_WEIGHTS[: room if scales is None else scales])
    similarity = metrics.multiscale_structural_similarity_index_measure(
        *pair, data_range=1.0, betas=tuple((weights / weights.sum()).tolist()), normalize="relu"
    )
    return float(similarity)


def _check_sounds(reference: np.ndarray, sound: np.ndarray) -> None:
    if reference.ndim != 1 or reference.shape != sound.shape:
        raise ValueError(
            f"waveforms have shapes {reference.shape} and {sound.shape}, expected (S,) both"
        )


def stoi(reference: np.ndarray, sound: np.ndarray, sample_rate: int) -> float:
    """Short-time objective intelligibility of two waveforms (S,), about 0 to 1 (Taal et al., 2011).

    Raises ValueError for different shapes or more than one channel, and without pystoi.
    """
    _check_sounds(reference, sound)
    return float(_need("pystoi").stoi(reference, sound, sample_rate))


def pesq(reference: np.ndarray, sound: np.ndarray, sample_rate: int) -> float | None:
    """PESQ of two waveforms (S,) of speech: wide-band at 16 kHz, narrow-band at 8 kHz; 1 to 4.6.

    ITU-T P.862. None where it finds no speech.

    Raises ValueError for different shapes, other sample rates, and without pesq.
    """
    _check_sounds(reference, sound)
    modes = {16_000: "wb", 8_000: "nb"}
    if sample_rate not in modes:
        raise ValueError(f"PESQ is for 8,000 or 16,000 Hz, found {sample_rate} Hz; resample first")
    library = _need("pesq")
    try:
        return float(library.pesq(sample_rate, reference, sound, modes[sample_rate]))
    except library.NoUtterancesError:
        return None


def si_sdr(reference: np.ndarray, sound: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB of two waveforms (S,) (Le Roux et al., 2019)

    Raises ValueError for different shapes.
    """
    _check_sounds(reference, sound)
    metrics = _need("torchmetrics.functional.audio")
    distortion = metrics.scale_invariant_signal_distortion_ratio(
        torch.from_numpy(sound).double(), torch.from_numpy(reference).double()
    )
    return float(distortion)


def mel_distance(reference: np.ndarray, sound: np.ndarray, sample_rate: int) -> float:
    """Mean absolute difference of log-mel spectra at six window lengths (the training's mel loss).

    Raises ValueError for different shapes and for less than 512 samples.
    """
    _check_sounds(reference, sound)
    length = len(reference) // 512 * 512
    if not length:
        raise ValueError(f"the waveform has {len(reference)} samples, expected at least 512")
    pair = [torch.from_numpy(w[None, :length]).float() for w in (sound, reference)]
    return float(MultiScaleMelLoss(sample_rate)(*pair))


class CodeUse:
    """Counts of the codes of a whole evaluation set: perplexity depends on how many are counted."""

    def __init__(self, codebook_sizes: tuple[int, ...]) -> None:
        self.counts = [np.zeros(size, np.int64) for size in codebook_sizes]

    def add(self, codes: torch.Tensor) -> None:
        """codes: int64 (B, K, *grid)."""
        for level, counts in enumerate(self.counts):
            counts += np.bincount(codes[:, level].flatten().numpy(), minlength=len(counts))

    @property
    def usage(self) -> list[float]:
        """Share of each codebook's codes that occurred."""
        return [float((counts > 0).mean()) for counts in self.counts]

    @property
    def entropy(self) -> list[float]:
        """Bits a code of each codebook, coded by how often it occurred (order 0).

        The frequencies are those of the codes themselves, so a small set is told too few bits.
        """
        entropies = []
        for counts in self.counts:
            share = counts[counts > 0] / counts.sum()
            entropies.append(float(-(share * np.log2(share)).sum()))
        return entropies

    @property
    def perplexity(self) -> list[float]:
        """2 to the entropy: as many codes, used equally, would say as much."""
        return [2.0**bits for bits in self.entropy]
