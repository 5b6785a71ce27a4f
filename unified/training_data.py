"""Documents to training rows: media to codes once, documents to ids, ids to batches.

What each position may be followed by is taken from the grammar and kept with the ids, so that the
loss is a softmax over exactly the ids that sampling will choose from.

Legend: L sequence length, N rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unified.grammar import MODALITIES, Grammar
from unified.sequence import Sequencer
from unified_data.document import Audio, Document, Image
from unified_data.shards import read_shards

__all__ = [
    "Batch",
    "Examples",
    "Source",
    "find_shards",
    "load_examples",
    "plan_steps",
    "rows",
    "share_ranges",
    "weigh",
]

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Source:
    """Shards and their share of the ids that a run sees.

    Attributes:
        shards: a path whose last part may hold a `*`.
        share: relative to the other sources' shares.
        weight: factor on the losses of its documents. An answer of ten ids about a sound of 300
            is a thirtieth of the ids, yet all that listening is learnt from.
        media_loss: weight of predicting pictures and sounds that have none, those of prompts.
            A decoder that must predict what it is shown learns to know it.
        noise: share of the codes that the decoder is shown another one for, drawn from the same
            document and block; it is asked for the true ones. A decoder that has only ever seen
            true codes is lost after its first wrong one: 96% of the codes of a held-out sentence
            were right where all before were true, yet no sentence was spoken to its end.
        round_trip: code pictures and sounds as the tokenizer gives them back. What a decoder has
            made comes to it so when it is asked to describe it or to listen to it.
    """

    shards: str
    share: float = 1.0
    weight: float = 1.0
    media_loss: float = 0.0
    noise: float = 0.0
    round_trip: bool = False

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise ValueError(f"the share of {self.shards} is {self.share}, expected more than 0")
        for name in ("weight", "media_loss"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"the {name} of {self.shards} is {getattr(self, name)}, expected 0 or more"
                )
        if not 0 <= self.noise < 1:
            raise ValueError(
                f"the noise of {self.shards} is {self.noise}, expected at least 0 and less than 1"
            )


@dataclass(frozen=True, eq=False)
class Examples:
    """Tokenized documents of one source, end to end.

    Attributes:
        ids: int32, all documents joined.
        loss: float32, the weight of predicting each id; 0 at the first of a document.
        allowed: int16, index into `ranges`: what the grammar allowed where each id stands.
        modality: uint8 of each id (see `unified.grammar.MODALITIES`).
        offsets: int64, one more than there are documents.
        ranges: the distinct tuples of id ranges.
        noise: share of the codes that are not shown as they are (see Source).
    """

    ids: np.ndarray
    loss: np.ndarray
    allowed: np.ndarray
    modality: np.ndarray
    offsets: np.ndarray
    ranges: tuple[Ranges, ...]
    noise: float = 0.0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Ids of each document."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of one length class, padded on the right.

    Attributes:
        ids: int64 (N, L), padded with 0 where no loss reaches.
        shown: int64 (N, L), the ids with the noise of their sources.
        loss: float32 (N, L), `allowed` int64 (N, L) and `modality` int64 (N, L) as in Examples.
        num_ids: ids that are not padding.
    """

    ids: torch.Tensor
    shown: torch.Tensor
    loss: torch.Tensor
    allowed: torch.Tensor
    modality: torch.Tensor
    num_ids: int


def find_shards(pattern: str) -> list[Path]:
    """The shards a path names, sorted. Raises ValueError where there are none."""
    path = Path(pattern)
    found = sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    if not found or not found[0].exists():
        raise ValueError(f"no shards match {pattern}; build the data first (unified data build)")
    return found


class _Stored:
    """A tokenizer that knows the codes of the media of one shard beforehand.

    Coding a shard's pictures together is five times faster than one by one, and the articles
    of the pocket world show the same picture many times.
    """

    def __init__(self, tokenizer: Any, round_trip: bool) -> None:
        self._tokenizer = tokenizer
        self._round_trip = round_trip
        self._codes: dict[bytes, np.ndarray] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    @staticmethod
    def _key(media: torch.Tensor) -> bytes:
        return hashlib.sha1(media.contiguous().numpy().tobytes()).digest()

    def learn(self, media: Sequence[np.ndarray], together: int) -> None:
        """Code media (channels first), those of one shape `together` at a time."""
        pending: dict[tuple[int, ...], dict[bytes, torch.Tensor]] = {}
        for one in media:
            tensor = torch.from_numpy(np.ascontiguousarray(one))
            key = self._key(tensor)
            if key not in self._codes:
                pending.setdefault(tuple(tensor.shape), {})[key] = tensor
        for group in pending.values():
            keys = list(group)
            for start in range(0, len(keys), together):
                part = keys[start : start + together]
                coded = self._tokenizer.encode(torch.stack([group[key] for key in part]))
                if self._round_trip:
                    made = self._tokenizer.decode(coded)
                    if self._tokenizer.modality == "image":
                        made = (made * 255).round().byte()
                    coded = self._tokenizer.encode(made)
                for key, row in zip(part, coded.codes.numpy()):
                    self._codes[key] = row

    def encode(self, media: torch.Tensor) -> Any:
        from unified_tokenizers.base import Codes

        codes = self._codes[self._key(media[0])]
        return Codes(torch.from_numpy(codes)[None], tuple(media.shape[2:]))


