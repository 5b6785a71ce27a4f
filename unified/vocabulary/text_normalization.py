"""What kinds of text tokenizers there are, and how each is made to give every text back exactly.

A document's text stands between pictures and sounds and must come back character by character, so
what loses or adds characters is left out of a tokenizer before it is used here:

- the space that SentencePiece's kind puts before every text (Llama 2, Mistral; a normaliser
  `Prepend`, `Metaspace` with a prepend scheme, `add_prefix_space` of byte-level ones): without it
  the first word of a text is the piece without a space, as it is within a longer text;
- normalisers that change characters (NFC, NFKC, lower case, SentencePiece's precompiled maps);
- truncation, padding and random dropout of merges.

Texts that none of them would change have the ids that transformers gives them, but for the space
before the first word. What can then still not be written (a character that a tokenizer without
bytes to fall back to does not know) is refused text by text, in `TextTokenizer.encode`. Kinds that
drop white space altogether (WordPiece) are refused as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

__all__ = ["SPACE", "TextKind", "byte_alphabet", "bytes_of_ids", "lossless"]

SPACE = "\u2581"
"""What stands for a space in the pieces of SentencePiece's kind."""
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# Steps that cut a text without losing anything of it.
_CUTS = {"Digits", "FixedLength", "Punctuation", "Split", "UnicodeScripts"}
_INSTEAD = (
    "take a language model whose text tokenizer is a BPE or Unigram model of bytes, or of pieces"
    " with their spaces"
)


@dataclass(frozen=True)
class TextKind:
    """How a tokenizer writes text.

    byte_level: its tokens spell bytes in GPT-2's alphabet. spaced: its tokens have U+2581 for a
    space. bytes_in: tokens such as <0x0A> are bytes. complete: every text has ids; of others some
    characters have none.
    notes: in which cases ids differ from those that transformers gives, one clause each.
    """

    byte_level: bool
    spaced: bool
    bytes_in: bool
    complete: bool
    unknown: int | None
    notes: tuple[str, ...]


def lossless(tokenizer: Tokenizer) -> tuple[Tokenizer, TextKind]:
    """The tokenizer without what loses or adds characters, and its kind.

    Raises ValueError for a kind that cannot give texts back.
    """
    parts = json.loads(tokenizer.to_str())
    before = json.dumps(parts)
    model, notes = parts["model"], []
    _check_model(model)
    for entry in ("truncation", "padding"):
        parts[entry] = None
    if model.get("dropout"):
        model["dropout"] = None
        notes.append("its merges are never dropped at random")
    normalisers_left, prefix = [], False
    normalisers = list(_steps(parts["normalizer"], "normalizers"))
    for step in normalisers:
        if step["type"] == "ByteLevel" or _is_space(step):
            normalisers_left.append(step)
        elif step["type"] == "Prepend":
            prefix = True
        else:
            notes.append(
                f"texts that its normaliser {step['type']} would change are left as they are"
            )
    if len(normalisers_left) < len(normalisers):
        parts["normalizer"] = (
            {"type": "Sequence", "normalizers": normalisers_left} if normalisers_left else None
        )
    cuts = list(_steps(parts["pre_tokenizer"], "pretokenizers"))
    whole = [step for step in cuts if step["type"] != "WhitespaceSplit"]
    if len(whole) < len(cuts) and any(step["type"] == "Metaspace" for step in whole):
        # T5's kind: words are cut apart twice, and only the second way keeps what is between them.
        cuts = whole
        parts["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": cuts}
        notes.append("white space between words is kept as it is")
    for step in cuts:
        prefix = _without_prefix(step) or prefix
    if prefix:
        notes.append("no space is put before the first word of a text")
    names = {step["type"] for step in (*normalisers_left, *cuts)}
    spaced = "Metaspace" in names or any(_is_space(step) for step in normalisers_left)
    # Some write the alphabet of bytes by their decoder alone.
    decoders = {step["type"] for step in _steps(parts["decoder"], "decoders")}
    byte_level = "ByteLevel" in names | decoders
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    bytes_in = bool(model.get("byte_fallback")) and not byte_level
    if byte_level:
        complete = all(character in vocabulary for _, character in byte_alphabet())
    else:
        complete = bytes_in and all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))
    unknown = model.get("unk_id")
    if unknown is None and model.get("unk_token") is not None:
        unknown = tokenizer.token_to_id(model["unk_token"])
    kind = TextKind(byte_level, spaced, bytes_in, complete, unknown, tuple(dict.fromkeys(notes)))
    if model["type"] == "Unigram":
        _rename_special(parts)
    if json.dumps(parts) == before:
        return tokenizer, kind
    return Tokenizer.from_str(json.dumps(parts)), kind


