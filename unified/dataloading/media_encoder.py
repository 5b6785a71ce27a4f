"""Encode the pictures and sounds of documents, those of one size together and each only once.

Encoding the pictures of a shard together is five times faster than one by one, and the articles
of the pocket world show the same picture many times.

B media of one size, K codebook levels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from unified.dataloading.stored_codes import CodesOf, Stored, StoredCodes
from unified.formats.coded import coded_media
from unified.sequence.continuous import Embedder, choose_embedder
from unified.sequence.modality import modality_of
from unified.sequence.preprocess import is_cut
from unified_data.document import Document, Image, Location, Media, Segment, Text
from unified_tokenizers.base import AudioTokenizer, ImageTokenizer, MediaTokenizer

__all__ = ["MediaEncoder", "one_thread"]

_Outcome = np.ndarray | tuple[np.ndarray, np.ndarray] | ValueError
"""Codes; codes and features, of what is read as vectors; or why there are none."""


class MediaEncoder:
    """Codes the media of documents.

    Args:
        image, audio: media tokenizers, None where documents hold no such media.
        others: tokenizers of other modalities, by name.
        round_trip: give the codes of what the tokenizer makes of the codes.
        fit: make media fit: pictures are scaled down to at most so many pixels a side and cut to
            multiples of the tokenizer's stride, sounds mixed to one channel of its sample rate.
            None: media that do not fit are errors.
        embedders: by kind, what reads media as vectors.
        live: store media that are read as vectors as they are, not their features.
    """

    def __init__(
        self,
        image: ImageTokenizer | None = None,
        audio: AudioTokenizer | None = None,
        round_trip: bool = False,
        fit: int | None = None,
        others: Mapping[str, MediaTokenizer] | None = None,
        embedders: Mapping[str, Embedder] | None = None,
        live: bool = True,
    ) -> None:
        by_name = {"image": image, "audio": audio, **(others or {})}
        self._tokenizers = {
            modality: tokenizer for modality, tokenizer in by_name.items() if tokenizer is not None
        }
        for modality, tokenizer in self._tokenizers.items():
            if tokenizer.modality != modality:
                raise ValueError(
                    f"the {modality} tokenizer is one of {tokenizer.modality}; give the other"
                )
        self._fit = fit
        self._embedders, self._live = dict(embedders or {}), live
        media = {name: CodesOf.of(tokenizer) for name, tokenizer in self._tokenizers.items()}
        media |= {k: CodesOf.of_embedder(e, live) for k, e in self._embedders.items()}
        self.stored = StoredCodes(media, round_trip, fit)

    def encode(self, documents: Sequence[Document]) -> list[list[Stored] | ValueError]:
        """The segments of each document, or why it cannot be coded."""
        wanted: list[dict[int, tuple[str, bytes]] | ValueError] = []
        media: dict[tuple[str, bytes], np.ndarray] = {}
        for document in documents:
            digests: dict[int, tuple[str, bytes]] = {}
            try:
                self._check_places(document)
                for position, segment in enumerate(document):
                    if isinstance(segment, Text):
                        continue
                    with _at(position):
                        kind, array = self._array(segment)
                    content = array.tobytes() + str(array.shape).encode()
                    digests[position] = kind, hashlib.sha256(content).digest()
                    media[digests[position]] = array
                wanted.append(digests)
            except ValueError as error:
                wanted.append(error)
        codes = self._code_all(media)
        return [
            digests if isinstance(digests, ValueError) else _segments(document, digests, codes)
            for document, digests in zip(documents, wanted)
        ]

    def _check_places(self, document: Document) -> None:
        """Raises ValueError for a place in a picture that would be cut to fit: it would lie in
        another one."""
        tokenizer = self._tokenizers.get("image")
        pictured = any(isinstance(segment, Image) for segment in document)
        if self._fit is None or tokenizer is None or not pictured:
            return
        stride = int(tokenizer.stride)  # type: ignore[attr-defined]
        for position, segment in enumerate(document):
            if isinstance(segment, Location):
                picture = document.segments[document.picture_of(position)]
                if isinstance(picture, Image):
                    height, width = picture.pixels.shape[:2]
                    if is_cut(height, width, self._fit, stride):
                        raise ValueError(
                            f"segment {position}: its picture of {width}x{height} pixels would be"
                            f" cut to fit multiples of {stride} pixels a side, so that"
                            f" the {segment.noun} would lie elsewhere; fit the picture first"
                        )

    def _array(self, segment: Segment) -> tuple[str, np.ndarray]:
        """A medium as its tokenizer takes it, channels first."""
        if not isinstance(segment, Media):
            raise ValueError("it is a slot, which only sampling fills")
        embedder = choose_embedder(self._embedders, self._tokenizers, segment)
        if embedder is not None:
            prepared = embedder.prepare(segment)
            embedder.grid(prepared)
            return embedder.kind, prepared
        kind = segment.modality
        tokenizer = self._tokenizers.get(kind)
        if tokenizer is None:
            raise ValueError(f"there is no {kind} tokenizer to code it with")
        return kind, modality_of(kind).prepare(segment, tokenizer, self._fit)

    def _code_all(
        self, media: dict[tuple[str, bytes], np.ndarray]
    ) -> dict[tuple[str, bytes], _Outcome]:
        """Codes (K, *grid) of every medium, and its features; or why there are none."""
        groups: dict[tuple[str, tuple[int, ...]], list[tuple[str, bytes]]] = {}
        for key, array in media.items():
            groups.setdefault((key[0], array.shape), []).append(key)
        codes: dict[tuple[str, bytes], _Outcome] = {}
        for (kind, shape), keys in groups.items():
            if kind in self._embedders:
                codes.update((key, self._embed(kind, media[key])) for key in keys)
                continue
            modality = modality_of(kind)
            fits = modality.max_batch_values // max(1, int(np.prod(shape[1:])))
            together = max(1, min(fits, modality.max_batch))
            for start in range(0, len(keys), together):
                part = keys[start : start + together]
                codes.update(zip(part, self._code_some(kind, [media[key] for key in part])))
        return codes

    def _embed(self, kind: str, medium: np.ndarray) -> _Outcome:
        """A medium that is read as vectors: its places, and its features or itself."""
        embedder, features = self._embedders[kind], medium
        codes = np.zeros((1, *embedder.grid(medium)), np.int64)
        if not self._live:
            features = embedder.encode([medium])[0].astype(np.float16)
            if not np.isfinite(features).all():
                return ValueError(
                    f"the encoder of {kind} gives numbers that float16 does not hold; store the"
                    " media, not their features"
                )
        return codes, features

    def _code_some(self, kind: str, media: list[np.ndarray]) -> list[np.ndarray | ValueError]:
        try:
            return list(self._codes(kind, torch.from_numpy(np.stack(media))))
        except ValueError as error:
            if len(media) == 1:
                return [error]
            return [codes for medium in media for codes in self._code_some(kind, [medium])]

    @torch.inference_mode()
    def _codes(self, kind: str, media: torch.Tensor) -> np.ndarray:
        """Media (B, C, ...) -> codes int64 (B, K, *grid)."""
        tokenizer = self._tokenizers[kind]
        coded = tokenizer.encode(media)
        if self.stored.round_trip:
            decoded = tokenizer.decode(coded)
            coded = tokenizer.encode(modality_of(kind).again(decoded))
        codes: np.ndarray = coded.codes.cpu().numpy()
        return codes


def _segments(
    document: Document,
    digests: dict[int, tuple[str, bytes]],
    codes: dict[tuple[str, bytes], _Outcome],
) -> list[Stored] | ValueError:
    segments: list[Stored] = []
    for position, segment in enumerate(document):
        if isinstance(segment, Text):
            segments.append(segment)
            continue
        coded = codes[digests[position]]
        if isinstance(coded, ValueError):
            return ValueError(f"segment {position}: {coded}")
        kind, features = digests[position][0], None
        if isinstance(coded, tuple):
            coded, features = coded
        modality = kind if features is None else segment.modality
        segments.append(coded_media(modality, coded, segment.role, segment.loss, kind, features))
    return segments


@contextmanager
def _at(position: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"segment {position}: {error}") from None


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread: sums in another order could change a code, and shards are to
    be the same however many processes make them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
