"""The table of modalities: how media of each become codes, and codes media again.

Text is not among them: its ids are its own. A modality of others joins by one entry,

    register_modality(Modality subclass())

made when its module is imported: by whoever uses it, or by the library itself where an installed
package has an entry point in the group `unified.modalities` that names the module. The entry says
which class of segments holds the media in documents (`unified_data.segments.Media`), and how these
are prepared for a tokenizer; formats, vocabularies, training, sampling and folders of models know
the modality by its name from then on.

Shapes: K codebook levels, h w grid of codes, H W pixels, T frames, S samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unified.sequence.media_checks import check_picture, check_sound, check_video
from unified.sequence.modality_entry import Modality
from unified.sequence.preprocess import crop_picture, crop_video, fit_sound, whole_groups
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.frame_times import at_rate
from unified_data.document import (
    Audio,
    Box,
    Dialogue,
    Image,
    Label,
    Location,
    Media,
    Point,
    PointCloud,
    Region,
    Role,
    Slot,
    Video,
    WorldState,
)
from unified_data.segments import import_installed, media_class, register_media

if TYPE_CHECKING:
    from torch import Tensor

    from unified_tokenizers.base import (
        AudioTokenizer,
        ImageTokenizer,
        MediaTokenizer,
        VideoTokenizer,
    )
    from unified_tokenizers.label_codes import LabelTokenizer
    from unified_tokenizers.locations import LocationTokenizer

__all__ = [
    "Modality",
    "decode_codes",
    "encode_media",
    "modalities_in",
    "modality_of",
    "register_modality",
    "registered_modalities",
    "tile_of",
]


class _Pictures(Modality[Image, "ImageTokenizer"]):
    media = Image
    axes = ("height", "width")
    colour = "magenta"
    max_batch = 64
    max_batch_values = 600_000

    def prepare(
        self, segment: Image, tokenizer: ImageTokenizer, fit: int | None = None
    ) -> np.ndarray:
        pixels = segment.pixels
        if fit is not None and tile_of(tokenizer) is not None:
            pixels = tokenizer.preprocess(pixels)
        elif fit is not None:
            pixels = crop_picture(pixels, fit, tokenizer.stride)
        if tile_of(tokenizer) is None:
            check_picture(tokenizer, *pixels.shape[:2])
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def restore(
        self, codes: np.ndarray, tokenizer: ImageTokenizer, role: Role | None, loss: float
    ) -> Image:
        *tiles, h, w = codes.shape[1:]
        rows, columns = tiles or (1, 1)
        size = (rows * h * tokenizer.stride, columns * w * tokenizer.stride)
        pixels = np.round(decode_codes(tokenizer, codes, size) * 255.0).astype(np.uint8)
        return Image(np.ascontiguousarray(pixels.transpose(1, 2, 0)), role, loss)

    def again(self, decoded: Tensor) -> Tensor:
        return (decoded * 255).round().byte()

    def slot_grid(self, slot: Slot, tokenizer: ImageTokenizer) -> tuple[int, ...] | None:
        if slot.height is None or slot.width is None:
            return None
        check_picture(tokenizer, slot.height, slot.width)
        rows, columns = slot.height // tokenizer.stride, slot.width // tokenizer.stride
        if (tile := tile_of(tokenizer)) is None:
            return rows, columns
        h, w = tile
        if rows % h or columns % w:
            raise ValueError(
                f"a picture of {slot.width}x{slot.height} pixels does not divide into tiles of"
                f" {w * tokenizer.stride}x{h * tokenizer.stride}"
            )
        return rows // h, columns // w, h, w

    def describe(self, grid: tuple[int, ...], tokenizer: ImageTokenizer | None) -> str:
        if len(grid) == 4:
            return f"{grid[0]} rows of {grid[1]} tiles of {grid[2]}x{grid[3]} codes"
        if len(grid) != 2:
            return f"{grid[0]} codes in no rows"
        return f"grid of {grid[0]} rows of {grid[1]} codes"


class _Sounds(Modality[Audio, "AudioTokenizer"]):
    media = Audio
    colour = "cyan"
    max_batch = 8

    def prepare(
        self, segment: Audio, tokenizer: AudioTokenizer, fit: int | None = None
    ) -> np.ndarray:
        waveform, rate = segment.waveform, segment.sample_rate
        if isinstance(segment, Dialogue):
            raise ValueError(
                "the sound is a dialogue of two voices with words, which this format has no streams"
                " for; give one voice as an Audio, or take a model such as Moshi"
            )
        if fit is not None:
            waveform, _ = fit_sound(waveform, rate, tokenizer.sample_rate)
            rate = tokenizer.sample_rate
        check_sound(tokenizer, waveform.shape[0], rate)
        return np.ascontiguousarray(waveform)

    def restore(
        self, codes: np.ndarray, tokenizer: AudioTokenizer, role: Role | None, loss: float
    ) -> Audio:
        waveform = decode_codes(tokenizer, codes, (codes.shape[1] * tokenizer.hop,))
        return Audio(waveform, tokenizer.sample_rate, role, loss)

    def describe(self, grid: tuple[int, ...], tokenizer: AudioTokenizer | None) -> str:
        frames = f"{grid[0]} frames"
        return frames if tokenizer is None else f"{frames}, {grid[0] / tokenizer.frame_rate:.2f} s"


class _Locations(Modality[Location, "LocationTokenizer"]):
    """Boxes, or points: shares of a picture's sides, so that it may be scaled, but not cropped."""

    colour = "yellow"
    max_batch = 4_096

    def __init__(self, media: type[Location]) -> None:
        self.media = media  # type: ignore[misc]
        self._restored = media

    def prepare(
        self, segment: Location, tokenizer: LocationTokenizer, fit: int | None = None
    ) -> np.ndarray:
        return tokenizer.quantise(segment.at, segment.width, segment.height)[None]

    def restore(
        self, codes: np.ndarray, tokenizer: LocationTokenizer, role: Role | None, loss: float
    ) -> Location:
        bins = tokenizer.bins
        return self._restored.of(tokenizer.dequantise(codes[0]), (bins, bins), role, loss)

    def describe(self, grid: tuple[int, ...], tokenizer: LocationTokenizer | None) -> str:
        return f"{grid[0]} coordinates"


