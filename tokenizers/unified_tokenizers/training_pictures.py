"""The pictures of a tokenizer's training: of any size, in memory as far as it is allowed.

Every picture is decoded once when a run begins, so that what is broken is known and counted, and is
held as `picture_fit` reduces it. What goes beyond the memory that is allowed is decoded anew each
time it is used; which pictures those are changes nothing that is computed.

Legend: H W pixels of a picture, h w of the shape it is made to fit, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from unified_base.media_source import Medium, UnreadableMedium, Where, read_again
from unified_base.reasons import Reasons
from unified_tokenizers.alignment_texts import AlignedTexts
from unified_tokenizers.media import read_samples
from unified_tokenizers.picture_fit import PictureFit

__all__ = ["PictureStore", "Skips", "load_store", "middles", "picture_fit", "windows"]

# Without a size in the configuration: sides up to which pictures of one size are taken whole, and
# the side that others are made to fit.
_WHOLE = 512
_SIDE = 256
_TOLD = 8

Say = Callable[[str], None]


class Skips:
    """What of some media is broken: counted, and the first of it told.

    what: the media in words.
    """

    def __init__(self, what: str, say: Say) -> None:
        self.what = what
        self._say = say
        self._reasons = Reasons()

    @property
    def count(self) -> int:
        return self._reasons.count

    def tell(self, broken: UnreadableMedium) -> None:
        self._reasons.add(str(broken.where), broken.reason)
        if self.count <= _TOLD:
            self._say(f"skipped: {broken}")

    def finish(self, total: int, paths: Iterable[str]) -> None:
        """Say how many were skipped of how many that were read.

        Raises:
            ValueError: nothing is left.
        """
        if not total:
            where = ", ".join(map(str, paths))
            if self._reasons.commonest is None:
                raise ValueError(
                    f"no {self.what} in {where}: expected files of their kinds, or shards with such"
                    " members"
                )
            times, reason = self._reasons.commonest
            raise ValueError(
                f"no {self.what} in {where} can be used: all {self.count} were skipped, {times} of"
                f" them like {reason}; mend or replace them"
            )
        if self.count:
            self._say(f"{self.count} of {total + self.count} {self.what} are broken and skipped")


class PictureStore:
    """Pictures by number, each with the shape it is made to fit.

    Args:
        fit: how they are made to fit.
        budget: bytes that may be held; the pictures beyond are decoded anew each time.
        texts: takes the texts beside the pictures, where they are wanted.
    """

    def __init__(self, fit: PictureFit, budget: int, texts: AlignedTexts | None = None) -> None:
        self.fit, self.texts = fit, texts
        self.shapes: list[tuple[int, int]] = []
        self._budget = self._left = budget
        self._held: list[np.ndarray | None] = []
        self._where: list[Where] = []

    def __len__(self) -> int:
        return len(self._held)

    @property
    def held(self) -> int:
        """How many are in memory."""
        return sum(pixels is not None for pixels in self._held)

    def add(self, sample: Medium) -> None:
        """Add a picture, uint8 (H, W, 3)."""
        self.shapes.append(self.fit.shape(*sample.array.shape[:2]))
        self._where.append(sample.where)
        if self.texts is not None and len(self.texts) < len(self.shapes):
            self.texts.add(sample.where)
        reduced = self.fit.reduce(sample.array)
        if reduced.nbytes > self._left:
            self._held.append(None)
            return
        self._left -= reduced.nbytes
        # A copy where it is a view: it would keep what it is a part of.
        self._held.append(reduced if reduced.base is None else reduced.copy())

    def texts_of(self, numbers: Iterable[int]) -> list[str | None]:
        """The texts beside pictures; None where there is none, or none was wanted."""
        return [None if self.texts is None else self.texts.texts[n] for n in numbers]

    def window(self, number: int, rng: np.random.Generator | None) -> np.ndarray:
        """Of a picture a window uint8 (h, w, 3) of its shape: anywhere, or without rng its middle.

        Raises ValueError where a picture that is not held cannot be read any more.
        """
        reduced = self._held[number]
        if reduced is None:
            reduced = self.fit.reduce(read_again(self._where[number], "image").array)
        return self.fit.window(reduced, self.shapes[number], rng)

    def refitted(self, fit: PictureFit) -> PictureStore:
        """The same pictures, of a store whose fit is `crop`, made to fit otherwise."""
        assert self.fit.mode == "crop"  # so that what is held is as it was
        store = PictureStore(fit, self._budget, self.texts)
        for where, pixels in zip(self._where, self._held):
            store.add(read_again(where, "image") if pixels is None else Medium(where, pixels))
        return store


def load_store(
    paths: tuple[str, ...],
    limit: int,
    fit: PictureFit,
    budget: int,
    max_corrupt: int,
    say: Say,
    whole: bool = False,
    texts: AlignedTexts | None = None,
) -> PictureStore:
    """Up to `limit` pictures of shards, folders or files.

    A picture that is found several times counts as often: so a data set says what matters.

    Args:
        fit: how they are made to fit.
        budget: see `PictureStore`.
        max_corrupt: pictures that may be broken, and are skipped; one more is an error.
        say: called with lines about what is skipped.
        whole: where all have one size, of at most 512 pixels a side, they are taken whole (cut to
            the fit's `multiple`), whatever `fit` says.
        texts: see `PictureStore`.

    Raises:
        ValueError: nothing that can be read, or more that is broken.
    """
    skips = Skips("pictures", say)
    store, first = PictureStore(fit, budget, texts), (0, 0)
    for number, sample in enumerate(read_samples(paths, "image", max_corrupt, skips.tell), 1):
        size = sample.array.shape[:2]
        if number == 1 and whole and all(fit.multiple <= side <= _WHOLE for side in size):
            store, first = PictureStore(_largest(size, fit.multiple), budget, texts), size
        elif whole and (number == 1 or (first != (0, 0) and size != first)):
            say(_in_words(sample, first, fit))
            store, first = store.refitted(fit) if number > 1 else store, (0, 0)
        store.add(sample)
        if number == limit:
            break
    skips.finish(len(store), paths)
    if first not in ((0, 0), (store.fit.height, store.fit.width)):
        say(
            f"the pictures are {first[1]}x{first[0]} pixels: windows of"
            f" {store.fit.width}x{store.fit.height}, multiples of {fit.multiple}, are cut out of"
            " them"
        )
    if store.held < len(store):
        say(
            f"{store.held} of {len(store)} pictures are held in memory, the others are read anew"
            " each time; allow more with memory_gb, or make the pictures smaller"
        )
    return store


def _largest(size: tuple[int, ...], multiple: int) -> PictureFit:
    """Windows as large as pictures of one size allow."""
    height, width = (side // multiple * multiple for side in size)
    return PictureFit("crop", height, width, multiple)


def _in_words(sample: Medium, first: tuple[int, ...], fit: PictureFit) -> str:
    height, width = sample.array.shape[:2]
    what = f"the picture {sample.where} is {width}x{height} pixels"
    if first != (0, 0):
        what += f", the first {first[1]}x{first[0]}"
    return (
        f"{what}: pictures are made to fit {fit.width}x{fit.height} ({fit.mode}); `size` and `fit`"
        " of the configuration say otherwise"
    )


def picture_fit(method: str, size: int | tuple[int, int] | None, multiple: int) -> PictureFit:
    """How a configuration's pictures are made to fit; without a size, 256 pixels a side.

    multiple: that both sides must be.

    Raises:
        ValueError: a size that is no multiple.
    """
    if size is None:
        side = max(1, _SIDE // multiple) * multiple
        return PictureFit(method, side, side, multiple)
    height, width = (size, size) if isinstance(size, int) else size
    if height % multiple or width % multiple:
        raise ValueError(
            f"size is {height}x{width} (height, width), expected multiples of {multiple} pixels,"
            " which one code stands for"
        )
    if method == "bucket" and height != width:
        raise ValueError(
            f"size is {height}x{width}, but `fit: bucket` has shapes of its own: give one number,"
            " the side of their square"
        )
    return PictureFit(method, height, width, multiple)


def windows(store: PictureStore, numbers: Iterable[int], seeds: Iterable[tuple[int, ...]]
            ) -> np.ndarray:  # fmt: skip
    """Windows of pictures of one shape: uint8 (B, h, w, 3), each drawn from a seed of its own."""
    drawn = [store.window(n, np.random.default_rng(seed)) for n, seed in zip(numbers, seeds)]
    return np.stack(drawn)


def middles(store: PictureStore, limit: int) -> list[tuple[np.ndarray, list[str | None]]]:
    """The middles of the first pictures, up to `limit`, those of one shape together: uint8
    (B, h, w, 3) each, with the texts beside them."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for number in range(min(limit, len(store))):
        by_shape.setdefault(store.shapes[number], []).append(number)
    return [
        (np.stack([store.window(number, None) for number in some]), store.texts_of(some))
        for _, some in sorted(by_shape.items())
    ]
