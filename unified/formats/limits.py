"""What a sampled sequence may hold. What that means for a grammar in ids: `rules`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unified_base.arguments import (
    flag,
    item,
    text,
    texts,
    whole,
    whole_or_none,
    whole_pair,
    whole_sides,
)
from unified_base.text import quoted
from unified_data.segments import media_class, modalities

UNLIMITED = 1 << 62  # a budget no sequence reaches


class BudgetError(ValueError):
    """What is asked for does not fit a budget of ids."""


@dataclass(frozen=True)
class SpanLimits:
    """What the spans of one modality may be.

    count: exact number of spans wanted; None: free.
    grid: in codes, that every span must have; None: free.
    min_frames, max_frames: bounds for each span of open length.
    """

    count: int | None = None
    grid: tuple[int, ...] | None = None
    min_frames: int = 1
    max_frames: int | None = None

    def __post_init__(self) -> None:
        checked = {
            "count": whole_or_none("count", self.count, 0),
            "grid": None if self.grid is None else whole_sides("grid", self.grid),
            "min_frames": whole("min_frames", self.min_frames, 1),
            "max_frames": whole_or_none("max_frames", self.max_frames, 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        last = self.max_frames
        if last is not None and last < self.min_frames:
            raise ValueError(f"frames from {self.min_frames} to {last}: expected 1 <= min <= max")


_FREE_SPANS = SpanLimits()
# The fields of `Limits` that are short for one of a modality's `SpanLimits`.
_SHORT = {
    "image": {"count": "num_images", "grid": "image_grid"},
    "audio": {
        "count": "num_audios", "min_frames": "min_audio_frames", "max_frames": "max_audio_frames",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What a sampled sequence may hold, from where the limits are set on.

    max_ids: ids that may still come, the closing one included; None: no bound.
    num_images, num_audios: exact numbers wanted; None: free.
    allow: what may begin: "text", a modality (all its spans), or a kind of span; None: everything.
    image_grid: (h, w) in codes that every image must have; None: free.
    min_audio_frames, max_audio_frames: bounds for each audio span.
    spans: the same for any modality, by its name; the names above are short for those of "image"
        and "audio".
    roles: whether role markers may be sampled.
    single: exactly one segment, then the end: what a slot in the middle of a document takes.
    calls: a role that the model may begin in the place of what is asked for, or behind a part of
        it; it holds one text, and the document ends behind it: a call of a tool.
    role: with `calls`, that of what is asked for; None: the format's first.
    stop: the id that ends a `single` text in place of the end of the document: the marker that
        follows it there (see `Grammar.text_stop`). It lifts the limits.
    """

    max_ids: int | None = None
    num_images: int | None = None
    num_audios: int | None = None
    allow: tuple[str, ...] | None = None
    image_grid: tuple[int, int] | None = None
    min_audio_frames: int = 1
    max_audio_frames: int | None = None
    roles: bool = False
    single: bool = False
    stop: int | None = None
    calls: str | None = None
    role: str | None = None
    spans: Mapping[str, SpanLimits] | tuple[tuple[str, SpanLimits], ...] = ()

    def __post_init__(self) -> None:
        checked = {
            "max_ids": whole_or_none("max_ids", self.max_ids, 0),
            "num_images": whole_or_none("num_images", self.num_images, 0),
            "num_audios": whole_or_none("num_audios", self.num_audios, 0),
            "allow": None if self.allow is None else texts("allow", self.allow),
            "min_audio_frames": whole("min_audio_frames", self.min_audio_frames, 1),
            "max_audio_frames": whole_or_none("max_audio_frames", self.max_audio_frames, 1),
            "roles": flag("roles", self.roles),
            "single": flag("single", self.single),
            "stop": whole_or_none("stop", self.stop, 0),
            "calls": None if self.calls is None else text("calls", self.calls),
            "role": None if self.role is None else text("role", self.role),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.image_grid is not None:
            object.__setattr__(self, "image_grid", whole_pair("image_grid", self.image_grid))
        if not isinstance(self.spans, Mapping):
            pairs = isinstance(self.spans, tuple) and all(
                isinstance(pair, tuple) and len(pair) == 2 for pair in self.spans
            )
            if not pairs:
                raise ValueError(f"spans is {quoted(self.spans)}, expected a mapping of SpanLimits")
        object.__setattr__(self, "spans", tuple(sorted(dict(self.spans).items())))
        for modality, limits in dict(self.spans).items():
            item(f"spans[{quoted(modality)}]", limits, SpanLimits, "a SpanLimits")
            media_class(modality)
            if self._short(modality) not in (_FREE_SPANS, limits):
                raise ValueError(
                    f"spans has {modality}, and so have {', '.join(_SHORT[modality].values())}:"
                    " give one of the two"
                )
        for modality in modalities():
            count = self.of(modality).count
            if count and self.allow is not None and modality not in self.allow:
                name = _SHORT.get(modality, {}).get("count", f"spans['{modality}'].count")
                raise ValueError(f"{name} is {count}, but allow leaves out {modality}")
            if self.single and count is not None:
                raise ValueError(
                    "single takes exactly one segment; leave num_images, num_audios and other"
                    " counts out"
                )
        if self.calls is not None and (self.single or self.roles):
            raise ValueError("calls are of an open slot: they need single=False, roles=False")
        if self.single and self.allow == ():
            raise ValueError("single takes exactly one segment, but allow is empty")
        if self.stop is not None and not (self.single and self.allow == ("text",)):
            raise ValueError("stop ends a single text: it needs single=True, allow=('text',)")
        if self.stop is not None and self.roles:
            raise ValueError("stop belongs to the role of its text: it needs roles=False")

    def _short(self, modality: str) -> SpanLimits:
        """What the short names say of a modality."""
        names = _SHORT.get(modality, {})
        try:
            return SpanLimits(**{field: getattr(self, name) for field, name in names.items()})
        except ValueError as error:
            raise ValueError(f"{modality} {error}") from None

    def of(self, modality: str) -> SpanLimits:
        """What holds for the spans of a modality."""
        limits = dict(self.spans).get(modality)
        return self._short(modality) if limits is None else limits


# The limits of a sequence that is read, not sampled: all the format can say.
FREE = Limits(roles=True)
