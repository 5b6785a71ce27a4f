"""The order of samples and of streams, from a seed alone and in constant memory."""

from __future__ import annotations

import hashlib
from functools import lru_cache

__all__ = ["check_streams", "draw", "permute", "sample_at", "streams_of"]

_ROUNDS = 6
_MASK = (1 << 64) - 1


def draw(*purpose: int | str) -> int:
    """256 random bits that follow from what they are for: the same on every machine."""
    text = "\0".join(str(part) for part in purpose)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=32).digest(), "little")


@lru_cache(maxsize=4096)
def _keys(seed: int, name: str, epoch: int) -> tuple[int, ...]:
    return tuple(draw("order", seed, name, epoch, number) & _MASK for number in range(_ROUNDS))


def permute(index: int, count: int, seed: int, name: str, epoch: int) -> int:
    """Where a keyed pseudo-random permutation of 0..count-1 takes `index`.

    A Feistel network over the next even number of bits, walked until it falls among the `count`
    (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). It has six bits or
    more, since a network of fewer hardly mixes.
    """
    assert 0 <= index < count
    half = max(3, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    keys = _keys(seed, name, epoch)
    while True:
        left, right = index >> half, index & mask
        for key in keys:
            # The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
            mixed = (right + key) & _MASK
            mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
            left, right = right, left ^ ((mixed ^ (mixed >> 31)) & mask)
        index = (left << half) | right
        if index < count:
            return index


def sample_at(index: int, count: int, seed: int, name: str) -> tuple[int, int]:
    """(epoch, sample) at an index of the endless run of a source's epochs, each shuffled anew."""
    epoch, within = divmod(index, count)
    return epoch, permute(within, count, seed, name, epoch)


def check_streams(streams: int, rank: int, world: int, workers: int) -> None:
    """Raises ValueError where the streams cannot be shared out."""
    if streams < 1 or world < 1 or not 0 <= rank < world:
        raise ValueError(
            f"process {rank} of {world} with {streams} streams; expected at least one of each"
        )
    if streams % world:
        raise ValueError(
            f"{streams} streams cannot be shared by {world} processes; take a multiple of {world} "
            "(or another number of processes)"
        )
    if not 0 <= workers <= streams // world:
        raise ValueError(
            f"{workers} workers for {streams // world} streams of a process, expected at most as"
            " many"
        )


def streams_of(streams: int, rank: int, world: int, worker: int = 0, workers: int = 1) -> list[int]:
    """The streams of one process, or of one of its workers, in the order of their sequences."""
    return list(range(rank, streams, world))[worker::workers]