def _rename_special(parts: dict[str, Any]) -> None:
    """Give special tokens of a Unigram model names that no text holds: it finds its pieces in a
    text by their names, those of special tokens among them."""
    for added in parts["added_tokens"]:
        pieces = parts["model"]["vocab"]
        if added["special"] and added["id"] < len(pieces):
            # A space is U+2581 by then, and the last code point is no character.
            added["content"] = pieces[added["id"]][0] = f"{added['content']} \U0010ffff"


def _check_model(model: dict[str, Any]) -> None:
    if model["type"] not in ("BPE", "Unigram"):
        raise ValueError(
            f"the text tokenizer is a {model['type']} model, which drops the white space of a text,"
            f" so that no text could come back as it was; {_INSTEAD}"
        )
    for entry in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(entry):
            raise ValueError(
                f"the text tokenizer has {entry} {model[entry]!r}, which stands for white space"
                f" that is lost; {_INSTEAD}"
            )


def _steps(entry: dict[str, Any] | None, inner: str) -> Iterator[dict[str, Any]]:
    """The steps of a part of a tokenizer, sequences opened up."""
    if entry is None:
        return
    if entry["type"] == "Sequence":
        for step in entry[inner]:
            yield from _steps(step, inner)
    else:
        yield entry


def _is_space(step: dict[str, Any]) -> bool:
    """Whether a normaliser writes every space as U+2581, and nothing else."""
    return (
        step["type"] == "Replace"
        and step["pattern"] == {"String": " "}
        and step["content"] == SPACE
    )


def _without_prefix(step: dict[str, Any]) -> bool:
    """Take the space that a pre-tokenizer puts before a text out of it; whether there was one.

    Raises ValueError for one that drops characters.
    """
    name = step["type"]
    if name == "ByteLevel":
        prefixed = bool(step.get("add_prefix_space"))
        step["add_prefix_space"] = False
        return prefixed
    if name == "Metaspace":
        if step["replacement"] != SPACE:
            raise ValueError(
                f"the text tokenizer writes spaces as {step['replacement']!r}, expected {SPACE!r}"
            )
        prefixed = step["prepend_scheme"] != "never"
        step["prepend_scheme"] = "never"
        return prefixed
    if name not in _CUTS or step.get("behavior") == "Removed":
        raise ValueError(
            f"the text tokenizer cuts texts with {name}, which drops the white space between words;"
            f" {_INSTEAD}"
        )
    return False


def bytes_of_ids(tokenizer: Tokenizer, kind: TextKind, size: int) -> list[bytes]:
    """The bytes that every id stands for; `size` ids."""
    to_byte = {character: byte for byte, character in byte_alphabet()}
    table = [b""] * size

    def of(token: str) -> bytes:
        if kind.byte_level and all(character in to_byte for character in token):
            return bytes(to_byte[character] for character in token)
        if kind.bytes_in and _BYTE.fullmatch(token):
            return bytes([int(token[3:5], 16)])
        # Some byte-level checkpoints list their special tokens here too, in plain characters.
        return (token.replace(SPACE, " ") if kind.spaced else token).encode()

    for token, id in tokenizer.get_vocab(with_added_tokens=False).items():
        table[id] = of(token)
    for id, added in tokenizer.get_added_tokens_decoder().items():
        # Gemma lists runs of spaces here; a special token keeps the characters of its name.
        plain = added.special or not kind.spaced
        table[id] = added.content.encode() if plain else of(added.content)
    return table


def byte_alphabet() -> Iterator[tuple[int, str]]:
    """(byte, character) as byte-level BPE writes bytes: printable Latin-1 characters stand for
    themselves, the other 68 bytes for the characters from U+0100 on, in order (the GPT-2 table).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    shifted = 0x100
    for byte in range(256):
        if byte in printable:
            yield byte, chr(byte)
        else:
            yield byte, chr(shifted)
            shifted += 1
