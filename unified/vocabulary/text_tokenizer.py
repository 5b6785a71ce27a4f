"""Text tokenizer over Hugging Face `tokenizers`: a text comes back exactly, or is refused.

Byte-level BPE (GPT-2, Llama 3, Qwen), and BPE or Unigram of pieces with their spaces (Llama 2,
Mistral, Gemma, T5); see `text_normalization` for what is left out of them, so that texts come back.
No added special tokens: "<image>" typed by a user is seven characters of text and becomes text ids
only.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from unified.vocabulary.text_normalization import SPACE, byte_alphabet, bytes_of_ids, lossless
from unified_base.atomic import atomic_write
from unified_base.files import read_bytes, read_text
from unified_base.foreign import foreign
from unified_base.structured import MAX_JSON, parse_json
from unified_base.text import quoted

FILE_NAME = "tokenizer.json"
_MOST_BYTES = 256 << 20
_MOST_IDS = 1 << 24
# What transformers keeps beside it: kept as they are, so that it loads the same tokenizer. Python
# files never are.
COMPANIONS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
)
# Of tokenizers without a tokenizer.json; transformers converts them.
_OTHER_FILES = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
)
# A character that pieces have for a space, and the begin of what is a byte in their vocabulary:
# typed by a user they are neither.
_TYPED = re.compile(rf"({SPACE}|<(?=0x[0-9A-F]{{2}}>))")


class TextTokenizer:
    """str <-> ids of the text block. `size` is the true number of ids.

    companions: the files that stand beside tokenizer.json, by name (`COMPANIONS`).
    """

    def __init__(self, tokenizer: Tokenizer, companions: Mapping[str, bytes] | None = None):
        """Raises ValueError for a kind that cannot give texts back, see `text_normalization`."""
        self.companions = dict(companions or {})
        self._stored = tokenizer
        ids = tokenizer.get_vocab(with_added_tokens=True).values()
        if not ids or max(ids) >= _MOST_IDS:
            most = max(ids, default=None)
            raise ValueError(
                f"the text tokenizer's largest id is {most}, expected 0 to {_MOST_IDS - 1:,}"
            )
        self._tokenizer, self._kind = lossless(tokenizer)
        # A foreign tokenizer may hold special tokens; typed by a user they are plain text.
        self._tokenizer.encode_special_tokens = True
        added = tokenizer.get_added_tokens_decoder().values()
        strips = any((token.lstrip or token.rstrip) and not token.special for token in added)
        self._checked = strips or not self._kind.complete

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
        """Read `tokenizer.json` (the file itself, or the folder it is in, with its companions).

        A folder that has other files of a tokenizer instead is read as transformers converts them.

        Raises ValueError for files missing or broken, and for a kind that cannot give texts back.
        """
        file, companions = Path(path), {}
        if file.is_dir():
            folder, file = file, file / FILE_NAME
            if not os.path.lexists(file) and any(
                os.path.lexists(folder / name) for name in _OTHER_FILES
            ):
                return _converted(folder)
            companions = _companions(folder)
            if not os.path.lexists(file) and _is_dia(companions):
                return cls(_dia_bytes(), companions)
        text = read_text(file, "text tokenizer", _MOST_BYTES)
        with foreign(f"{file} is not a text tokenizer"):
            tokenizer = Tokenizer.from_str(text)
        try:
            return cls(tokenizer, companions)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `tokenizer.json` and its companions into the folder `path`, or the JSON alone to
        `path` if that ends in .json.

        The tokenizer is written as it was read, so that transformers has the one that it had. Each
        file is written beside and renamed: a reader never sees half a file.
        """
        file = Path(path)
        if file.suffix != ".json":
            file.mkdir(parents=True, exist_ok=True)
            for name, data in self.companions.items():
                atomic_write(file / name, data)
            file = file / FILE_NAME
        atomic_write(file, self._json.encode())

    def to_text(self) -> str:
        """What `tokenizer.json` holds, to hand the tokenizer to another process."""
        return self._json

    @classmethod
    def from_text(cls, text: str) -> TextTokenizer:
        """The inverse of `to_text`; companions, which change no ids, are left behind."""
        return cls(Tokenizer.from_str(text))

    @cached_property
    def size(self) -> int:
        return 1 + max(self.tokens.values())

    @cached_property
    def tokens(self) -> dict[str, int]:
        """The id of every token by its name, special ones included."""
        return self._stored.get_vocab(with_added_tokens=True)

    @cached_property
    def special_ids(self) -> tuple[int, ...]:
        """The ids of special tokens, which no text becomes, and of unknown characters."""
        added = self._stored.get_added_tokens_decoder()
        unwritten = {id for id, token in added.items() if token.special}
        if self._kind.unknown is not None:
            unwritten.add(self._kind.unknown)
        return tuple(sorted(unwritten))

    @property
    def notes(self) -> tuple[str, ...]:
        """In which cases ids differ from those that transformers gives; what is refused."""
        partly = () if self._kind.complete else ("characters that it does not know are refused",)
        return (*self._kind.notes, *partly)

    @cached_property
    def _json(self) -> str:
        return self._stored.to_str(pretty=True)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the tokenizer's JSON."""
        return hashlib.sha256(self._json.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Text ids of a string.

        Raises ValueError for a lone surrogate (not Unicode text), and for a character that a
        tokenizer without bytes to fall back to does not know.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"character {error.start} of the text is the lone surrogate "
                f"{text[error.start]!r}, which is not Unicode text; remove it"
            ) from None
        parts = [text]
        if not self._kind.byte_level and (SPACE in text or "<0x" in text):
            parts = [part for part in _TYPED.split(text) if part]
        ids: list[int] = []
        for part in parts:
            if part == SPACE and self._kind.spaced and self._kind.complete:
                ids += [self.tokens[f"<0x{byte:02X}>"] for byte in part.encode()]
            else:
                ids += self._tokenizer.encode(part, add_special_tokens=False).ids
        if self._checked:
            self._check(text, ids)
        return ids

    def _check(self, text: str, ids: list[int]) -> None:
        """Raises ValueError unless the ids stand for the text."""
        # What is unknown is no text, whatever its name.
        known = (b"\xff" if id == self._kind.unknown else self.to_bytes([id]) for id in ids)
        wanted, encoded = text.encode(), b"".join(known)
        if encoded != wanted:
            pairs = enumerate(zip(wanted, encoded))
            same = next((at for at, (a, b) in pairs if a != b), min(len(wanted), len(encoded)))
            at = len(wanted[:same].decode(errors="ignore"))
            raise ValueError(
                f"character {at} of the text is {text[at : at + 1]!r}, for which the text tokenizer"
                " has no ids: it has no bytes to fall back to; remove the character, or take a"
                " language model whose tokenizer has them"
            )

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; exact for what `encode` gave.

        Ids in an order no text encodes to (an untrained model's) may be no valid UTF-8: each bad
        sequence of bytes then becomes U+FFFD. An id outside the tokenizer is a ValueError.
        """
        return self.to_bytes(ids).decode("utf-8", errors="replace")

    def stream(self) -> PieceDecoder:
        """A decoder for ids that arrive in pieces."""
        return PieceDecoder(self)

    def to_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids, which may end inside a character."""
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
        return bytes_of_ids(self._stored, self._kind, self.size)


def _companions(folder: Path) -> dict[str, bytes]:
    """The files beside a tokenizer; what they say of Python code to be run is left out."""
    files = {
        name: read_bytes(folder / name, "file", MAX_JSON)
        for name in COMPANIONS
        if os.path.lexists(folder / name)
    }
    for name, data in files.items():
        if not name.endswith(".json"):
            continue
        entries = parse_json(data, str(folder / name))
        if not isinstance(entries, dict):
            raise ValueError(f"{folder / name} is {quoted(entries)}, expected an object")
        if "auto_map" in entries:
            entries.pop("auto_map")
            files[name] = (json.dumps(entries, indent=2) + "\n").encode()
    return files


def _is_dia(companions: Mapping[str, bytes]) -> bool:
    """Whether files are those of transformers' DiaTokenizer, which has no tokenizer.json."""
    return b'"DiaTokenizer"' in companions.get("tokenizer_config.json", b"")


def _dia_bytes() -> Tokenizer:
    """Dia's: every byte an id, but for three that stand for padding, [S1] and [S2]."""
    vocabulary = {character: byte for byte, character in byte_alphabet() if byte > 2}
    vocabulary |= {"<pad>": 0, "[S1]": 1, "[S2]": 2}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<pad>", special=True)])
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in ("[S1]", "[S2]")])
    return tokenizer


def _converted(folder: Path) -> TextTokenizer:
    """The tokenizer of a folder without tokenizer.json, as transformers converts its files."""
    from transformers import AutoTokenizer  # costs seconds, and few folders need it

    for path in folder.iterdir():
        if path.suffix == ".json":  # transformers reads several of them
            parse_json(read_bytes(path, "file", _MOST_BYTES), str(path), _MOST_BYTES, True)
    with foreign(
        f"{folder} has no {FILE_NAME}, and its other files of a text tokenizer cannot be converted;"
        f" convert them with transformers where it can, and save {FILE_NAME} beside them"
    ):
        # Its files alone: no code of the checkpoint's is run.
        converted = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        backend = converted.backend_tokenizer
    try:
        return TextTokenizer(backend, _companions(folder))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None


class PieceDecoder:
    """Decodes a stream of text ids without ever emitting half a UTF-8 character."""

    def __init__(self, tokenizer: TextTokenizer):
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: Iterable[int]) -> str:
        """The characters completed by these ids; "" while a character is incomplete."""
        return self._utf8.decode(self._tokenizer.to_bytes(ids))

    def flush(self) -> str:
        """End the text: U+FFFD if it stopped inside a character, else ""; then start anew."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return rest