class _Videos(Modality[Video, "VideoTokenizer"]):
    media = Video
    axes = ("frames", "height", "width")
    colour = "yellow"
    max_batch = 8
    max_batch_values = 2_000_000

    def prepare(
        self, segment: Video, tokenizer: VideoTokenizer, fit: int | None = None
    ) -> np.ndarray:
        frames, times = segment.frames, segment.times
        if fit is not None:
            chosen = at_rate(times, tokenizer.frame_rate)
            frames = crop_video(
                whole_groups(frames[chosen], tokenizer.group), fit, tokenizer.stride
            )
            times = np.arange(len(frames)) / tokenizer.frame_rate
        check_video(tokenizer, frames, times)
        return np.ascontiguousarray(frames.transpose(3, 0, 1, 2))

    def restore(
        self, codes: np.ndarray, tokenizer: VideoTokenizer, role: Role | None, loss: float
    ) -> Video:
        t, h, w = codes.shape[1:]
        size = (1 + (t - 1) * tokenizer.group, h * tokenizer.stride, w * tokenizer.stride)
        pixels = np.round(decode_codes(tokenizer, codes, size) * 255.0).astype(np.uint8)
        frames = np.ascontiguousarray(pixels.transpose(1, 2, 3, 0))
        return Video.at_rate(frames, tokenizer.frame_rate, role, loss)

    def again(self, decoded: Tensor) -> Tensor:
        return (decoded * 255).round().byte()

    def slot_grid(self, slot: Slot, tokenizer: VideoTokenizer) -> tuple[int, ...] | None:
        if slot.height is None or slot.width is None or slot.frames is None:
            if slot.frames is None and slot.height is None:
                return None
            raise ValueError(
                f"the video slot asks for frames {slot.frames} and sides"
                f" {slot.width}x{slot.height}; give all of them, or none"
            )
        check_picture(tokenizer, slot.height, slot.width)
        group = tokenizer.group
        if (slot.frames - 1) % group:
            raise ValueError(
                f"a video of {slot.frames} frames does not divide into codes: the first frame has"
                f" its own, and every {group} behind it share theirs; ask for"
                f" {1 + (slot.frames - 1) // group * group} or"
                f" {1 + -(-(slot.frames - 1) // group) * group}"
            )
        side = tokenizer.stride
        return 1 + (slot.frames - 1) // group, slot.height // side, slot.width // side

    def describe(self, grid: tuple[int, ...], tokenizer: VideoTokenizer | None) -> str:
        if len(grid) != 3:
            return f"{grid[0]} codes in no frames"
        words = f"{grid[0]} frames of {grid[1]} rows of {grid[2]} codes"
        if tokenizer is None:
            return words
        return f"{words}, {(1 + (grid[0] - 1) * tokenizer.group) / tokenizer.frame_rate:.2f} s"


