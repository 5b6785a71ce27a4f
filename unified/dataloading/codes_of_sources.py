"""Sources of documents to sources of codes, before a run begins."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unified.dataloading.samples import find_shards
from unified.dataloading.source import Source, leaves
from unified.dataloading.stored_codes import read_stored_codes
from unified.sequence.sequencer import Sequencer

if TYPE_CHECKING:
    from unified.dataloading.tokenize import Coding

__all__ = ["prepare_sources"]


def prepare_sources(
    sources: Mapping[str, Source],
    sequencer: Sequencer,
    folder: str | Path,
    workers: int = 1,
    report: Callable[[str], None] | None = None,
) -> dict[str, Source]:
    """The same sources, with code shards in place of those that hold documents.

    Documents are tokenized into folders below `folder`, each bound to where the documents lie, the
    tokenizers' fingerprints, whether of a round trip, and what they are made to fit; what is
    finished is not done again. Of several processes one does this first and the others after it.

    Args:
        sequencer: with the media tokenizers.
        workers: processes that tokenize.
        report: called with a line for each shard.

    Raises ValueError for shards that are missing, or codes of other tokenizers.
    """
    wanted: dict[_Job, dict[Path, None]] = {}
    for _, source in leaves(sources):
        for shard in find_shards(source.shards):
            if read_stored_codes(shard.parent) is None:
                wanted.setdefault(_job(shard, source), {})[shard] = None
    made = {
        job: _tokenize([*shards], Path(folder), sequencer, job, workers, report)
        for job, shards in wanted.items()
    }
    return {name: _with_codes(source, made) for name, source in sources.items()}


class _Job(NamedTuple):
    """Documents of one folder, and how they become codes; see `Source`."""

    parent: Path
    round_trip: bool
    fit: int | None


def _job(shard: Path, source: Source) -> _Job:
    return _Job(shard.parent.resolve(), source.round_trip, source.fit)


def _with_codes(source: Source, made: Mapping[_Job, Path]) -> Source:
    if source.sources:
        return replace(
            source, sources={name: _with_codes(one, made) for name, one in source.sources.items()}
        )
    shards = []
    for shard in find_shards(source.shards):
        place = made.get(_job(shard, source))
        shards.append(str(shard if place is None else place / shard.name))
    return replace(source, shards=tuple(shards))


def _tokenize(
    shards: list[Path],
    folder: Path,
    sequencer: Sequencer,
    job: _Job,
    workers: int,
    report: Callable[[str], None] | None,
) -> Path:
    """The codes of shards that lie in one folder; returns where they are."""
    from unified.dataloading.coder import Coder
    from unified.dataloading.tokenize import tokenize_shards

    coder = Coder(sequencer.image_tokenizer, sequencer.audio_tokenizer, job.round_trip, job.fit)
    about = json.dumps([str(job.parent), coder.stored.to_json()], sort_keys=True)
    place = folder / f"{job.parent.name}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"
    place.mkdir(parents=True, exist_ok=True)
    if workers == 1 or len(shards) == 1:
        tokenize_shards(shards, place, coder, report=report)
        return place
    with tempfile.TemporaryDirectory(prefix="tokenizers-", dir=folder) as beside:
        coding = _saved(sequencer, job, Path(beside))
        tokenize_shards(shards, place, coding, workers, report=report)
    return place


def _saved(sequencer: Sequencer, job: _Job, folder: Path) -> Coding:
    """The tokenizers in files, for other processes to read."""
    from unified.dataloading.tokenize import Coding
    from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer
    from unified_tokenizers.saved import save_exactly

    names: dict[str, str] = {}
    for tokenizer in (sequencer.image_tokenizer, sequencer.audio_tokenizer):
        if tokenizer is not None:
            inner = tokenizer.tokenizer if isinstance(tokenizer, DiffusionTokenizer) else tokenizer
            names[tokenizer.modality] = str(folder / tokenizer.modality)
            save_exactly(inner, names[tokenizer.modality])
    return Coding(names.get("image"), names.get("audio"), job.round_trip, job.fit)
