"""Code shards compared with their checksums before a training begins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unified.dataloading.source import Source, leaves
from unified.dataloading.source_samples import find_shards
from unified_base.shard_sums import read_sums, verify_shard

__all__ = ["compare_shards", "shards_of"]


def shards_of(*sources: Mapping[str, Source]) -> list[Path]:
    """The shards of all sources, each once, in their order."""
    paths = (
        path
        for some in sources
        for _, source in leaves(some)
        for path in find_shards(source.shards)
    )
    return list(dict.fromkeys(paths))


def compare_shards(shards: list[Path]) -> list[str]:
    """Read shards whole, about 1 GB a second, and compare them; returns what there is to say.

    A shard is compared once in a process while its size and time stay. A sample that has changed is
    named here, and left out and counted when its turn comes.

    Raises:
        ValueError: a shard has changed and nothing says in which of its samples.
    """
    lines, without = [], 0
    for shard in shards:
        damaged = verify_shard(shard)
        if damaged is None:
            without += 1
        elif damaged and read_sums(shard) is None:
            raise ValueError(f"shard {shard}: {damaged[0].reason}; make it anew")
        for damage in damaged or ():
            sample = f", sample {damage.key}" if damage.key else ""
            lines.append(f"shard {shard}{sample}: {damage.reason}")
    if without:
        lines.append(
            f"{without} of {len(shards)} shards were written without checksums and have not been"
            " compared"
        )
    return lines
