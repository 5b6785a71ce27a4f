"""Code shards: documents whose pictures and sounds are stored as the codes of a tokenizer.

A sample is KEY.json and KEY.POSITION.codes for each medium. Segments of text are as in documents,
others {"type": "image", "codes": "KEY.1.codes", "shape": [K, h, w]}, sounds with shape [K, T]. The
codes are little-endian integers in C order; what they are codes of stands in the folder's index.

What a model reads as vectors is stored as its encoder's features, float16 (*grid, E), or as the
prepared medium, uint8 or float32, for the encoder to read in training: {"type": KIND, "codes":
"KEY.1.codes", "shape": [1, h, w], "features": [h, w, E]}, where shape is that of the positions and
the member holds the features.

K codebook levels, h w grid of a picture, T frames of sound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unified.formats.coded import CodedMedia, coded_media
from unified.sequence.modality import modality_of
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.config import parse_config
from unified_base.text import quoted
from unified_data.document import MAX_SEGMENTS, MAX_SIDE, Text, common_entries, keys_of
from unified_data.segments import modalities
from unified_data.shards import read_index

if TYPE_CHECKING:
    from unified.sequence.continuous import Embedder
    from unified_tokenizers.base import MediaTokenizer

__all__ = ["CodesOf", "Stored", "StoredCodes", "read_stored_codes"]

Stored = Text | CodedMedia
"""A segment of a code shard. Text is tokenized when it is used: that costs little."""

_MAX_LEVELS = 64
_FEATURES = ("float16", "uint8", "float32")
_MAX_NAME = 200


@dataclass(frozen=True)
class CodesOf:
    """Whose codes a shard holds: of the tokenizer with this fingerprint and these codebooks.

    embeds: of what is read as vectors, the modality of its media; the fingerprint is the encoder's
    then. features: numpy's name of what is stored of it: float16 of features, uint8 or float32 of
    media.
    """

    fingerprint: str
    codebook_sizes: tuple[int, ...]
    embeds: str | None = None
    features: str | None = None

    @property
    def dtype(self) -> str:
        """numpy's name of the stored numbers."""
        if self.features is not None:
            return self.features
        return "uint16" if max(self.codebook_sizes) <= 65_536 else "uint32"

    @property
    def what(self) -> str:
        """What is stored, and whose."""
        return "codes of tokenizer" if self.embeds is None else "features for encoder"

    @classmethod
    def of(cls, tokenizer: MediaTokenizer) -> CodesOf:
        return cls(tokenizer.fingerprint, tuple(int(size) for size in tokenizer.codebook_sizes))

    @classmethod
    def of_embedder(cls, embedder: Embedder, live: bool) -> CodesOf:
        """live: media are stored, not their features."""
        features = embedder.prepared if live else "float16"
        return cls(embedder.fingerprint, (1,), embedder.modality, features)

    def to_json(self) -> dict[str, Any]:
        sizes = list(self.codebook_sizes)
        entry = {"fingerprint": self.fingerprint, "codebook_sizes": sizes, "dtype": self.dtype}
        return entry if self.embeds is None else {**entry, "embeds": self.embeds}


@dataclass(frozen=True)
class _CodesEntry:
    """Of an index: what the codes of one modality are."""

    fingerprint: str
    codebook_sizes: tuple[int, ...]
    dtype: str
    embeds: str | None = None

    def __post_init__(self) -> None:
        sizes = self.codebook_sizes
        if not 0 < len(sizes) <= _MAX_LEVELS or not all(0 < size <= 2**32 for size in sizes):
            raise ValueError(
                f"codebook_sizes is {quoted(list(sizes))}, expected 1 to {_MAX_LEVELS} sizes "
                "of 1 to 2^32"
            )
        if len(self.fingerprint) > _MAX_NAME:
            raise ValueError(
                f"fingerprint is {quoted(self.fingerprint)}, expected at most {_MAX_NAME} "
                "characters"
            )


@dataclass(frozen=True)
class _Entries:
    """The entries of an index that `StoredCodes` is made of."""

    codes: Mapping[str, _CodesEntry]
    round_trip: bool = False
    fit: int | None = None

    def __post_init__(self) -> None:
        if self.fit is not None and not 0 < self.fit <= MAX_SIDE:
            raise ValueError(f"fit is {self.fit}, expected 1 to {MAX_SIDE:,} pixels a side")


