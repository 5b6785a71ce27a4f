"""BPE text tokenizer over Hugging Face `tokenizers`: any Unicode text round-trips.

Byte-level (GPT-2, Llama 3, Qwen), or of pieces with bytes to fall back to (Gemma). No normaliser
beyond that of spaces, no prefix space and no added special tokens: "<image>" typed by a user is
seven characters of text and becomes text ids only.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

FILE_NAME = "tokenizer.json"


class TextTokenizer:
    """str <-> ids of the text block. `size` is the true number of ids."""

    def __init__(self, tokenizer: Tokenizer):
        self._byte_level = _kind_of(tokenizer) == "bytes"
        # A foreign tokenizer may hold special tokens; typed by a user they are plain text.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    @classmethod
    def train(cls, texts: Iterable[str], size: int) -> TextTokenizer:
        """Learn merges from `texts` until there are `size` ids (fewer if the texts hold fewer).

        size >= 256: the 256 bytes are always ids, so no text is unknown.
        """
        if size < 256:
            raise ValueError(f"a byte-level tokenizer needs at least 256 ids, found size {size}")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            special_tokens=[],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TextTokenizer:
        """Read `tokenizer.json` (the file itself, or the folder it is in)."""
        file = Path(path)
        if file.is_dir():
            file = file / FILE_NAME
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"cannot read text tokenizer {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{file} is not a text tokenizer: it is not UTF-8 text") from None
        try:
            tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the Rust side raises bare Exception
            raise ValueError(f"{file} is not a text tokenizer: {error}") from None
        return cls(tokenizer)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json` into the folder `path`, or to `path` itself if it ends in .json.

        Written beside and renamed: a reader never sees half a file.
        """
        file = Path(path)
        if file.suffix != ".json":
            file.mkdir(parents=True, exist_ok=True)
            file = file / FILE_NAME
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        try:
            part.write_text(self._json, encoding="utf-8")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    @cached_property
    def size(self) -> int:
        return 1 + max(self.tokens.values())

    @cached_property
    def tokens(self) -> dict[str, int]:
        """The id of every token by its name, special ones included."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """The ids of special tokens, which no text becomes."""
        added = self._tokenizer.get_added_tokens_decoder()
        return tuple(sorted(id for id, token in added.items() if token.special))

    @cached_property
    def _json(self) -> str:
        return self._tokenizer.to_str(pretty=True)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the tokenizer's JSON."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Text ids of any string; a lone surrogate (not Unicode text) is a ValueError."""
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"character {error.start} of the text is the lone surrogate "
                f"{text[error.start]!r}, which is not Unicode text; remove it"
            ) from None
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; exact for what `encode` gave.

        Ids in an order no text encodes to (an untrained model's) may be no valid UTF-8: each bad
        sequence of bytes then becomes U+FFFD. An id outside the tokenizer is a ValueError.
        """
        return self._join(ids).decode("utf-8", errors="replace")

    def stream(self) -> PieceDecoder:
        """A decoder for ids that arrive in pieces."""
        return PieceDecoder(self)

    def _join(self, ids: Iterable[int]) -> bytes:
        table = self._bytes
        pieces = []
        for id in ids:
            if not 0 <= id < len(table):
                raise ValueError(
                    f"id {id} is outside the text tokenizer, which has ids 0..{len(table) - 1}"
                )
            pieces.append(table[id])
        return b"".join(pieces)

    @cached_property
    def _bytes(self) -> Sequence[bytes]:
        """The bytes of every id."""
        to_byte = {character: byte for byte, character in _byte_alphabet()}
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=False)
        table = [b""] * self.size
        for token, id in vocabulary.items():
            if self._byte_level:
                # Some checkpoints list their special tokens here too, in plain characters.
                plain = any(character not in to_byte for character in token)
                table[id] = (
                    token.encode() if plain else bytes(to_byte[character] for character in token)
                )
            elif _BYTE.fullmatch(token):
                table[id] = bytes([int(token[3:5], 16)])
            else:
                table[id] = token.replace(_SPACE, " ").encode()
        for id, added in self._tokenizer.get_added_tokens_decoder().items():
            table[id] = added.content.encode("utf-8")
        return table


_SPACE = "\u2581"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def _kind_of(tokenizer: Tokenizer) -> str:
    """ "bytes", or "pieces" that fall back to bytes; ValueError for what loses some of a text."""
    parts = json.loads(tokenizer.to_str())
    decoder = parts["decoder"] or {}
    steps = decoder.get("decoders", [decoder])
    names = [step.get("type") for step in steps]
    if names == ["ByteLevel"]:
        return "bytes"
    # A piece of a space in front of every text, and one taken away, is what Llama 2 does.
    normal = json.dumps(parts["normalizer"])
    if set(names) == {"Replace", "ByteFallback", "Fuse"} and "Prepend" not in normal:
        return "pieces"
    raise ValueError(
        f"expected a BPE text tokenizer of bytes, or of pieces with bytes to fall back to, found"
        f" decoder {' '.join(map(str, names))}; other kinds cannot give every text back exactly"
    )


class PieceDecoder:
    """Decodes a stream of text ids without ever emitting half a UTF-8 character."""

    def __init__(self, tokenizer: TextTokenizer):
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: Iterable[int]) -> str:
        """The characters completed by these ids; "" while a character is incomplete."""
        return self._utf8.decode(self._tokenizer._join(ids))

    def flush(self) -> str:
        """End the text: U+FFFD if it stopped inside a character, else ""; then start anew."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest


def _byte_alphabet() -> Iterator[tuple[int, str]]:
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
