"""A format from a chat template, so that documents are laid out as the template lays out chats.

The template of a language model is rendered (`chat_template`) with contents that can be found
again. What stands around them becomes the format: roles prompt and response are its user and
assistant, special tokens are markers on the tokenizer's own ids, all else literal text with the ids
that it has there. Pictures and sounds are spans as in the pocket format, boxes and points as in
`grounded`, inside whoever's turn it is. `chat-tools` has the roles of the format `tools` beside the
two, each between markers of its own: calls of tools, and gaps.

A layout that such a format cannot say is refused with the reason: a template that lays an earlier
turn out in another way than a later one, that changes what was said, that ends a turn with text
(which a user could write, too), or whose text before a message is one token with the message's
first word. The layout is then compared with `apply_chat_template(..., tokenize=True)` on other
conversations, id by id. Two things are held to be the template's own business and noted instead of
refused:

- white space at the ends of a message. Many templates trim it, and tokenizers join line breaks
  before and in a message into one token. Here a text keeps its white space and its own ids; without
  white space at its ends they are the template's.
- what an engine adds to make the model answer, where that is not what stands before answers in a
  conversation (a begun block of thoughts).

And one thing is meant: a special token's name that a user types is text here, a special token
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

import yaml

from unified.formats.chat_template import ChatTemplate, refused
from unified.formats.load import load_format
from unified.formats.parser import parse_format, write_format
from unified.formats.spec import Format
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.text import quoted as quote

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["ChatFormat", "chat_format"]

NAME = "chat"
WITH_TOOLS = "chat-tools"
_FOUND_AGAIN = ("zebra", "yacht", "walnut", "violin")  # one word each, in no template
_OWN_MARKERS = ("<pad>", "<text>", "<image>", "</image>", "<audio>", "</audio>")
_MORE_ROLES = ("call", "result", "prefix", "suffix", "middle")
_OF_PLACES = ("<box>", "</box>", "<point>", "</point>")
_PROBES = (
    ("Hello",),
    ("Hello", "Hi, how are you?"),
    ("user", "assistant", "What is {{ 3 * 4 }}?", "It is 12."),
    ("Sing!\n\nTwo lines,\nplease.", "La la,\n  la la.", "Again: \u00e9\u4e16\u754c \U0001f43c",
     "def f(x):\n    return x", "1, 2, 3", "<b>4</b>"),
    ("Think first.", "<think>\nall right\n</think>\n\nDone.", "And?", "<think>so</think>No.",
     "Why?", "Because."),
)  # fmt: skip
_SPACED = ((" Hello", "Hi "), ("Hello\n", "\nHi"), ("\n\nHello", "Hi\n\n", " a ", "\tb"))
_MOST_JOINING = 500


@dataclass(frozen=True)
class ChatFormat:
    """A format made from a chat template.

    tokens: markers of the format that lie on ids of the text tokenizer. literals: the texts that
    the format writes, with their ids. notes: what differs from the template in the cases that are
    its own business.
    """

    format: Format
    tokens: dict[str, int]
    literals: tuple[tuple[str, tuple[int, ...]], ...]
    notes: tuple[str, ...]


def chat_format(
    text_tokenizer: TextTokenizer,
    config: PreTrainedConfig | None = None,
    places: bool = False,
    tools: bool = False,
) -> ChatFormat:
    """The format of the chat template beside a text tokenizer (see `TextTokenizer.companions`).

    config: the language model's, by which transformers picks the tokenizer's class. places: with
    spans of boxes and points. tools: with roles of calls and of gaps.

    Raises ValueError where there is no template, or none that a format can say.
    """
    template = ChatTemplate(text_tokenizer, config)
    layout = _read_layout(template)
    notes = _verify(template, layout)
    return _write(text_tokenizer, layout, notes, places, tools)


@dataclass(frozen=True)
class _Layout:
    """Ids before the first message, from a user's message to the answer, from there to the next
    message, and after the last answer; `of` puts a conversation together."""

    begin: tuple[int, ...]
    to_answer: tuple[int, ...]
    to_user: tuple[int, ...]
    end: tuple[int, ...]

    def of(self, text: TextTokenizer, contents: tuple[str, ...]) -> tuple[int, ...]:
        ids = list(self.begin)
        for at, content in enumerate(contents):
            if at:
                ids += self.to_answer if at % 2 else self.to_user
            ids += text.encode(content)
        # After the user's message, what ends it and what ends a document.
        last = self.end if len(contents) % 2 == 0 else (self.to_answer[0], *self.end[1:])
        return (*ids, *last)


def _read_layout(template: ChatTemplate) -> _Layout:
    """The layout of two turns, held against that of one."""
    begin, first, between, second, end = _around(template, _FOUND_AGAIN)
    one_begin, one_first, one_end = _around(template, _FOUND_AGAIN[:2])
    for what, actual, again in (
        ("an earlier answer than the last one", first, second),
        ("what ends the first answer, when it is the last one,", end, one_end),
        ("the begin of a longer conversation", begin, one_begin),
        ("the answer of a longer conversation", first, one_first),
    ):
        if actual != again:
            raise refused(
                f"it lays out {what} in another way: {template.show(actual)} and"
                f" {template.show(again)}"
            )
    special = set(template.text.special_ids)
    ends = {"a user's message": first, "an answer": between, "the last answer": end}
    for what, ids in ends.items():
        if not ids or ids[0] not in special:
            raise refused(
                f"{what} ends with {template.show(ids) if ids else 'nothing'}, expected a special"
                " token first: no id would tell where the text ends"
            )
    if between[0] != end[0]:
        raise refused(
            f"an answer ends with {template.show(between[:1])}, the last one with"
            f" {template.show(end[:1])}"
        )
    return _Layout(begin, first, between, end)


def _around(template: ChatTemplate, contents: tuple[str, ...]) -> list[tuple[int, ...]]:
    """The ids around the messages of a conversation: before, between and after them."""
    ids = template.ids(contents)
    pieces = [template.text.to_bytes([id]) for id in ids]
    whole = b"".join(pieces)
    starts = {byte: at for at, byte in enumerate(accumulate(map(len, pieces), initial=0))}
    surroundings, stop = [], 0
    for content in contents:
        if whole.count(content.encode()) != 1:
            raise refused(f"the message {quote(content)} does not come back once, as it was said")
        at = whole.index(content.encode())
        if at not in starts or at + len(content) not in starts:
            raise refused(
                f"the message {quote(content)} shares a token with what is written before or after"
                f" it, in {template.show(ids)}"
            )
        surroundings.append(ids[stop : starts[at]])
        stop = starts[at + len(content)]
    return [*surroundings, ids[stop:]]


def _verify(template: ChatTemplate, layout: _Layout) -> tuple[str, ...]:
    """Hold a layout against other conversations; what is noted.

    Raises ValueError where the template lays one of them out in another way.
    """
    text = template.text
    notes = []

    def same(contents: tuple[str, ...]) -> tuple[int, ...] | None:
        """None where ids are the template's, or the tokenizer has none for the contents."""
        try:
            ours = layout.of(text, contents)
        except ValueError:  # a character that it does not know
            return None
        theirs = template.ids(contents)
        return None if ours == theirs else theirs

    joining = ((asked,) * 3 for asked in _joining(text, layout))
    for contents in (_FOUND_AGAIN, *_PROBES, *joining):
        theirs = same(contents)
        if theirs is None:
            continue
        rendered, ours = template.show(theirs), template.show(layout.of(text, contents))
        if rendered == ours:
            raise refused(f"a message shares a token with what is written before it, in {rendered}")
        raise refused(
            f"it lays out the messages {quote(list(contents), 200)} as {rendered}, which is not"
            f" what it does with others: {ours}"
        )
    if any(same(contents) is not None for contents in _SPACED):
        notes.append(
            "white space at the ends of a message is kept, and has ids of its own, where the chat"
            " template trims it or its tokens join it"
        )
    if same(_FOUND_AGAIN[:1]) is not None:
        notes.append("the chat template ends a conversation without an answer in another way")
    asked = _FOUND_AGAIN[:1]
    if template.ids(asked, answer=True) != (
        *layout.begin,
        *text.encode(asked[0]),
        *layout.to_answer,
    ):
        notes.append(
            "the chat template begins an answer that is to be generated in another way than the"
            " answers of a conversation"
        )
    if "strftime_now" in template.source:
        notes.append("the chat template may write the date of the day: the format keeps today's")
    return tuple(notes)