@dataclass(frozen=True)
class StoredCodes:
    """What a folder of code shards holds.

    Attributes:
        media: by modality whose codes.
        round_trip: whether they are of what the tokenizer makes of the media's codes.
        fit: pixels a side that pictures were made to fit, see `MediaEncoder`; None: they fitted.
    """

    media: Mapping[str, CodesOf]
    round_trip: bool = False
    fit: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The entries `codes`, `round_trip` and `fit` of an index."""
        codes = {modality: codes.to_json() for modality, codes in sorted(self.media.items())}
        return {"codes": codes, "round_trip": self.round_trip, "fit": self.fit}

    @classmethod
    def from_json(cls, entries: Mapping[str, Any], where: str) -> StoredCodes:
        """The inverse of `to_json`; other entries are left alone. ValueError for wrong ones."""
        own = {name: entries[name] for name in ("codes", "round_trip", "fit") if name in entries}
        stored = parse_config(_Entries, own, where)
        media = {}
        for modality, entry in stored.codes.items():
            try:
                modality_of(modality if entry.embeds is None else entry.embeds)
            except ValueError as error:
                raise ValueError(f"{where}: codes.{quoted(modality)}: {error}") from None
            features = entry.dtype if entry.embeds is not None else None
            if features is not None and features not in _FEATURES:
                raise ValueError(
                    f"{where}: codes.{modality}.dtype is {quoted(entry.dtype)}, expected one of"
                    f" {', '.join(_FEATURES)} of what is read as vectors"
                )
            media[modality] = CodesOf(
                entry.fingerprint, entry.codebook_sizes, entry.embeds, features
            )
            if entry.dtype != media[modality].dtype:
                raise ValueError(
                    f"{where}: codes.{modality}.dtype is {quoted(entry.dtype)}, expected "
                    f"{media[modality].dtype} for codebooks of {quoted(list(entry.codebook_sizes))}"
                )
        return cls(media, stored.round_trip, stored.fit)

    def check(self, vocabulary: Vocabulary, where: str) -> None:
        """Raises ValueError where the codes are not those that the vocabulary has ids for."""
        for modality, codes in self.media.items():
            blocks = vocabulary.levels(modality)
            if not blocks:
                continue  # a document that holds such media is refused when it is laid out
            sizes = tuple(block.size for block in blocks)
            if blocks[0].fingerprint not in (None, codes.fingerprint):
                raise ValueError(
                    f"{where} holds {modality} {codes.what} {codes.fingerprint}, the vocabulary was"
                    f" made for {blocks[0].fingerprint}; tokenize the documents again"
                )
            if sizes != codes.codebook_sizes:
                raise ValueError(
                    f"{where} holds {modality} codes of codebooks {codes.codebook_sizes}, the "
                    f"vocabulary has blocks of {sizes}; tokenize the documents again"
                )

    def to_parts(
        self, key: str, segments: Sequence[Stored]
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The JSON object and the bytes of the codes by member name, as a shard holds them."""
        rows: list[dict[str, Any]] = []
        media: dict[str, bytes] = {}
        for position, segment in enumerate(segments):
            if isinstance(segment, Text):
                row: dict[str, Any] = {"type": "text", "text": segment.text}
            else:
                name = f"{key}.{position}.codes"
                row = {"type": segment.kind, "codes": name, "shape": list(segment.codes.shape)}
                codes_of = self._codes_of(segment.kind)
                if len(segment.codes) != len(codes_of.codebook_sizes) or segment.codes.min() < 0:
                    raise ValueError(f"{segment.kind} codes have shape {segment.codes.shape}, "
                                     f"expected {codes_of.codebook_sizes} levels")  # fmt: skip
                _check_codes(segment.codes, codes_of, segment.kind)
                dtype = np.dtype(codes_of.dtype).newbyteorder("<")
                values = segment.codes
                if codes_of.embeds is not None:
                    assert segment.features is not None
                    values = segment.features
                    row["features"] = list(values.shape)
                media[name] = values.astype(dtype).tobytes()
            rows.append(row | common_entries(segment.role, segment.loss))
        return {"segments": rows}, media

    def from_parts(self, key: str, obj: Any, media: Mapping[str, bytes]) -> list[Stored]:
        """The segments of a sample: the inverse of `to_parts`.

        Raises ValueError, naming the segment's position, on anything that is not as said above,
        codes outside their codebook and media left over included.
        """
        if not isinstance(obj, dict) or set(obj) != {"segments"}:
            raise ValueError(
                f"document has {keys_of(obj)}, expected an object with only 'segments'"
            )
        rows = obj["segments"]
        if not isinstance(rows, list) or not 0 < len(rows) <= MAX_SEGMENTS:
            raise ValueError(f"document's 'segments' is not a list of at least one and "
                             f"at most {MAX_SEGMENTS:,}")  # fmt: skip
        segments: list[Stored] = []
        used = 0
        for position, row in enumerate(rows):
            try:
                segments.append(self._segment(f"{key}.{position}.codes", row, media))
            except ValueError as error:
                raise ValueError(f"segment {position}: {error}") from None
            used += not isinstance(segments[-1], Text)
        if used != len(media):
            names = {f"{key}.{i}.codes" for i, s in enumerate(segments) if not isinstance(s, Text)}
            unused = quoted(sorted(set(media) - names))
            raise ValueError(f"there are codes that no segment uses: {unused}")
        return segments

    def _segment(self, name: str, row: Any, media: Mapping[str, bytes]) -> Stored:
        kind = row.get("type") if isinstance(row, dict) else None
        if not isinstance(kind, str) or kind not in (*modalities(), *self.media):
            raise ValueError(f"type is {quoted(kind)}, expected one of {', '.join(modalities())}")
        wanted = {"type", "text"} if kind == "text" else {"type", "codes", "shape"}
        codes_of = self.media.get(kind)
        if codes_of is not None and codes_of.embeds is not None:
            wanted |= {"features"}
        if not wanted <= set(row) <= wanted | {"role", "loss"}:
            raise ValueError(
                f"a {kind} segment has {keys_of(row)}, expected {sorted(wanted)} and perhaps role "
                "and loss"
            )
        common = {"role": row.get("role"), "loss": row.get("loss", 1.0)}
        # The one place that judges role and loss; of media they are passed on from here.
        text = Text(row["text"] if kind == "text" else "-", **common)
        if kind == "text":
            return text
        if row["codes"] != name or name not in media:
            raise ValueError(f"its codes are {quoted(row['codes'])}, expected the member {name}")
        if codes_of is not None and codes_of.embeds is not None:
            codes = np.zeros(_shape(row["shape"], "shape", 1), np.int64)
            features = _features(row["features"], media[name], codes_of.dtype)
            return coded_media(codes_of.embeds, codes, text.role, text.loss, kind, features)
        codes = self._array(kind, row["shape"], media[name])
        return coded_media(kind, codes, text.role, text.loss)

    def _array(self, kind: str, shape: Any, data: bytes) -> np.ndarray:
        codes_of = self._codes_of(kind)
        # In full, or laid out in no rows: both with the levels.
        # Pictures may be in rows of tiles, too.
        dims = sorted({2, 1 + len(modality_of(kind).axes), *((5,) if kind == "image" else ())})
        if (
            not isinstance(shape, list)
            or len(shape) not in dims
            or not all(type(side) is int and side > 0 for side in shape)
            or shape[0] != len(codes_of.codebook_sizes)
        ):
            raise ValueError(
                f"{kind} codes have shape {quoted(shape)}, expected "
                f"{len(codes_of.codebook_sizes)} levels and "
                f"{' or '.join(str(n - 1) for n in dims)} sides of at least 1"
            )
        dtype = np.dtype(codes_of.dtype).newbyteorder("<")
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(
                f"{kind} codes of shape {shape} are {len(data):,} bytes, expected "
                f"{math.prod(shape) * dtype.itemsize:,} of {codes_of.dtype}"
            )
        codes = np.frombuffer(data, dtype).reshape(shape)
        _check_codes(codes, codes_of, kind)
        return codes

    def _codes_of(self, kind: str) -> CodesOf:
        if kind not in self.media:
            raise ValueError(f"there is {kind} among codes of {sorted(self.media) or 'text alone'}")
        return self.media[kind]


