"""The tasks of models that bring none: by the format that their documents are laid out in.

`unified extend` and training write them into the model's tasks.yaml, where they can be changed
before a training: what a model is trained on is what it is asked.
"""

from __future__ import annotations

from unified.formats.grammar import Grammar
from unified.formats.spec import Format
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import MediaPart, Part, Refusal, SlotPart, Task, TextPart, Verb
from unified.tasks.task_table import Tasks
from unified_data.document import MAX_SIDE, Role

__all__ = ["default_tasks", "in_words", "pocket_forms", "sizes_of"]

_PROMPT: Role = "prompt"
_RESPONSE: Role = "response"


def default_tasks(format: Format, size: SizeRule | None = None) -> Tasks:
    """The tasks of a model in a format. size: of its pictures, see `sizes_of`; None: any.

    With the roles of a chat template a model is asked in words; in the pocket format by that
    format's own forms; in others, which know nobody who asks, it goes on with a text or a picture.
    """
    if format.name in ("pocket", "pocket-together", "grounded", "tiles", "tools", "video"):
        tasks = pocket_forms(size)
    elif {_PROMPT, _RESPONSE} <= set(format.roles):
        tasks = in_words(size)
    else:
        tasks = _going_on(format, size)
    return tasks.without_media(_lacks(format))


def sizes_of(grammar: Grammar, stride: int | None) -> SizeRule | None:
    """The sizes that a grammar's pictures may have; None: it does not say.

    stride: pixels a code covers on each side; None: of no image tokenizer.
    """
    span = grammar.span_grammars.get("image")
    if span is None or stride is None or len(span.axes) != 2:
        return None
    rows, columns = span.axes
    if rows[0] is None and columns[0] is None:
        return SizeRule((columns[1] * stride, rows[1] * stride), fixed=True)
    largest = [span.most(name) for name, _ in span.axes]
    if rows[1] != columns[1] or None in largest:
        return SizeRule(multiple_of=stride)
    step = rows[1] * stride
    most = min(number for number in largest if number is not None) * step
    return SizeRule(multiple_of=step, max_side=min(most, MAX_SIDE // step * step))


def _lacks(format: Format) -> dict[tuple[str, str], str]:
    """The media that a format has no spans of, as `Tasks.without_media` takes them."""
    has = {span.modality for span in format.spans.values()}
    names = {"image": "pictures", "audio": "sound", "box": "boxes", "video": "videos"}
    return {
        (kind, use): f"format {format.name} has no {name}; `unified extend` gives a model some"
        for kind, name in names.items()
        for use in ("read", "make")
        if kind not in has
    }


def pocket_forms(size: SizeRule | None = None) -> Tasks:
    """The forms of the pocket world: `![a cat]`, `> (ben) It is a cat.`"""
    source = "the forms of the pocket world"
    return _tasks(
        source,
        size,
        {
            "write": (_text("{text}"), _slot("any")),
            "draw": (_text("![{text}]"), _slot("image")),
            "describe": (_media("image"), _slot("text")),
            "ask": (_media("image"), _text("{question}"), _slot("text")),
            "ground": (_media("image"), _text("Find: {text}"), _slot("any")),
            "speak": (_text("> ({voice}) {text}", "> {text}"), _slot("audio")),
            "listen": (_media("audio"), _slot("text")),
        },
        {
            "draw": (_text("![{text}]"), _slot("video")),
            "describe": (_media("video"), _slot("text")),
            "ask": (_media("video"), _text("{question}"), _slot("text")),
        },
    )


def in_words(size: SizeRule | None = None) -> Tasks:
    """In English, for a model that was trained to follow a chat template."""
    source = "the words of this package for models that are extended"
    articles = "Write an illustrated article with {images} pictures: {text}"
    return _tasks(
        source,
        size,
        {
            "write": (_text(articles, "Write an illustrated article: {text}"), _slot("any")),
            "draw": (_text("Draw a picture: {text}"), _slot("image")),
            "describe": (_media("image"), _text("Describe the picture."), _slot("text")),
            "ask": (_media("image"), _text("{question}"), _slot("text")),
            "ground": (_media("image"), _text("Find in the picture: {text}"), _slot("any")),
            "speak": (_text("Read aloud as {voice}: {text}", "Read aloud: {text}"), _slot("audio")),
            "listen": (_media("audio"), _text("What is said?"), _slot("text")),
        },
        {
            "draw": (_text("Make a video: {text}"), _slot("video")),
            "describe": (_media("video"), _text("Describe the video."), _slot("text")),
            "ask": (_media("video"), _text("{question}"), _slot("text")),
        },
    )


def _going_on(format: Format, size: SizeRule | None) -> Tasks:
    """A format without roles: the answer goes on where the prompt stops.

    Two texts on end are one there, so nothing can be asked about what stands before a text.
    """
    source = f"format {format.name} has no roles: the answer goes on where the prompt stops"
    parts: dict[Verb, tuple[Part, ...]] = {
        "draw": (TextPart("{text}"), SlotPart("image")),
        "speak": (TextPart("{text}"), SlotPart("audio")),
        "write": (TextPart("{text}"), SlotPart("any")),
        "describe": (MediaPart("image"), SlotPart("text")),
        "listen": (MediaPart("audio"), SlotPart("text")),
    }
    videos: dict[Verb, tuple[Part, ...]] = {
        "draw": (TextPart("{text}"), SlotPart("video")),
        "describe": (MediaPart("video"), SlotPart("text")),
    }
    return _tasks(source, size, parts, videos)


def _tasks(
    source: str,
    size: SizeRule | None,
    parts: dict[Verb, tuple[Part, ...]],
    videos: dict[Verb, tuple[Part, ...]],
) -> Tasks:
    """videos: of the forms that are given a video, or make one."""
    entries: dict[Verb, Task | Refusal] = {}
    for verb, of_verb in parts.items():
        pictures = any(getattr(part, "kind", "text") in ("image", "any") for part in of_verb)
        forms: list[Task] = []
        if verb in videos:
            forms.append(Task(verb, videos[verb], source, example=_EXAMPLES[verb]))
        if verb == "ask" and of_verb[:-1] == (_media("image"), _text("{question}")):
            about = (*of_verb[:2], _media("box"), of_verb[-1])
            forms.append(Task(verb, about, source, size=size))
        entries[verb] = Task(
            verb, of_verb, source, size=size if pictures else None, example=_EXAMPLES[verb],
            forms=tuple(forms),
        )  # fmt: skip
    return Tasks(entries)


_EXAMPLES: dict[Verb, str] = {
    "write": "The giant panda",
    "draw": "a giant panda",
    "describe": "",
    "ask": "What is this?",
    "ground": "the fox",
    "speak": "The panda eats bamboo.",
    "listen": "",
}


def _text(words: str, otherwise: str | None = None, role: Role = _PROMPT) -> TextPart:
    return TextPart(words, role, otherwise)


def _media(kind: str) -> MediaPart:
    return MediaPart(kind, _PROMPT)


def _slot(kind: str) -> SlotPart:
    return SlotPart(kind, _RESPONSE)
