"""A declared format (YAML) read into checked, vocabulary-free data.

A format says how a document is laid out as ids:

    name, padding
    markers: [NAME, ...]             special ids, by the names the format gives them
    document: {begin: AFFIX, end: AFFIX, start: ROLE}
                                     start: the role that a document begins in, where no id says so.
                                     end: begins with a marker; where every role has an end, it may
                                     be any affix, or null, and another role may then still follow
    roles: {ROLE: AFFIX | {begin: AFFIX, end: AFFIX}}
    bidirectional: [NAME, ...]       roles, and kinds of spans of vectors, whose positions see one
                                     another: prefix attention. A run of segments of such a role is
                                     one span, with the markers before and behind them and the
                                     document's beginning before the first; of a kind it is the span
                                     itself. Nothing is written there
    text: {separator: NAME | null}   between two texts of a role; null: such texts cannot be told
                                     apart and are refused
    guidance: {blank: NAME, leads: true} | {instead: NAME}
                                     what stands where guidance does without a text: a marker for
                                     each of its ids, or one for all texts; nothing without this.
                                     leads: what stands before it and before the answer is blanked
                                     out as well
    spans: {KIND: [items] | {modality: MODALITY, items: [items], closes: true, streams: STREAMS}}
                                     KIND is a modality (image, audio, ...), or another name with
                                     its modality; closes: nothing but the end of the document may
                                     follow
                                     STREAMS, such as {text: text, speaker: 8, listener: 8}: what
                                     the levels of a frame are of, in order: so many codebooks of
                                     the kind, or `text`, one id of text

An AFFIX, what stands before something or behind it, is the name of a marker, a list of them and of
`{literal: "TEXT"}`, or null (nothing). A span is a list of items:

    marker: NAME                     one marker
    position: [NAME, ...]            one position of the decoder, a marker for each level
    literal: TEXT                    the ids of a text, as the vocabulary has recorded them
    register: NAME, block: BLOCK     a size variable: one id of BLOCK, whose code + 1 is its value
    register: NAME, digits: N        a size variable in decimal digits, at most N of them, until
                                     the next item begins
    codes: KIND | KIND.STREAM | BLOCK
                                     one id of every level of a kind, in order, or of a stream's, or
                                     of one level
      together: true                 all levels in one position of the decoder
    embeds: KIND                     one continuous position: a vector that an encoder made of the
                                     medium, where the sequence has the one id of block KIND.0. It
                                     is read and never written. A span of them may begin with them
      attended: true                 the one position of a medium whose vectors stand nowhere: it
                                     holds its id, and modules in the decoder's layers attend to
                                     them from there on
    repeat: COUNT, of: [items]       COUNT an integer, a register, a multiple of one ("2*h"), or
                                     `open`: one or more times, until the next item begins;
                                     `sets: NAME` keeps how often, so that later repeats can be
                                     held to an equal count
      separator: NAME, separate: each | between
      rising: N                      of a whole number of codes alone: each is at least the one N
                                     before it, as the last cell of a box is not before its first
      until: CODE                    of an open one: it ends with a turn whose codes are all CODE,
                                     which is no frame
    delayed: KIND, by: [steps], fill: FILL | {before: FILL, end: FILL, after: FILL}
                                     open: every step holds one id of every level, and level k is
                                     `by[k]` steps late; `before` stands where it has not begun,
                                     `end`, if there is one, for one step behind its last code, and
                                     `after` in the steps that remain. FILL is a marker, or a list
                                     of one for each level
      together: true                 a step is one position of the decoder

Levels frame-major are one repeat of all levels; layer-major, one repeat for each level, the later
ones counted by what the first one set.

A position of the decoder holds one id, or those of levels that are together: the ids of a sequence
stand in the same order either way, and each has a *depth*, its index within its position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Marker:
    """A special id, by the format's own name for it. depth: its index within its position."""

    name: str
    depth: int = 0


@dataclass(frozen=True)
class Literal:
    """The ids of a text."""

    text: str


@dataclass(frozen=True)
class SizeVariable:
    """A size that the sequence states ("register" in the file).

    block: whose code + 1 is the value; None: written in at most `digits` decimal digits.
    """

    name: str
    block: str | None
    digits: int = 0


