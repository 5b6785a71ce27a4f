"""Sources of documents to sources of codes, before a run begins."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from unified.dataloading.source import Source, leaves
from unified.dataloading.source_samples import find_shards
from unified.dataloading.stored_codes import read_stored_codes
from unified.sequence.sequencer import Sequencer

if TYPE_CHECKING:
    from unified.dataloading.tokenize import MediaEncoderSpec

__all__ = ["prepare_sources"]


def prepare_sources(
    sources: Mapping[str, Source],
    sequencer: Sequencer,
    folder: str | Path,
    workers: int = 1,
    report: Callable[[str], None] | None = None,
    live: bool = True,
) -> dict[str, Source]:
    """The same sources, with code shards in place of those that hold documents.

    Documents are tokenized into folders below `folder`, each bound to where the documents lie, the
    tokenizers' fingerprints, whether of a round trip, and what they are made to fit; what is
    finished is not done again. Of several processes one does this first and the others after it.

    Args:
        sequencer: with the media tokenizers.
        workers: processes that tokenize.
        report: called with a line for each shard.
        live: of what is read as vectors, store the media and not their features.

    Raises ValueError for shards that are missing, or codes of other tokenizers.
    """
    wanted: dict[_Job, dict[Path, None]] = {}
    for _, source in leaves(sources):
        for shard in find_shards(source.shards):
            if read_stored_codes(shard.parent) is None:
                wanted.setdefault(_job(shard, source), {})[shard] = None
    folders = {
        job: _tokenize([*shards], Path(folder), sequencer, job, workers, report, live)
        for job, shards in wanted.items()
    }
    return {name: _with_codes(source, folders) for name, source in sources.items()}


class _Job(NamedTuple):
    """Documents of one folder, and how they become codes; see `Source`."""

    parent: Path
    round_trip: bool
    fit: int | None


def _job(shard: Path, source: Source) -> _Job:
    return _Job(shard.parent.resolve(), source.round_trip, source.fit)


def _with_codes(source: Source, folders: Mapping[_Job, Path]) -> Source:
    if source.sources:
        return replace(
            source,
            sources={name: _with_codes(member, folders) for name, member in source.sources.items()},
        )
    shards = []
    for shard in find_shards(source.shards):
        codes = folders.get(_job(shard, source))
        shards.append(str(shard if codes is None else codes / shard.name))
    return replace(source, shards=tuple(shards))


def _tokenize(
    shards: list[Path],
    folder: Path,
    sequencer: Sequencer,
    job: _Job,
    workers: int,
    report: Callable[[str], None] | None,
    live: bool,
) -> Path:
    """The codes of shards that lie in one folder; returns where they are."""
    from unified.dataloading.media_encoder import MediaEncoder
    from unified.dataloading.tokenize import tokenize_shards

    encoder = MediaEncoder(
        round_trip=job.round_trip, fit=job.fit, others=sequencer.tokenizers,
        embedders=sequencer.embedders, live=live,
    )  # fmt: skip
    about = json.dumps([str(job.parent), encoder.stored.to_json()], sort_keys=True)
    target = folder / f"{job.parent.name}-{hashlib.sha256(about.encode()).hexdigest()[:8]}"
    target.mkdir(parents=True, exist_ok=True)
    # Media that are only prepared take little; an encoder is not sent to other processes.
    if workers == 1 or len(shards) == 1 or sequencer.embedders:
        tokenize_shards(shards, target, encoder, report=report)
        return target
    with tempfile.TemporaryDirectory(prefix="tokenizers-", dir=folder) as beside:
        spec = _saved(sequencer, job, Path(beside))
        tokenize_shards(shards, target, spec, workers, report=report)
    return target


def _saved(sequencer: Sequencer, job: _Job, folder: Path) -> MediaEncoderSpec:
    """The tokenizers in files, for other processes to read."""
    from unified.dataloading.tokenize import MediaEncoderSpec
    from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer
    from unified_tokenizers.saved import save_exactly

    names: dict[str, str] = {}
    for modality, tokenizer in sequencer.tokenizers.items():
        inner = tokenizer.tokenizer if isinstance(tokenizer, DiffusionTokenizer) else tokenizer
        names[modality] = str(folder / modality)
        save_exactly(inner, names[modality])
    return MediaEncoderSpec(round_trip=job.round_trip, fit=job.fit, others=names)
