"""Texts that end a slot: found as ids arrive, and cut off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unified.vocabulary.text_tokenizer import TextTokenizer

__all__ = ["StopFinder", "cut"]


def cut(text: str, stops: Sequence[str]) -> str | None:
    """What stands before the stop that is complete first, None where there is none."""
    ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    if not ends:
        return None
    end, length = min(ends)
    return text[: end + length]


class StopFinder:
    """The text of a stream of ids, up to the first stop; what may be part of one is held back."""

    def __init__(self, tokenizer: TextTokenizer, stops: Sequence[str]) -> None:
        self._pieces = tokenizer.stream()
        self._stops = stops
        self._held = ""
        self._ready = ""
        self._longest = max(map(len, stops), default=0)

    def push(self, ids: Iterable[int]) -> bool:
        """Whether these ids complete a stop."""
        self._held += self._pieces.push(ids)
        before = cut(self._held, self._stops)
        if before is not None:
            self._ready += before
            self._held = ""
            return True
        num_held = min(len(self._held), self._longest - 1) if self._stops else 0
        while num_held and not any(stop.startswith(self._held[-num_held:]) for stop in self._stops):
            num_held -= 1
        at = len(self._held) - num_held
        self._ready += self._held[:at]
        self._held = self._held[at:]
        return False

    def take(self) -> str:
        """The text that no stop can reach any more, once."""
        ready, self._ready = self._ready, ""
        return ready

    def flush(self) -> str:
        """End the text: the rest of it, U+FFFD where it stopped inside a character."""
        rest = self._ready + self._held + self._pieces.flush()
        self._held = self._ready = ""
        return rest

    def reset(self) -> None:
        """Begin another text."""
        self._pieces.flush()
        self._held = self._ready = ""