class _Labels(Modality[Label, "LabelTokenizer"]):
    media = Label
    colour = "yellow"
    max_batch = 4_096

    def prepare(
        self, segment: Label, tokenizer: LabelTokenizer, fit: int | None = None
    ) -> np.ndarray:
        return np.array([[tokenizer.number(segment.name)]], np.int64)

    def restore(
        self, codes: np.ndarray, tokenizer: LabelTokenizer, role: Role | None, loss: float
    ) -> Label:
        return Label(tokenizer.names[int(codes[0, 0])], role, loss)

    def describe(self, grid: tuple[int, ...], tokenizer: LabelTokenizer | None) -> str:
        return f"{grid[0]} label"


class _Read(Modality[Media, "MediaTokenizer"]):
    """Media that are read as vectors and have no tokenizer."""

    colour = "cyan"

    def __init__(self, media: type[Media]) -> None:
        self.media = media  # type: ignore[misc]

    def prepare(
        self, segment: Media, tokenizer: MediaTokenizer, fit: int | None = None
    ) -> np.ndarray:
        raise ValueError(f"{segment.plural} have no codes, they are read as vectors")

    def restore(
        self, codes: np.ndarray, tokenizer: MediaTokenizer, role: Role | None, loss: float
    ) -> Media:
        raise ValueError(f"{self.media.plural} have no codes, they are read as vectors")


_table: dict[str, Modality] = {}


def register_modality(modality: Modality) -> Modality:
    """Put a modality into the table, and its segments among those of documents. Returns it.

    Raises ValueError for what is no modality, and for a name that another one has.
    """
    if not isinstance(modality, Modality):
        raise ValueError(f"expected a Modality, found {type(modality).__name__}")
    register_media(modality.media)
    known = _table.get(modality.name)
    if known is not None and type(known).__qualname__ != type(modality).__qualname__:
        raise ValueError(
            f"modality '{modality.name}' is that of {type(known).__qualname__} already"
        )
    _table[modality.name] = modality
    return modality


def registered_modalities() -> dict[str, Modality]:
    """The modalities by name, in the order in which they were registered."""
    return dict(_table)


def modality_of(name: str) -> Modality:
    """The modality of a name. Raises ValueError for one that is not in the table."""
    if name not in _table:
        media_class(name)  # imports what is installed
    if name not in _table:
        raise ValueError(
            f"modality '{name}' has a class of segments, but no entry in the table: call"
            " register_modality with one"
        )
    return _table[name]


def modalities_in(vocabulary: Vocabulary) -> tuple[str, ...]:
    """The modalities that a vocabulary has blocks for, in the order of the table."""
    names = {block.name.partition(".")[0] for block in vocabulary.blocks if "." in block.name}
    if names - _table.keys():  # kinds of spans such as music, or modalities not imported yet
        import_installed()
    return tuple(name for name in _table if name in names)


register_modality(_Pictures())
register_modality(_Sounds())
register_modality(_Locations(Box))
register_modality(_Locations(Point))
register_modality(_Videos())
register_modality(_Labels())
for _class in (WorldState, Region, PointCloud):
    register_modality(_Read(_class))


def tile_of(tokenizer: ImageTokenizer) -> tuple[int, int] | None:
    """The grid (h, w) of codes of one tile, of a tokenizer of tiles; None of others."""
    tile = getattr(tokenizer, "tile", None)
    return None if tile is None else tuple(side // tokenizer.stride for side in tile)


def encode_media(tokenizer: MediaTokenizer, media: np.ndarray) -> np.ndarray:
    """One medium, channels first, -> codes int64 (K, *grid)."""
    from unified_tokenizers.arrays import encode_arrays

    return encode_arrays(tokenizer, media[None])[0]


def decode_codes(tokenizer: MediaTokenizer, codes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Codes (K, *grid) -> float32 media, channels first, of exactly `size`."""
    from unified_tokenizers.arrays import decode_arrays

    return decode_arrays(tokenizer, codes.astype(np.int64)[None], size)[0]
