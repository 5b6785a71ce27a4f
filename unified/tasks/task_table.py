"""All that a model can be asked, verb by verb: a task, or why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from unified.engine.request import Sampling
from unified.formats.spec import Format
from unified.tasks.asking import Answer, Inputs, ask_document, describe_size
from unified.tasks.settings import sampling_over
from unified.tasks.task import VERBS, Refusal, Task, Verb
from unified_base.text import quoted
from unified_data.document import Document

__all__ = ["Tasks"]

_NOTHING_SAYS = (
    "nothing says how this model is asked to {verb}; write it into the tasks.yaml of its folder,"
    " or `unified sample` a document of your own"
)
_NOTHING_SAYS_OF: Mapping[Verb, str] = {
    "reply": (
        "it does not listen while it speaks, as models with two voices side by side do (Moshi);"
        " speak, listen and write are of one at a time"
    ),
    "ground": (
        "it has no ids of places, so that it can point at nothing: train one with boxes"
        " (docs/grounding.md), or `ask` where something is"
    ),
    "edit": (
        "nothing says how this model is asked to change a picture; `draw` makes one of words alone"
    ),
}


class Tasks(Mapping[Verb, Task | Refusal]):
    """A task or a refusal for every verb of `VERBS`; one that nothing is said of is refused."""

    def __init__(self, entries: Mapping[Verb, Task | Refusal]) -> None:
        """Raises ValueError for a name that is no verb, and a task that stands under another."""
        for name, entry in entries.items():
            if name not in VERBS:
                raise ValueError(f"{quoted(name)} is no verb, expected one of {', '.join(VERBS)}")
            if entry.verb != name:
                raise ValueError(f"under {name} stands a task to {entry.verb}")
        self._entries: dict[Verb, Task | Refusal] = {
            verb: entries.get(verb)
            or Refusal(verb, _NOTHING_SAYS_OF.get(verb, _NOTHING_SAYS.format(verb=verb)))
            for verb in VERBS
        }

    def __getitem__(self, verb: Verb) -> Task | Refusal:
        return self._entries[verb]

    def __iter__(self) -> Iterator[Verb]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tasks) and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment]

    @property
    def able(self) -> tuple[Verb, ...]:
        """The verbs that are not refused."""
        return tuple(verb for verb, entry in self.items() if isinstance(entry, Task))

    def task(self, verb: Verb) -> Task:
        """The task of a verb. Raises ValueError, with the reason and what there is instead, where
        it is refused."""
        if verb not in VERBS:
            raise ValueError(f"{quoted(verb)} is no verb, expected one of {', '.join(VERBS)}")
        entry = self[verb]
        if isinstance(entry, Task):
            return entry
        able = f"; what it can do: {', '.join(self.able)}" if self.able else ""
        raise ValueError(f"the model cannot {verb}: {entry.reason}{able}")

    def samplings(self, sampling: Sampling) -> tuple[Sampling, ...]:
        """A model's sampling parameters, and what each of its tasks makes of them."""
        tasks = (entry for entry in self.values() if isinstance(entry, Task))
        each = (form for task in tasks for form in (task, *task.forms))
        return sampling, *(form.sampling_over(sampling) for form in each if form.sampling)

    def document(self, verb: Verb, inputs: Inputs, answer: Answer | None = None) -> Document:
        """The document that asks for something; with an answer, the one to train on."""
        return ask_document(self.task(verb), inputs, answer)

    def with_entries(self, entries: Mapping[Verb, Task | Refusal]) -> Tasks:
        """These tasks with others in the place of some."""
        return Tasks({**self, **entries})

    def without_media(self, missing: Mapping[tuple[str, str], str]) -> Tasks:
        """Tasks whose media a model cannot read or make become refusals; forms of such are gone. A
        form that is left takes the place of its task.

        missing: (modality, "read" or "make") -> why, and what to do. An "any" slot does without
        media that cannot be made.
        """
        refusals: dict[Verb, Task | Refusal] = {}
        for verb in self.able:
            task = self.task(verb)
            lacks = [missing[use] for use in _uses(task) if use in missing]
            forms = tuple(form for form in task.forms if not _uses(form) & set(missing))
            if lacks and forms:  # what is given otherwise, or made, can be had
                refusals[verb] = replace(forms[0], forms=forms[1:])
            elif lacks:
                refusals[verb] = Refusal(verb, lacks[-1])
            elif forms != task.forms:
                refusals[verb] = replace(task, forms=forms)
        return self.with_entries(refusals)

    def check(self, format: Format) -> None:
        """Raises ValueError, with the verb, for a task that documents of a format cannot hold."""
        for verb in self.able:
            task = self.task(verb)
            forms = (task, *task.forms)
            roles = {part.role for form in forms for part in (*form.parts, *form.shots)}
            for role in roles - {None, *format.roles}:
                has = ", ".join(format.roles) or "none"
                raise ValueError(
                    f"{verb}: there is no role {quoted(role)} in format {format.name}, expected"
                    f" {has}"
                )
            kinds = {kind: span.modality for kind, span in format.spans.items()}
            try:
                for form in forms:
                    sampling_over(Sampling(), form.sampling, kinds)
            except ValueError as error:
                raise ValueError(f"{verb}: {error}") from None

    def describe(self) -> dict[Verb, dict[str, Any]]:
        """What `unified tasks --json` tells of every verb: how it is asked, or why it cannot be."""
        return {verb: _describe(entry) for verb, entry in self.items()}


def _uses(task: Task) -> set[tuple[str, str]]:
    """(modality, "read" or "make") of the media that a task cannot do without."""
    makes = {(slot.kind, "make") for slot in task.slots if slot.kind not in ("text", "any")}
    if task.verb == "ground":
        makes.add(("box", "make"))
    return {(kind, "read") for kind in task.media} | makes


def _describe(entry: Task | Refusal) -> dict[str, Any]:
    if isinstance(entry, Refusal):
        return {"able": False, "reason": entry.reason}
    return {
        **_describe_form(entry),
        "examples": bool(entry.shots),
        "forms": [_describe_form(form) for form in entry.forms],
    }


def _describe_form(task: Task) -> dict[str, Any]:
    pictures = bool(task.modalities & {"image", "video"}) or task.slot.kind == "any"
    return {
        "able": True,
        "prompt": task.words,
        "makes": task.slot.kind,
        "thoughts": [slot.kind for slot in task.slots[:-1]],
        "language": task.language,
        "media": list(task.media),
        "sizes": describe_size(task) if pictures else None,
        "voices": list(task.voices) or ("any" if "voice" in task.placeholders else None),
        "voice": task.voice,
        "negative": task.negative,
        "sampling": dict(task.sampling),
        "source": task.source,
        "example": task.example,
    }
