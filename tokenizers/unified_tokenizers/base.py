"""The contract of every media tokenizer: media -> codes -> media.

Legend: B batch, K codebooks (levels), T frames, H W code grid, S samples, D width.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unified_tokenizers.quantizers import QuantizerConfig

__all__ = ["Codes", "MediaTokenizer", "SavedTokenizer", "check_codes", "load_tokenizer"]


@dataclass(frozen=True, eq=False)
class Codes:
    """What `encode` gives and `decode` takes.

    Attributes:
        codes: int64 (B, K, *grid): (B, K, H, W) for images, (B, K, T) for audio.
        size: (height, width) in pixels, or (num_samples,), of the media that was encoded:
            `decode` gives back exactly this.
    """

    codes: Tensor
    size: tuple[int, ...]


@runtime_checkable
class MediaTokenizer(Protocol):
    """What the rest of the library may ask of a tokenizer."""

    modality: str

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex, 16 characters) of configuration and weights."""

    def encode(self, media: Tensor) -> Codes:
        """Media of one shape to codes."""

    def decode(self, codes: Codes) -> Tensor:
        """Codes to media of exactly `codes.size`."""

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors."""


def check_codes(codes: Tensor, codebook_sizes: tuple[int, ...], grid_dims: int, what: str) -> None:
    """Refuse codes that no encoder could have made.

    Raises:
        ValueError: the shape is not (B, K, *grid), the dtype is not int64, or a code is out of
            the range of its codebook.
    """
    shape = tuple(codes.shape)
    if codes.ndim != 2 + grid_dims or codes.shape[1] != len(codebook_sizes) or codes.numel() == 0:
        grid = "H, W" if grid_dims == 2 else "T"
        raise ValueError(
            f"{what} codes have shape {shape}, expected (B, {len(codebook_sizes)}, {grid})"
            " with no empty axis"
        )
    if codes.dtype != torch.int64:
        raise ValueError(f"{what} codes have dtype {codes.dtype}, expected torch.int64")
    for level, size in enumerate(codebook_sizes):
        low, high = int(codes[:, level].min()), int(codes[:, level].max())
        if low < 0 or high >= size:
            bad = low if low < 0 else high
            raise ValueError(
                f"{what} code {bad} at level {level} is out of range, expected 0 to {size - 1}"
            )


def check_waveform(media: Tensor, channels: int) -> Tensor:
    """Waveforms (B, channels, S) as float32.

    Raises:
        ValueError: another shape or dtype, empty, or values that are not finite.
    """
    if media.ndim != 3 or media.shape[1] != channels or media.numel() == 0:
        advice = "; mix stereo down first" if channels == 1 else ""
        shape = "B, 1, S" if channels == 1 else f"B, {channels}, S"
        raise ValueError(
            f"waveforms have shape {tuple(media.shape)}, expected ({shape}) and not empty{advice}"
        )
    if not media.is_floating_point():
        raise ValueError(f"waveforms have dtype {media.dtype}, expected floating point")
    if not torch.isfinite(media).all():
        raise ValueError("the waveform holds values that are not finite (NaN or infinity)")
    return media.float()


def check_pixels(media: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), uint8 or floating point in [0, 1], as float32 in [0, 1].

    Raises:
        ValueError: another shape or dtype, an empty picture, values outside [0, 1], or values
            that are not finite.
    """
    if media.ndim != 4 or media.shape[1] != 3 or media.numel() == 0:
        raise ValueError(
            f"pictures have shape {tuple(media.shape)}, expected (B, 3, H, W) and not empty"
        )
    if media.dtype == torch.uint8:
        return media.float() / 255
    if not media.is_floating_point():
        raise ValueError(f"pictures have dtype {media.dtype}, expected uint8 or floating point")
    pixels = media.float()
    if not torch.isfinite(pixels).all():
        raise ValueError("the picture holds values that are not finite (NaN or infinity)")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise ValueError(f"pixels range from {low:g} to {high:g}, expected [0, 1]")
    return pixels


