"""What feeds a run, measured: how full rows are, ids a second, webdataset beside it, memory.

The documents are the pocket world's, stored as codes of the shipped model's tokenizers. Where the
world has been built (`unified data build pocket -o runs/pocket/world`) its training shards are
taken, else the sample in the repository.
"""

from __future__ import annotations

import _path  # noqa: F401  isort: skip

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from unified.dataloading import Loader, Source
from unified.dataloading.source import leaves
from unified.dataloading.source_samples import find_shards
from unified.dataloading.stored_codes import read_stored_codes
from unified.dataloading.tokenize import MediaEncoderSpec, tokenize_shards
from unified.models.files import load_model, model_directory
from unified.sequence.sequencer import Sequencer

__all__ = ["loader_over_webdataset", "loader_speed", "memory", "packing_fill", "pocket_sources"]

ROOT = Path(__file__).parents[1]
WORLD = ROOT / "runs" / "pocket" / "world"
SAMPLE = ROOT / "data" / "sample"
SHARES = {
    "article": 0.19, "text": 0.04, "draw": 0.21, "describe": 0.08, "ask": 0.04, "speak": 0.09,
    "listen": 0.17, "name": 0.18,
}  # fmt: skip
"""Those of configs/pocket/decoder.yaml."""


def pocket_sources(
    folder: Path, each: int | None = 1, report: Callable[[str], None] | None = None
) -> tuple[dict[str, Source], Sequencer]:
    """The pocket world's tasks as sources of codes, kept in `folder`, and what lays them out.

    each: so many shards of each task at most; None: all.
    """
    directory = model_directory("pocket")
    sequencer, _, _ = load_model(directory)
    world = WORLD if (WORLD / "index.json").is_file() else SAMPLE
    shards = {kind: find_shards([f"{world}/train-{kind}-*.tar"])[:each] for kind in SHARES}
    spec = MediaEncoderSpec(str(directory / "image_tokenizer"), str(directory / "audio_tokenizer"))
    tokenize_shards(
        [path for paths in shards.values() for path in paths], folder, spec, report=report
    )
    sources = {
        kind: Source(tuple(str(folder / path.name) for path in shards[kind]), share=share)
        for kind, share in SHARES.items()
    }
    return sources, sequencer


def packing_fill(
    sources: Mapping[str, Source], sequencer: Sequencer, length: int, rows: int = 2000
) -> float:
    """Share of the places of rows that hold ids."""
    with Loader(sources, sequencer, length) as loader:
        return sum(row.num_ids for row in islice(loader, rows)) / (rows * length)


def loader_speed(
    sources: Mapping[str, Source],
    sequencer: Sequencer,
    length: int,
    workers: int = 0,
    ids: int = 1_000_000,
    repeats: int = 5,
) -> float:
    """Ids (without padding) a second, the median of several stretches of so many ids.

    The streams' buffers are filled, and shards opened, before the clock starts.
    """
    speeds = []
    with Loader(sources, sequencer, length, workers=workers) as loader:
        rows = iter(loader)
        for _ in range(96):
            next(rows)
        for _ in range(repeats):
            began, done = time.perf_counter(), 0
            while done < ids:
                done += next(rows).num_ids
            speeds.append(done / (time.perf_counter() - began))
    return median(speeds)


def loader_over_webdataset(
    sources: Mapping[str, Source],
    sequencer: Sequencer,
    length: int = 1024,
    samples: int = 10_000,
    repeats: int = 5,
) -> dict[str, float]:
    """Samples a second of this loader and of webdataset, from the same shards, in one process each.

    `webdataset` shuffles through a buffer of 1,000 and gives JSON values and arrays of codes, no
    more. `webdataset_ids` makes ids and weights of them with the model's sequencer, which is what a
    decoder takes. This loader draws from a permutation of the whole epoch and gives ids, weights
    and what the grammar allows at each, packed into rows. Medians of several stretches, one of each
    after the other.

    Returns samples a second by name, `ratio` over `webdataset_ids`, `ratio_plain` over the other.
    """
    shards = tuple(str(path) for _, s in leaves(sources) for path in find_shards(s.shards))
    stored = read_stored_codes(Path(shards[0]).parent)
    assert stored is not None

    def to_ids(key: str, obj: Any, media: dict[str, bytes]) -> Any:
        return sequencer.encode_prefix(stored.from_parts(key, obj, media))

    def to_arrays(key: str, obj: Any, media: dict[str, bytes]) -> Any:
        return obj, [np.frombuffer(data, "<u2") for data in media.values()]

    with Loader({"all": Source(shards)}, sequencer, length) as loader:
        rows = (range(row.counters["documents"]) for row in loader)
        streams = {
            "loader": (sample for row in rows for sample in row),
            "webdataset": _webdataset(shards, to_arrays),
            "webdataset_ids": _webdataset(shards, to_ids),
        }
        speeds: dict[str, list[float]] = {name: [] for name in streams}
        for _ in range(repeats + 1):  # the first opens files and fills buffers
            for name, stream in streams.items():
                began = time.perf_counter()
                for _ in range(samples):
                    next(stream)
                speeds[name].append(samples / (time.perf_counter() - began))
    medians = {name: median(some[1:]) for name, some in speeds.items()}
    return {
        **medians,
        "ratio": medians["loader"] / medians["webdataset_ids"],
        "ratio_plain": medians["loader"] / medians["webdataset"],
    }


def _webdataset(shards: Sequence[str], make: Callable[[str, Any, dict[str, bytes]], Any]) -> Any:
    import webdataset

    def read(sample: dict[str, Any]) -> Any:
        key = sample["__key__"]
        media = {f"{key}.{name}": data for name, data in sample.items() if name[0].isdigit()}
        return make(key, json.loads(sample["json"]), media)

    dataset = webdataset.WebDataset(list(shards), shardshuffle=len(shards), seed=0)
    return iter(dataset.shuffle(1000).map(read).repeat())


def memory(
    sources: Mapping[str, Source],
    sequencer: Sequencer,
    length: int = 1024,
    documents: int = 100_000,
    workers: int = 0,
) -> dict[str, float]:
    """Megabytes of this process (`ps` calls it RSS) after a tenth of so many documents, and after
    all of them; `growth` from the one to the other."""
    seen, early = 0, 0.0
    with Loader(sources, sequencer, length, workers=workers) as loader:
        for row in loader:
            seen += row.counters["documents"]
            if not early and seen >= documents // 10:
                early = _resident()
            if seen >= documents:
                break
        late = _resident()
    return {"documents": seen, "early_mb": early, "late_mb": late, "growth_mb": late - early}


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
