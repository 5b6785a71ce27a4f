"""The order of samples and of lanes, from a seed alone and in constant memory."""

from __future__ import annotations

import hashlib
from functools import lru_cache

__all__ = ["check_lanes", "draw", "lanes_of", "permute", "sample_at"]

_ROUNDS = 6
_MASK = (1 << 64) - 1


def draw(*what: int | str) -> int:
    """256 bits that follow from what they are for: the same on every machine."""
    text = "\0".join(str(part) for part in what)
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


def sample_at(place: int, count: int, seed: int, name: str) -> tuple[int, int]:
    """(epoch, sample) at a place of the endless run of a source's epochs, each in its own order."""
    epoch, index = divmod(place, count)
    return epoch, permute(index, count, seed, name, epoch)


def check_lanes(lanes: int, rank: int, world: int, workers: int) -> None:
    """Raises ValueError where the lanes cannot be shared out."""
    if lanes < 1 or world < 1 or not 0 <= rank < world:
        raise ValueError(
            f"process {rank} of {world} with {lanes} lanes; expected at least one of each"
        )
    if lanes % world:
        raise ValueError(
            f"{lanes} lanes cannot be shared by {world} processes; take a multiple of {world} (or "
            "another number of processes)"
        )
    if not 0 <= workers <= lanes // world:
        raise ValueError(
            f"{workers} workers for {lanes // world} lanes of a process, expected at most as many"
        )


def lanes_of(lanes: int, rank: int, world: int, worker: int = 0, workers: int = 1) -> list[int]:
    """The lanes of one process, or of one of its workers, in the order of their rows."""
    return list(range(rank, lanes, world))[worker::workers]
