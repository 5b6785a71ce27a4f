"""Encoders by what they read: those of `--read`, and those in models' folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unified.models.grafting.encoder_base import FeatureEncoder
from unified.models.grafting.encoders import ENCODER_FILE, PictureEncoder, load_encoder
from unified.models.grafting.number_encoders import StateEncoder
from unified.models.grafting.picture_stacks import FrameEncoder, RegionEncoder, TiledEncoder
from unified.models.hf_checkpoint import read_json
from unified_base.text import quoted

__all__ = ["READERS", "open_encoder", "stored_encoder"]


class _Reader(NamedTuple):
    """modality: of its media. options: that it takes. make: of an encoder of pictures."""

    modality: str
    options: tuple[str, ...]
    make: Callable[..., FeatureEncoder]


READERS: dict[str, _Reader] = {
    FrameEncoder.reads: _Reader("video", ("frames",), FrameEncoder),
    TiledEncoder.reads: _Reader("image", ("tiles",), TiledEncoder),
    RegionEncoder.reads: _Reader("region", (), RegionEncoder),
}
"""What reads media through an encoder of pictures, by its name in encoder.json."""


def open_encoder(
    source: str | Path, modality: str, layer: int | None = None, **options: int
) -> FeatureEncoder:
    """An encoder for media of a modality.

    Args:
        source: a folder; of "state", the numbers of a row.
        layer: whose hidden states are read; None: see `load_encoder`.
        options: `frames` of "video", `tiles` of "image".

    Raises ValueError for an option that it has not, and what is no encoder of the modality.
    """
    if modality == "state":
        _check(options, (), modality)
        if layer is not None or not str(source).isdecimal():
            raise ValueError(
                f"the encoder of states is {quoted(str(source))}, expected the numbers of a row,"
                " such as 9, and no layer"
            )
        return StateEncoder(int(str(source)))
    readers = [r for r in READERS.values() if r.modality == modality]
    reader = next((r for r in readers if modality != "image" or set(options)), None)
    _check(options, () if reader is None else reader.options, modality)
    encoder = load_encoder(Path(source), layer)
    if reader is None:
        return _of(modality, encoder)
    return reader.make(_pictures(encoder, modality), **options)


def stored_encoder(folder: Path) -> FeatureEncoder:
    """The encoder that `FeatureEncoder.save` wrote. Raises ValueError for what is none."""
    path = folder / ENCODER_FILE
    entries: Mapping[str, Any] = read_json(path) if path.exists() else {}
    reads = entries.get("reads")
    rest = {name: value for name, value in entries.items() if name not in ("layer", "reads")}
    if reads == StateEncoder.reads and set(rest) == {"width"}:
        return StateEncoder(rest["width"])
    if reads is None and not rest:
        return load_encoder(folder)
    reader = READERS.get(reads) if isinstance(reads, str) else None
    if reader is None or set(rest) != set(reader.options):
        raise ValueError(f"{path} is {quoted(entries)}, which no encoder of this version writes")
    return reader.make(_pictures(load_encoder(folder), str(reads)), **rest)


def _pictures(encoder: FeatureEncoder, what: str) -> PictureEncoder:
    if not isinstance(encoder, PictureEncoder):
        raise ValueError(f"{what} is read through an encoder of pictures, found {encoder.modality}")
    return encoder


def _of(modality: str, encoder: FeatureEncoder) -> FeatureEncoder:
    if encoder.modality != modality:
        raise ValueError(
            f"the encoder for {modality} is one of {encoder.modality}; give it for that"
        )
    return encoder


def _check(options: Mapping[str, int], known: tuple[str, ...], modality: str) -> None:
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(
            f"the encoder of {modality} has no option {', '.join(unknown)}; it has"
            f" {', '.join(known) or 'none'}"
        )