def _allowed(grammar: Grammar, ids: list[int], seen: dict[Ranges, int]) -> list[int]:
    state = grammar.start()
    found = []
    for id in ids:
        ranges = state.allowed()
        found.append(seen.setdefault(ranges, len(seen)))
        state.advance(id)
    return found


def _tokenize(
    documents: Iterator[tuple[str, Document]], sequencer: Sequencer, round_trip: bool
) -> Examples:
    image = _Stored(sequencer.image_tokenizer, round_trip)
    audio = _Stored(sequencer.audio_tokenizer, round_trip)
    stored = Sequencer(
        sequencer.vocabulary, sequencer.grammar, sequencer.text_tokenizer, image, audio
    )
    ids, loss, allowed, modality, offsets = [], [], [], [], [0]
    seen: dict[Ranges, int] = {}
    held = [document for _, document in documents]
    segments = [segment for document in held for segment in document.segments]
    image.learn([s.pixels.transpose(2, 0, 1) for s in segments if isinstance(s, Image)], 64)
    audio.learn([s.waveform for s in segments if isinstance(s, Audio)], 8)
    for document in held:
        sequence = stored.encode(document)
        ids.append(sequence.ids.astype(np.int32))
        loss.append(sequence.loss)
        modality.append(sequence.modality)
        allowed.append(np.array(_allowed(sequencer.grammar, sequence.ids.tolist(), seen), np.int16))
        offsets.append(offsets[-1] + len(sequence.ids))
    return Examples(
        np.concatenate(ids),
        np.concatenate(loss),
        np.concatenate(allowed),
        np.concatenate(modality),
        np.array(offsets, np.int64),
        tuple(seen),
    )


def load_examples(
    pattern: str,
    sequencer: Sequencer,
    cache: Path,
    limit: int | None = None,
    round_trip: bool = False,
) -> Examples:
    """The examples of a source's shards, tokenized once and kept under `cache`.

    The cache is bound to the vocabulary's hash (and so to every tokenizer's fingerprint), the
    grammar, and each shard's name, size and time.

    Args:
        limit: read at most so many documents (held-out checks).
        round_trip: code media as the tokenizer gives them back (see Source).
    """
    parts = []
    for shard in find_shards(pattern):
        stat = shard.stat()
        about = json.dumps(
            [sequencer.vocabulary.hash, sequencer.grammar.source, str(shard.resolve()),
             stat.st_size, stat.st_mtime_ns, limit, *["round trip"] * round_trip]
        )  # fmt: skip
        path = cache / f"{shard.stem}-{hashlib.sha256(about.encode()).hexdigest()[:16]}.npz"
        if not path.exists():
            documents = read_shards(shard)
            if limit is not None:
                documents = (pair for pair, _ in zip(documents, range(limit)))
            made = _tokenize(documents, sequencer, round_trip)
            cache.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.savez(
                    file,
                    ids=made.ids,
                    loss=made.loss,
                    allowed=made.allowed,
                    modality=made.modality,
                    offsets=made.offsets,
                    ranges=np.frombuffer(json.dumps(made.ranges).encode(), np.uint8),
                )
            partial.replace(path)
        parts.append(_load(path))
        if limit is not None:
            break
    return _join(parts)


def weigh(examples: Examples, source: Source) -> Examples:
    """The same examples with the losses and the noise that their source asks for."""
    codes = np.isin(examples.modality, (MODALITIES["image"], MODALITIES["audio"]))
    shown = codes & (examples.loss == 0)
    loss = np.where(shown, source.media_loss, examples.loss * source.weight)
    return replace(examples, loss=loss.astype(np.float32), noise=source.noise)


def _load(path: Path) -> Examples:
    with np.load(path, allow_pickle=False) as stored:
        ranges = json.loads(stored["ranges"].tobytes())
        return Examples(
            stored["ids"], stored["loss"], stored["allowed"], stored["modality"],
            stored["offsets"], tuple(tuple((a, b) for a, b in one) for one in ranges),
        )  # fmt: skip


def share_ranges(parts: Sequence[Examples]) -> list[Examples]:
    """The same examples with one table of ranges for all of them."""
    table: dict[Ranges, int] = {}
    renumbered = []
    for part in parts:
        numbers = np.array([table.setdefault(ranges, len(table)) for ranges in part.ranges])
        renumbered.append(numbers[part.allowed].astype(np.int16))
    assert len(table) <= np.iinfo(np.int16).max
    return [
        replace(part, allowed=allowed, ranges=tuple(table))
        for part, allowed in zip(parts, renumbered)
    ]


