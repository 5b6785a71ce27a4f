"""What a sampled sequence may hold. What that means for a grammar in ids: `rules`."""

from __future__ import annotations

from dataclasses import dataclass

from unified_base.arguments import flag, texts, whole, whole_or_none, whole_pair

UNLIMITED = 1 << 62  # a budget no sequence reaches


@dataclass(frozen=True)
class Limits:
    """What a sampled sequence may hold, from where the limits are set on.

    max_ids: ids that may still come, the closing one included; None: no bound.
    num_images, num_audios: exact numbers wanted; None: free.
    allow: what may begin: "text", "image", "audio" (all spans of the modality), or a kind of span.
    image_grid: (h, w) in codes that every image must have; None: free.
    min_audio_frames, max_audio_frames: bounds for each audio span.
    roles: whether role markers may be sampled.
    single: exactly one segment, then the end: what a slot in the middle of a document takes.
    stop: the id that ends a `single` text in place of the end of the document: the marker that
        follows it there (see `Grammar.text_stop`). It lifts the limits.
    """

    max_ids: int | None = None
    num_images: int | None = None
    num_audios: int | None = None
    allow: tuple[str, ...] = ("text", "image", "audio")
    image_grid: tuple[int, int] | None = None
    min_audio_frames: int = 1
    max_audio_frames: int | None = None
    roles: bool = False
    single: bool = False
    stop: int | None = None

    def __post_init__(self) -> None:
        checked = {
            "max_ids": whole_or_none("max_ids", self.max_ids, 0),
            "num_images": whole_or_none("num_images", self.num_images, 0),
            "num_audios": whole_or_none("num_audios", self.num_audios, 0),
            "allow": texts("allow", self.allow),
            "min_audio_frames": whole("min_audio_frames", self.min_audio_frames, 1),
            "max_audio_frames": whole_or_none("max_audio_frames", self.max_audio_frames, 1),
            "roles": flag("roles", self.roles),
            "single": flag("single", self.single),
            "stop": whole_or_none("stop", self.stop, 0),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        for kind, number in (("image", self.num_images), ("audio", self.num_audios)):
            if number and kind not in self.allow:
                raise ValueError(f"num_{kind}s is {number}, but allow leaves out {kind}")
        if self.single and (self.num_images is not None or self.num_audios is not None):
            raise ValueError(
                "single takes exactly one segment; leave num_images and num_audios out"
            )
        if self.single and not self.allow:
            raise ValueError("single takes exactly one segment, but allow is empty")
        if self.stop is not None and not (self.single and self.allow == ("text",)):
            raise ValueError("stop ends a single text: it needs single=True, allow=('text',)")
        if self.stop is not None and self.roles:
            raise ValueError("stop belongs to the role of its text: it needs roles=False")
        if self.image_grid is not None:
            object.__setattr__(self, "image_grid", whole_pair("image_grid", self.image_grid))
        last = self.max_audio_frames
        if last is not None and last < self.min_audio_frames:
            raise ValueError(
                f"audio frames from {self.min_audio_frames} to {last}: expected 1 <= min <= max"
            )


# The limits of a sequence that is read, not sampled: all the format can say.
FREE = Limits(roles=True)