def check_audio_codes(codes: Codes, codebook_sizes: tuple[int, ...], hop: int) -> None:
    """`check_codes`, and that the number of samples belongs to the number of frames."""
    check_codes(codes.codes, codebook_sizes, 1, "audio")
    frames, num_samples = codes.codes.shape[2], codes.size[0]
    if -(-num_samples // hop) != frames:
        raise ValueError(f"{num_samples} samples do not have {frames} frames at {hop} samples each")


def check_image_codes(codes: Codes, codebook_sizes: tuple[int, ...], stride: int) -> None:
    """`check_codes`, and that the size in pixels belongs to the grid."""
    check_codes(codes.codes, codebook_sizes, 2, "image")
    grid = tuple(codes.codes.shape[2:])
    if tuple(-(-side // stride) for side in codes.size) != grid:
        raise ValueError(
            f"a picture of {codes.size} pixels does not have a grid of {grid} codes"
            f" at stride {stride}"
        )


class SavedTokenizer(nn.Module):
    """Saving, loading and fingerprints, shared by our own tokenizers.

    A subclass sets `modality`, `config_class` and `presets`, takes its configuration dataclass as
    only argument and keeps it in `self.config`.
    """

    modality: str
    config_class: type[Any]
    presets: dict[str, dict[str, Any]]
    config: Any

    def save_pretrained(
        self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None
    ) -> None:
        """Write `config.json` and `model.safetensors` into `folder`.

        Args:
            dtype: store floating-point weights in this type (loading casts back to float32).
        """
        assert is_dataclass(self.config)
        assert not isinstance(self.config, type)
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        state = {
            name: (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()
            for name, value in self.state_dict().items()
        }
        config = {"modality": self.modality, **asdict(self.config)}
        partial = path / "model.safetensors.partial"
        save_file(state, partial)
        os.replace(partial, path / "model.safetensors")
        partial = path / "config.json.partial"
        partial.write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        os.replace(partial, path / "config.json")

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> SavedTokenizer:
        """Load what `save_pretrained` wrote, in float32 and evaluation mode.

        Raises:
            ValueError: files missing, torn, of another modality, or of other shapes.
        """
        path = Path(folder)
        entries = _read_config(path)
        modality = entries.pop("modality", None)
        if modality != cls.modality:
            raise ValueError(
                f"the tokenizer in {path} is for {modality!r}, expected {cls.modality!r}"
            )
        try:
            tokenizer = cls(cls.parse_config(entries))
        except TypeError as error:
            raise ValueError(f"{path / 'config.json'} holds a wrong value: {error}") from None
        try:
            state = load_file(path / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"cannot read the weights of the tokenizer in {path}: {error}"
            ) from None
        try:
            tokenizer.load_state_dict(
                {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
            )
        except RuntimeError as error:
            summary = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the weights in {path} do not fit its config.json: {summary}"
            ) from None
        return tokenizer.eval()

    @classmethod
    def parse_config(cls, entries: dict[str, Any]) -> Any:
        """The configuration dataclass from plain entries; lists become tuples.

        An entry `preset` stands for the entries of that name, which the others then replace.

        Raises ValueError for unknown entries and for a quantizer that cannot be.
        """
        if "preset" in entries:
            name = entries["preset"]
            if name not in cls.presets:
                raise ValueError(f"preset {name!r}, expected one of {', '.join(cls.presets)}")
            entries = {**cls.presets[name], **entries}
            del entries["preset"]
        known = {field.name for field in fields(cls.config_class)}
        if unknown := set(entries) - known:
            raise ValueError(
                f"unknown {cls.modality} tokenizer settings {sorted(unknown)}, expected"
                f" {sorted(known)}"
            )
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()}
        if "quantizer" in values:
            values["quantizer"] = QuantizerConfig.parse(values["quantizer"])
        return cls.config_class(**values)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex characters) of the configuration and of every weight."""
        digest = hashlib.sha256(json.dumps(_changed(self.config), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def _changed(config: Any) -> dict[str, Any]:
    """What a configuration sets to other than the default: a setting added to the library later
    leaves the fingerprints of tokenizers that do without it as they are."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            found[field.name] = _changed(value) if is_dataclass(value) else value
    return found


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        entries = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"no readable config.json of a tokenizer in {folder}: {error}") from None
    if not isinstance(entries, dict):
        raise ValueError(f"{folder / 'config.json'} is not a tokenizer's: expected a JSON object")
    return entries


def load_tokenizer(folder: str | os.PathLike[str]) -> Any:
    """Load the tokenizer in `folder` as its config.json says: one of ours, or a pretrained codec
    of transformers or diffusers (see `unified_tokenizers.adapters`).

    Raises:
        ValueError: files missing, torn, of an unknown kind, or of other shapes.
    """
    entries = _read_config(Path(folder))
    if "modality" not in entries and {"model_type", "_class_name"} & set(entries):
        from unified_tokenizers.adapters import load_codec

        return load_codec(folder)
    modality = entries.get("modality")
    if modality == "image":
        from unified_tokenizers.image import ImageTokenizer

        return ImageTokenizer.from_pretrained(folder)
    if modality == "audio":
        from unified_tokenizers.audio import AudioTokenizer

        return AudioTokenizer.from_pretrained(folder)
    raise ValueError(
        f"{Path(folder) / 'config.json'} names modality {modality!r}, expected 'image' or 'audio'"
    )
