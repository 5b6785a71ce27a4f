"""What a run trains on: shards with their share, nested where several belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from unified_base.text import quoted

__all__ = ["LOSSES", "ORDERS", "Source", "check_names", "leaves", "shares_of"]

ORDERS = ("as_is", "reversed", "both")
LOSSES = ("document", "response", "all")
_MOST = {"share": 10**9, "weight": 10**9, "media_loss": 10**9, "fit": 65_536, "epochs": 10**9,
         "shots": 256}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Shards and their share of the ids that a run sees, or a group of sources and theirs.

    A document's *prompt* is what stands before its last response. In a document of two segments
    without roles the first is the prompt of the second; one of more such segments has no prompt.
    """

    shards: tuple[str, ...] = ()
    """Paths whose last part may hold a `*`, or folders with an index; of documents or of codes."""
    share: float = 1.0
    """Share of the ids, relative to the shares of the sources beside it."""
    weight: float = 1.0
    """Factor on the losses of its documents. An answer of ten ids about a sound of 300 is a
    thirtieth of the ids, yet all that listening is learnt from."""
    media_loss: float = 0.0
    """Weight of predicting pictures and sounds that have none, those of prompts. A decoder that
    must predict what it reads learns to know it."""
    noise: float = 0.0
    """Share of the codes that are replaced in the decoder's inputs by others of the same document
    and codebook; the labels stay the true ones. A decoder that has only ever seen true codes is
    lost after its first wrong one: 96% of the codes of a validation sentence were right where all
    before were true, yet no sentence was spoken to its end."""
    round_trip: bool = False
    """Encode pictures and sounds as the tokenizer gives them back. What a decoder has sampled comes
    to it so when it is asked to describe it or to listen to it."""
    fit: int | None = None
    """Make pictures and sounds of documents fit the model's tokenizers, as `unified data tokenize
    --fit` does: pictures are scaled down to at most so many pixels a side and cropped to what the
    tokenizer takes, sounds mixed and resampled. Empty: what does not fit is skipped. [pixels]"""
    orders: str = "as_is"
    """`as_is`; `reversed` lets prompt and response change places (a picture and its caption give
    both directions); `both` does so for half of the documents. Weights of the loss stay with the
    role, or the position where there are none. Documents of several turns stay as they are, and
    are counted."""
    tasks: bool | None = None
    """Lay pairs out by the model's tasks: a caption and its picture as the model is asked to draw,
    a picture and its caption as it is asked to describe, and so on, id for id. Empty: for shards
    that `unified data import` made of captions (pairs, coco, folder, webdataset), whose text is
    what is meant and not how it is asked for."""
    drop_prompt: float = 0.0
    """Share of the documents that lose their prompt, as in the unconditional branch of
    classifier-free guidance (`unified.engine.active`). Where a prompt holds media and text, half of
    these lose the text alone: three-way guidance asks for both."""
    shots: int = 0
    """Learn from examples in the context (MetaICL, arXiv:2110.15943): the shards hold sets of so
    many documents and one more that follow each other, such as a new name for something three
    times over. A set is one document: all but the last are read (weight 0, their order drawn anew
    in every epoch), and the last is asked. [documents]"""
    infill: float = 0.0
    """Share of the documents of which a drawn part, a medium or a stretch of a text, is moved to
    the end, to be written with what stands behind it in view (fill-in-the-middle; see
    `unified.sequence.infilling`). The format needs roles prefix, suffix and middle. Documents of
    several turns stay as they are."""
    loss: str = "document"
    """`document`: the weights that the documents' segments have; `response`: 1 for responses, calls
    of tools and what fills a gap, and 0 for all else; `all`: 1 for everything."""
    epochs: int | None = None
    """Passes after which the source ends; empty: endless. [passes]"""
    sources: Mapping[str, Source] = field(default_factory=dict)
    """Of a group, by name. A group has a share and nothing else."""

    def __post_init__(self) -> None:
        check_names(self.sources)
        shards = (self.shards,) if isinstance(self.shards, str) else tuple(self.shards)
        object.__setattr__(self, "shards", shards)
        what = "a group of sources" if self.sources else ", ".join(shards)
        if bool(shards) == bool(self.sources):
            raise ValueError(f"a source has {list(shards)} and {list(self.sources)}, expected "
                             "either shards or sources")  # fmt: skip
        if self.sources and (
            surplus := [n for n in _OF_LEAVES if getattr(self, n) != _DEFAULTS[n]]
        ):
            raise ValueError(
                f"a group of sources has {', '.join(surplus)}; give them to its sources"
            )
        if not 0 < self.share < float("inf"):
            raise ValueError(f"the share of {what} is {self.share}, expected more than 0")
        for name in ("weight", "media_loss"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"the {name} of {what} is {getattr(self, name)}, expected 0 or more"
                )
        for name, most in _MOST.items():
            if (getattr(self, name) or 0) > most:
                raise ValueError(
                    f"the {name} of {what} is {getattr(self, name)}, expected at most {most:,}"
                )
        if not 0 <= self.noise < 1:
            raise ValueError(
                f"the noise of {what} is {self.noise}, expected at least 0 and less than 1"
            )
        for name in ("drop_prompt", "infill"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"the {name} of {what} is {getattr(self, name)}, expected 0 to 1")
        if self.shots < 0:
            raise ValueError(f"the shots of {what} are {self.shots}, expected 0 or more")
        for name, known in (("orders", ORDERS), ("loss", LOSSES)):
            if (value := getattr(self, name)) not in known:
                raise ValueError(f"the {name} of {what} is {value!r}, expected {', '.join(known)}")
        if self.fit is not None and self.fit < 1:
            raise ValueError(f"the fit of {what} is {self.fit}, expected at least 1 pixel a side")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"the epochs of {what} are {self.epochs}, expected at least 1")


_DEFAULTS: dict[str, Any] = {
    f.name: f.default if f.default is not MISSING else {} for f in fields(Source)
}
_OF_LEAVES = [name for name in _DEFAULTS if name not in ("share", "sources")]


def check_names(sources: Mapping[str, Source]) -> None:
    """Raises ValueError for a name that no source can have."""
    for name in sources:
        if not name or "/" in name:
            raise ValueError(f"{quoted(name)} is no name of a source; it must not hold '/'")


def leaves(sources: Mapping[str, Source], inside: str = "") -> Iterator[tuple[str, Source]]:
    """(name, source) of every source that has shards, depth first; in a group "GROUP/NAME"."""
    for name, source in sources.items():
        if source.sources:
            yield from leaves(source.sources, f"{inside}{name}/")
        else:
            yield f"{inside}{name}", source


def shares_of(sources: Mapping[str, Source], inside: str = "") -> dict[str, float]:
    """The share of every source and group by its full name."""
    shares = {}
    for name, source in sources.items():
        shares[f"{inside}{name}"] = source.share
        shares |= shares_of(source.sources, f"{inside}{name}/")
    return shares
