"""A format compiled against a vocabulary: its ids, and how segments and roles follow each other."""

from __future__ import annotations

from functools import lru_cache

from unified.formats.limits import Limits
from unified.formats.rules import Rules, rules_of
from unified.formats.span_grammar import SpanGrammar
from unified.formats.spec import Affix, Format, Marker
from unified.vocabulary.block import Ranges
from unified.vocabulary.vocabulary import Vocabulary

__all__ = ["CompiledFormat"]


class CompiledFormat:
    """Immutable; shared by any number of states.

    Attributes:
        begin, end: ids that begin and end a document.
        padding: the id that fills a row behind a document.
        separator: the id between two texts of a role, None where nothing can stand there.
        pad_text_with: of guidance: the id that stands for each id of a text that is left out.
        uncond_token: of guidance: the id that stands for all texts that are left out.
        roles: by name the ids before its first segment, and those after its last.
        span_grammars: by kind of span. Kinds of vectors for which the vocabulary has no id, since
            the model has no encoder, are left out.
        num_together: the most ids that a position of the decoder holds: 1 where each has its own.
        document_markers: ids at the level of the document that begin a span ("span", KIND) or
            separate two texts ("separator", "").
        read_instead: kind of span -> the kind of vectors that begins with the same marker.
        read_begins: those of `document_markers` that begin a span of continuous positions, which
            may be read wherever a span may begin and is never allowed: nothing writes it.
        paths: from each role, the ids to every role that can follow, and to the end of the document
            (None).
    """

    def __init__(self, format: Format, vocabulary: Vocabulary):
        self.format = format
        self.vocabulary = vocabulary
        self.is_text = vocabulary.is_text
        self.begin = self._ids_of(format.begin)
        self.end = self._ids_of(format.end)
        self.padding = vocabulary.marker(format.padding)
        self.separator = self._marker(format.text_separator)
        self.pad_text_with = self._marker(format.pad_text_with)
        self.pad_affixes = format.pad_affixes
        self.uncond_token = self._marker(format.uncond_token)
        self.roles = {
            name: (self._ids_of(role.begin), self._ids_of(role.end))
            for name, role in format.roles.items()
        }
        self.span_grammars = {
            kind: SpanGrammar(kind, span, vocabulary)
            for kind, span in format.spans.items()
            if not span.embeds or vocabulary.levels(kind)
        }
        # Codes last: where vectors begin with the same marker, what follows it tells.
        spans = sorted(self.span_grammars.items(), key=lambda pair: not pair[1].embeds)
        self.document_markers: dict[int, tuple[str, str]] = {
            span.begin: ("span", kind) for kind, span in spans
        }
        self.read_instead = {
            self.document_markers[span.begin][1]: kind
            for kind, span in spans
            if span.embeds and self.document_markers[span.begin][1] != kind
        }
        if self.separator is not None:
            self.document_markers[self.separator] = ("separator", "")
        self.read_begins = frozenset(
            span.begin for span in self.span_grammars.values() if span.embeds
        )
        self.num_together = max((s.num_together for s in self.span_grammars.values()), default=1)
        start = () if format.start is not None else (None,)
        self.paths = {role: self._paths_from(role) for role in (*start, *self.roles)}
        self._rules = lru_cache(maxsize=256)(self._rules_of)
        self._range_cache: dict[tuple[bool, tuple[int, ...]], Ranges] = {}

    def _marker(self, name: str | None) -> int | None:
        return None if name is None else self.vocabulary.marker(name)

    def _ids_of(self, affix: Affix) -> tuple[int, ...]:
        ids: list[int] = []
        for item in affix:
            if isinstance(item, Marker):
                ids.append(self.vocabulary.marker(item.name))
            else:
                ids += self.vocabulary.literal(item.text)
        return tuple(ids)

    def _paths_from(self, role: str | None) -> dict[tuple[int, ...], str | None]:
        """Ids to every role that can follow `role`, and to the end of the document (None).

        What ends the document may be the begin of another path, or one: it is complete there, and
        another role may follow.
        """
        eos = self.eos(role)
        pairs = [(self.transition(role, other), other) for other in self.roles if other != role]
        pairs = [(path, following) for path, following in pairs if path]
        if len({path for path, _ in pairs}) < len(pairs) or any(
            other[: len(path)] == path
            for path, _ in pairs
            for other in (eos, *(other for other, _ in pairs))
            if other != path
        ):
            before = "the begin of a document" if role is None else f"role '{role}'"
            raise ValueError(
                f"format '{self.format.name}': the ids that may follow {before} begin alike:"
                " nothing would tell which role comes, or whether the document ends"
            )
        return {eos: None, **dict(pairs)}

    def role_suffix(self, role: str | None) -> tuple[int, ...]:
        """The ids that end a role, whatever follows."""
        return self.roles[role][1] if role is not None else ()

    def eos(self, role: str | None) -> tuple[int, ...]:
        """The ids that end a document whose last segment has this role."""
        return self.role_suffix(role) + self.end

    def transition(self, before: str | None, role: str) -> tuple[int, ...]:
        """The ids from a segment of one role to one of another."""
        return self.role_suffix(before) + self.roles[role][0]

    def segment_prefix(
        self, before: str | None, role_before: str | None, kind: str, role: str | None
    ) -> tuple[int, ...]:
        """The markers before a segment of this kind and role.

        before: kind of the segment before it, None at the start of a document.

        Raises ValueError for a role that the format does not have, or not there; and where nothing
        can stand between two texts.
        """
        name = self.format.name
        if role is not None and role not in self.roles:
            if not self.roles:
                raise ValueError(f"format '{name}' has no roles; leave role '{role}' out")
            raise ValueError(
                f"format '{name}' has no role '{role}'; it has {', '.join(self.roles)}"
            )
        role, role_before = role or self.format.start, role_before or self.format.start
        if role != role_before:
            if role is None:
                raise ValueError(
                    f"a segment without a role cannot follow role '{role_before}'; give it a role"
                    f" of format '{name}': {', '.join(self.roles)}"
                )
            ids = self.transition(role_before, role)
            if not ids:
                following = [other for other in self.paths[role_before].values() if other]
                raise ValueError(
                    f"role '{role}' cannot follow role '{role_before}' in format '{name}'; what"
                    f" can is {', '.join(following) or 'the end of the document'}"
                )
            return ids
        if not before == kind == "text":
            return ()
        if self.separator is None:
            raise ValueError(
                f"format '{name}' has nothing to stand between two texts of a role; join them"
            )
        return (self.separator,)

    def text_stop(self, role: str | None, following: tuple[str, str | None] | None) -> int:
        """The id that ends a text of this role when `following`, (kind, role), comes next.

        None: the document ends. It is the `stop` of `Limits` for a text slot.
        """
        if following is None:
            return self.eos(role or self.format.start)[0]
        kind, next_role = following
        prefix = self.segment_prefix("text", role, kind, next_role)
        return prefix[0] if prefix else self.span_grammars[kind].begin

    def rules(self, limits: Limits) -> Rules:
        """What limits mean for this format (cached). ValueError where it cannot keep them."""
        return self._rules(limits)

    def _rules_of(self, limits: Limits) -> Rules:
        rules = rules_of(limits, self.format.name, self.span_grammars)
        following = {path[0] for paths in self.paths.values() for path in paths}
        following.update(self.document_markers)
        if limits.stop is not None and limits.stop not in following:
            raise ValueError(
                f"{self.vocabulary.describe(limits.stop)} cannot be the stop of a text; what can"
                f" follow one is {self.describe(self.ranges(False, tuple(sorted(following))))}"
            )
        return rules

    def ranges(self, text: bool, markers: tuple[int, ...]) -> Ranges:
        """Sorted disjoint ranges that hold the markers, and the text ids if `text`."""
        key = (text, markers)
        ranges = self._range_cache.get(key)
        if ranges is None:
            merged: list[tuple[int, int]] = []
            singles = [(id, id + 1) for id in markers]
            for start, stop in sorted([*singles, *(self.vocabulary.text_ranges if text else ())]):
                if merged and merged[-1][1] == start:
                    merged[-1] = (merged[-1][0], stop)
                else:
                    merged.append((start, stop))
            ranges = self._range_cache[key] = tuple(merged)
        return ranges

    def describe(self, ranges: Ranges) -> str:
        """Allowed ranges in words."""
        words: list[str] = []
        for start, stop in ranges:
            at = start
            while at < stop:
                _, upto, block = self.vocabulary.segment_of(at)
                upto = min(stop, upto)
                if block.symbols is not None:
                    words += [self.vocabulary.symbol(id) for id in range(at, upto)]
                elif upto - at == 1:
                    words.append(self.vocabulary.describe(at))
                else:
                    words.append(f"{block.name} (ids {at}..{upto - 1})")
                at = upto
        return " or ".join(words)