def _check_codes(codes: np.ndarray, codes_of: CodesOf, kind: str) -> None:
    for level, size in enumerate(codes_of.codebook_sizes):
        most = int(codes[level].max())
        if most >= size:
            raise ValueError(f"{kind} code {most} of level {level} is outside its {size} codes")


_MOST_FEATURES = 1 << 28


def _shape(entry: Any, name: str, first: int | None = None) -> tuple[int, ...]:
    sides = isinstance(entry, list) and all(type(n) is int and n > 0 for n in entry)
    if not sides or not 2 <= len(entry) <= 4 or math.prod(entry) > _MOST_FEATURES:
        raise ValueError(f"{name} is {quoted(entry)}, expected 2 to 4 sides of at least 1")
    if first is not None and entry[0] != first:
        raise ValueError(f"{name} is {quoted(entry)}, expected {first} first")
    return tuple(entry)


def _features(shape: Any, data: bytes, name: str) -> np.ndarray:
    sides, dtype = _shape(shape, "features"), np.dtype(name).newbyteorder("<")
    if len(data) != math.prod(sides) * dtype.itemsize:
        raise ValueError(
            f"features of shape {shape} are {len(data):,} bytes, expected"
            f" {math.prod(sides) * dtype.itemsize:,} of {name}"
        )
    features = np.frombuffer(data, dtype).reshape(sides)
    if dtype.kind == "f" and not np.isfinite(features).all():
        raise ValueError("its features hold numbers that are not finite")
    return features


def read_stored_codes(folder: str | Path) -> StoredCodes | None:
    """What the code shards in a folder hold, None where it is no folder of code shards.

    Raises ValueError for an index that is broken.
    """
    if not (Path(folder) / "index.json").is_file():
        return None
    index = read_index(folder)
    return StoredCodes.from_json(index, f"{folder}/index.json") if "codes" in index else None