@dataclass(frozen=True)
class CodesItem:
    """blocks: a kind, for an id of each of its levels in order; or one block, such as "audio.2".

    together: whether the levels are in one position. embeds: whether it is a continuous position
    instead: its one id holds the place of a vector. attended: whether it is the one position of a
    medium that the decoder's layers attend to.
    """

    blocks: str
    together: bool = False
    embeds: bool = False
    attended: bool = False


@dataclass(frozen=True)
class Repeat:
    """count: an integer, a size variable, or None for an open repeat, whose number is `sets`.

    times: factor on the value of a size variable.
    until: of an open repeat: the code that ends it where a turn has it in every level.
    rising: each code is at least the one so many before it; 0: any.
    """

    count: int | str | None
    of: tuple[Item, ...]
    separator: str | None = None
    separate: str | None = None
    sets: str | None = None
    times: int = 1
    until: int | None = None
    rising: int = 0


@dataclass(frozen=True)
class Delayed:
    """Levels side by side, level k `by[k]` steps late. sets: the variable of the frames' number.

    before, after: the marker of each level where it has no code yet, and no more. end: the one
    that stands right behind its last code; () without. together: whether a step is one position.
    """

    kind: str
    by: tuple[int, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    sets: str
    end: tuple[str, ...] = ()
    together: bool = False

    @property
    def num_flush_steps(self) -> int:
        """Steps after the last code of level 0, until every level is complete."""
        return max(self.by) + bool(self.end)


Item = Marker | Literal | SizeVariable | CodesItem | Repeat | Delayed
Affix = tuple[Marker | Literal, ...]


@dataclass(frozen=True)
class Role:
    """What stands before the first segment of a role, and after its last."""

    begin: Affix
    end: Affix


@dataclass(frozen=True)
class SpanSpec:
    """modality: `image` or `audio`. terminal: the document ends after it.

    streams: name -> number of codebooks, or None for one of text; empty without streams.
    """

    modality: str
    items: tuple[Item, ...]
    terminal: bool = False
    streams: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def embeds(self) -> bool:
        """Whether the span holds continuous positions in the place of codes."""
        return any(item.embeds for item in _codes_items(self.items))

    @property
    def attended(self) -> bool:
        """Whether the decoder's layers attend to its media, which have one position each."""
        return any(item.attended for item in _codes_items(self.items))

    @property
    def num_codebooks(self) -> int | None:
        """How many codebooks the format itself says that the kind has; None where it does not."""
        if self.embeds:
            return 1
        if self.streams:
            return sum(number or 0 for number in self.streams.values())
        delayed = [len(item.by) for item in self.items if isinstance(item, Delayed)]
        markers = (item.depth + 1 for item in self.items if isinstance(item, Marker))
        position = max(markers, default=1)
        return delayed[0] if delayed else position if position > 1 else None


def _codes_items(items: tuple[Item, ...]) -> Iterator[CodesItem]:
    for item in items:
        if isinstance(item, CodesItem):
            yield item
        else:
            yield from _codes_items(getattr(item, "of", ()))


@dataclass(frozen=True)
class Format:
    """A declared format. `source` is the YAML text it was read from."""

    name: str
    markers: tuple[str, ...]
    padding: str
    begin: Affix
    end: Affix
    start: str | None
    roles: Mapping[str, Role]
    text_separator: str | None
    spans: Mapping[str, SpanSpec]
    source: str
    pad_text_with: str | None = None
    pad_affixes: bool = False
    uncond_token: str | None = None
    bidirectional: tuple[str, ...] = ()

    @property
    def literals(self) -> tuple[str, ...]:
        """The texts whose ids a vocabulary for this format has to record, digits included."""
        texts: dict[str, None] = {}

        def look(items: tuple[Item, ...]) -> None:
            for item in items:
                if isinstance(item, Literal):
                    texts[item.text] = None
                elif isinstance(item, SizeVariable) and item.digits:
                    texts.update(dict.fromkeys("0123456789"))
                elif isinstance(item, Repeat):
                    look(item.of)

        leads = [self.begin, self.end]
        leads += [lead for role in self.roles.values() for lead in (role.begin, role.end)]
        for items in (*leads, *(span.items for span in self.spans.values())):
            look(items)
        return tuple(texts)
