"""What a sampled sequence may hold, and what that means for a grammar in ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unified_base.arguments import flag, texts, whole, whole_or_none, whole_pair

if TYPE_CHECKING:
    from unified.formats.grammar import Grammar

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


@dataclass(frozen=True)
class Rules:
    """Limits worked out against a grammar. All lengths in ids."""

    limits: Limits
    max_ids: int
    text: bool
    kinds: tuple[str, ...]  # span kinds that may begin, in the order of the format
    least: dict[str, int]  # kind -> shortest span of that kind under the limits
    forced: dict[str, dict[str, int]]  # kind -> registers that have a settled value
    fixed: dict[str, dict[str, int]]  # the same, and the least turns of open repeats
    exact: dict[str, int]  # kind -> number of spans wanted, where exact


def work_out(limits: Limits, grammar: Grammar) -> Rules:
    """The rules that limits mean for a grammar; ValueError where it cannot keep them."""
    fixed: dict[str, dict[str, int]] = {}
    forced: dict[str, dict[str, int]] = {}
    for kind, program in grammar.span_grammars.items():
        env: dict[str, int] = {}
        forced[kind] = {}
        if kind == "image" and limits.image_grid is not None:
            forced[kind] = env = program.fix_grid(limits.image_grid)
            if any(name in program.open_registers for name in env):
                raise ValueError(f"format {grammar.format.name} cannot force an image's size")
        if kind == "audio":
            bounded = limits.min_audio_frames > 1 or limits.max_audio_frames is not None
            if bounded and not program.open_registers:
                raise ValueError(f"format {grammar.format.name} has no audio of open length")
            env = dict.fromkeys(program.open_registers, limits.min_audio_frames)
        fixed[kind] = env
    exact = {
        kind: number
        for kind, number in (("image", limits.num_images), ("audio", limits.num_audios))
        if number is not None
    }
    missing = [
        kind for kind, number in exact.items() if number and kind not in grammar.span_grammars
    ]
    if missing:
        raise ValueError(f"format {grammar.format.name} has no {missing[0]} spans")
    last = [kind for kind in grammar.span_grammars if grammar.span_grammars[kind].terminal]
    if sum(exact.get(kind, 0) for kind in last) > 1:
        raise ValueError(
            f"a document of format {grammar.format.name} ends after its first"
            f" {' or '.join(last)} span: there cannot be more"
        )
    known = ("text", "image", "audio", *grammar.span_grammars)
    unknown = [kind for kind in limits.allow if kind not in known]
    if unknown:
        raise ValueError(f"allow holds {unknown}; it may hold {', '.join(dict.fromkeys(known))}")
    kinds = tuple(
        kind
        for kind, program in grammar.span_grammars.items()
        if {kind, program.modality} & set(limits.allow) and exact.get(kind) != 0
    )
    firsts = {path[0] for paths in grammar.paths.values() for path in paths}
    if limits.stop is not None and limits.stop not in firsts | set(grammar.document_markers):
        raise ValueError(
            f"{grammar.vocabulary.describe(limits.stop)} cannot be the stop of a text; "
            "it is no marker that follows one"
        )
    return Rules(
        limits=limits,
        max_ids=UNLIMITED if limits.max_ids is None else limits.max_ids,
        text="text" in limits.allow,
        kinds=kinds,
        least={
            kind: program.length(fixed[kind]) for kind, program in grammar.span_grammars.items()
        },
        fixed=fixed,
        forced=forced,
        exact={kind: number for kind, number in exact.items() if kind in grammar.span_grammars},
    )