def _join(parts: Sequence[Examples]) -> Examples:
    """One Examples of several."""
    shared = share_ranges(parts)
    offsets = [np.zeros(1, np.int64)]
    for part in shared:
        offsets.append(part.offsets[1:] + offsets[-1][-1])
    return Examples(
        ids=np.concatenate([part.ids for part in shared]),
        loss=np.concatenate([part.loss for part in shared]),
        allowed=np.concatenate([part.allowed for part in shared]),
        modality=np.concatenate([part.modality for part in shared]),
        offsets=np.concatenate(offsets),
        ranges=shared[0].ranges,
    )


def plan_steps(
    sources: Sequence[Examples], shares: Sequence[float], ids_per_step: int, steps: int, seed: int
) -> list[list[tuple[int, int]]]:
    """(source, document) pairs of every step, from the seed alone.

    Each source is walked through in one random order after another; sources are drawn so that
    their ids come in proportion to `shares`. A step ends with the document that fills it.
    """
    rng = np.random.default_rng(seed)
    means = np.array([source.lengths.mean() for source in sources])
    weights = np.array(shares) / means
    weights /= weights.sum()
    orders = [np.empty(0, np.int64) for _ in sources]
    taken = [0 for _ in sources]
    plan: list[list[tuple[int, int]]] = []
    for _ in range(steps):
        step: list[tuple[int, int]] = []
        filled = 0
        while filled < ids_per_step:
            which = int(rng.choice(len(sources), p=weights))
            if taken[which] == len(orders[which]):
                orders[which], taken[which] = rng.permutation(len(sources[which])), 0
            document = int(orders[which][taken[which]])
            taken[which] += 1
            step.append((which, document))
            filled += int(sources[which].lengths[document])
        plan.append(step)
    return plan


def rows(
    sources: Sequence[Examples],
    chosen: Sequence[tuple[int, int]],
    padded_ids: int,
    rng: np.random.Generator | None = None,
) -> Iterator[Batch]:
    """A step's documents as batches of similar lengths, each of at most `padded_ids` places.

    A row is at least four fifths as long as the longest of its batch: over the pocket world's
    tasks (80 to 500 ids) that leaves a tenth of the places empty, one batch for all left half.

    rng: draws the noise of the sources; without it every document is shown as it is.
    """
    length = {pair: int(sources[pair[0]].lengths[pair[1]]) for pair in chosen}
    group: list[tuple[int, int]] = []
    for pair in sorted(chosen, key=lambda pair: -length[pair]):
        longest = length[group[0]] if group else 0
        if group and (longest * (len(group) + 1) > padded_ids or 5 * length[pair] < 4 * longest):
            yield _batch(sources, group, rng)
            group = []
        group.append(pair)
    if group:
        yield _batch(sources, group, rng)


def _noisy(examples: Examples, part: slice, rng: np.random.Generator) -> np.ndarray:
    """A document's ids with some codes replaced by others of the same document and block."""
    ids = examples.ids[part].copy()
    codes = np.isin(examples.modality[part], (MODALITIES["image"], MODALITIES["audio"]))
    allowed = np.where(codes, examples.allowed[part], -1)
    for number in np.unique(allowed[codes]):
        block = np.flatnonzero(allowed == number)
        chosen = block[rng.random(len(block)) < examples.noise]
        ids[chosen] = rng.choice(ids[block], len(chosen))
    return ids


def _batch(
    sources: Sequence[Examples],
    group: Sequence[tuple[int, int]],
    rng: np.random.Generator | None,
) -> Batch:
    width = max(int(sources[source].lengths[document]) for source, document in group)
    shape = (len(group), width)
    ids, shown, allowed, modality = (np.zeros(shape, np.int64) for _ in range(4))
    loss = np.zeros(shape, np.float32)
    total = 0
    for row, (source, document) in enumerate(group):
        examples = sources[source]
        start, stop = examples.offsets[document], examples.offsets[document + 1]
        length = int(stop - start)
        ids[row, :length] = examples.ids[start:stop]
        shown[row, :length] = examples.ids[start:stop]
        if rng is not None and examples.noise:
            shown[row, :length] = _noisy(examples, slice(start, stop), rng)
        loss[row, :length] = examples.loss[start:stop]
        allowed[row, :length] = examples.allowed[start:stop]
        modality[row, :length] = examples.modality[start:stop]
        total += length
    return Batch(
        ids=torch.from_numpy(ids),
        shown=torch.from_numpy(shown),
        loss=torch.from_numpy(loss),
        allowed=torch.from_numpy(allowed),
        modality=torch.from_numpy(modality),
        num_ids=total,
    )