def _joining(text: TextTokenizer, layout: _Layout) -> list[str]:
    """What a message may begin with so that the tokenizer has a token for it together with the last
    character before the message: there, if anywhere, the two are joined."""
    special = set(text.special_ids)
    leads = (layout.begin, layout.to_answer, layout.to_user)
    last = {text.to_bytes(lead)[-1:] for lead in leads if lead and lead[-1] not in special}
    beginnings: dict[str, None] = {}
    for id in range(text.size) if last else ():
        piece = text.to_bytes([id])
        if len(piece) > 1 and piece[:1] in last and id not in special:
            rest = piece[1:].decode(errors="ignore")
            if rest and rest == rest.strip():
                beginnings[rest] = None
    return list(beginnings)[:_MOST_JOINING]


def _write(
    text: TextTokenizer, layout: _Layout, notes: tuple[str, ...], places: bool, tools: bool
) -> ChatFormat:
    """The format of a layout."""
    special = set(text.special_ids)
    names = {id: name for name, id in text.tokens.items() if id in special}
    tokens: dict[str, int] = {}
    literals: dict[str, tuple[int, ...]] = {}

    def affix(ids: tuple[int, ...]) -> list[str | dict[str, str]] | None:
        items: list[str | dict[str, str]] = []
        for is_special, run in groupby(ids, special.__contains__):
            run_ids = tuple(run)
            if is_special:
                items += [names[id] for id in run_ids]
                tokens.update((names[id], id) for id in run_ids)
                continue
            written = text.decode(run_ids)
            if literals.setdefault(written, run_ids) != run_ids or "\ufffd" in written:
                raise refused(f"its text {written!r} has other ids in another place")
            items.append({"literal": written})
        return items or None

    document = {"begin": affix(layout.begin), "end": affix(layout.end[1:]), "start": "prompt"}
    roles: dict[str, Any] = {
        "prompt": {"begin": affix(layout.to_user[1:]), "end": affix(layout.to_answer[:1])},
        "response": {"begin": affix(layout.to_answer[1:]), "end": affix(layout.to_user[:1])},
    }
    more = {name: {"begin": [f"<{name}>"], "end": [f"</{name}>"]} for name in _MORE_ROLES}
    roles |= more if tools else {}
    of_roles = [marker for role in more.values() for marker in (*role["begin"], *role["end"])]
    own = (*_OWN_MARKERS, *(_OF_PLACES if places else ()), *(of_roles if tools else ()))
    if reserved := sorted(set(tokens) & set(own)):
        raise refused(f"it writes {reserved[0]}, which is a marker of our own")
    top = {
        "name": NAME,
        "markers": [*tokens, *own],
        "padding": "<pad>",
        "document": document,
        "roles": roles,
        "text": {"separator": "<text>"},
        "spans": yaml.safe_load(load_format("grounded" if places else "pocket").source)["spans"],
    }
    source = (
        f"# Made from a chat template; see unified/formats/chat_format.py.\n{write_format(top)}"
    )
    return ChatFormat(parse_format(source), tokens, tuple(literals.items()), notes)
