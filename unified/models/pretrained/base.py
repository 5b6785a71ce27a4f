"""What is said of a published model: how it is recognised, its ids, format, codec and settings.

Nothing here is specific to one model; every file beside this one holds one `Pretrained`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.request import Sampling
from unified.formats.load import load_format
from unified.formats.spec import Format
from unified.models.hf_checkpoint import read_config
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import Refusal, Task, Verb
from unified.tasks.task_table import Tasks
from unified.vocabulary.block import Block
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.text import quoted

if TYPE_CHECKING:
    from unified.models.grafting.embedder import EmbedderParts
    from unified_tokenizers.base import MediaTokenizer

__all__ = [
    "BEHIND",
    "InsideEmbeds",
    "Pretrained",
    "PretrainedCheckpoint",
    "PretrainedLayout",
    "Row",
    "counted",
    "level_codes",
    "level_markers",
    "named",
    "reading_rule",
    "refused",
]


@dataclass(frozen=True)
class PretrainedCheckpoint:
    """A checkpoint's folder, its config.json and its text tokenizer; the weights stay unread."""

    folder: Path
    config: Mapping[str, Any]
    text: TextTokenizer

    @classmethod
    def read(cls, folder: Path) -> PretrainedCheckpoint:
        """Raises ValueError for files that are missing or damaged."""
        return cls(folder, read_config(folder), TextTokenizer.load(folder))

    @property
    def model_type(self) -> Any:
        return self.config.get("model_type")

    @cached_property
    def language(self) -> dict[str, Any]:
        """The fields of config.json, those of its text_config before others."""
        return {**self.config, **(self.config.get("text_config") or {})}

    @cached_property
    def tokens(self) -> dict[str, int]:
        """The id of every token by its name, those that config.json alone names included."""
        return {**(self.config.get("vocabulary_map") or {}), **self.text.tokens}

    @property
    def has_chat_template(self) -> bool:
        companions = self.text.companions
        return any(name.startswith("chat_template") for name in companions) or (
            b'"chat_template"' in companions.get("tokenizer_config.json", b"")
        )

    def number(self, name: str) -> int:
        """A field of config.json that is an id or a count. Raises ValueError for none."""
        value = self.language.get(name)
        value = value[0] if isinstance(value, list) and value else value
        if type(value) is not int:
            raise ValueError(
                f"config.json in {self.folder} has no {name} (it is {quoted(value)}), expected a"
                " whole number; take config.json from the same place as the weights"
            )
        return value

    def id_of(self, token: MarkerId, purpose: str) -> int:
        """The id of a token, "@field" being one that config.json gives.

        Raises ValueError, naming what it is for, where the checkpoint has none.
        """
        if callable(token):
            return token(self)
        if token.startswith("@"):
            value = self.language.get(token[1:])
            value = value[0] if isinstance(value, list) and value else value
        else:
            value = self.tokens.get(token)
        if type(value) is not int:
            raise ValueError(
                f"the {quoted(self.model_type)} checkpoint in {self.folder} has no"
                f" {token.lstrip('@')} for {purpose}; take its tokenizer.json and config.json from"
                " the same place as its weights"
            )
        return value

    def part_number(self, part: str, name: str) -> int:
        """A number of a part of config.json, such as that of its decoder.

        Raises ValueError where there is none.
        """
        value = (self.config.get(part) or {}).get(name)
        if type(value) is not int:
            raise ValueError(
                f"config.json in {self.folder} has no {part}.{name}, expected a whole number;"
                " take config.json from the same place as the weights"
            )
        return value


Ids = Callable[[PretrainedCheckpoint, int], Sequence[int]]
"""From a checkpoint and the size of a codebook to the ids of its codes, in order."""
MarkerId = str | Callable[[PretrainedCheckpoint], int]
"""A token, "@field" of config.json, or what works an id out of a checkpoint."""


def named(token: Callable[[int], str]) -> Ids:
    """Codes that have a token each: `token(code)` is its name."""
    return lambda checkpoint, size: [
        checkpoint.id_of(token(code), f"code {code}") for code in range(size)
    ]


def counted(offset: str) -> Ids:
    """Codes that count up from the id in a field of config.json."""
    return lambda checkpoint, size: range(
        checkpoint.number(offset), checkpoint.number(offset) + size
    )


Row = Callable[[PretrainedCheckpoint, int, int], int]
"""From a checkpoint, a level and a row of that level's table to an id."""


def level_codes(row: Row, levels: int) -> dict[str, Ids | None]:
    """Codes of sound whose levels have tables of their own, each code the row of its number."""

    def codes(level: int) -> Ids:
        return lambda checkpoint, size: range(
            row(checkpoint, level, 0), row(checkpoint, level, 0) + size
        )

    return {f"audio.{level}": codes(level) for level in range(levels)}


def level_markers(
    row: Row, levels: int, names: Mapping[str, Callable[[PretrainedCheckpoint], int]]
) -> dict[str, MarkerId]:
    """Markers `<NAME.LEVEL>`, each a row of its level's table. names: the row of each name."""

    def marker(level: int, of: Callable[[PretrainedCheckpoint], int]) -> MarkerId:
        return lambda checkpoint: row(checkpoint, level, of(checkpoint))

    return {
        f"<{name}.{level}>": marker(level, of)
        for name, of in names.items()
        for level in range(levels)
    }


def refused(reason: str, *verbs: Verb) -> dict[Verb, Task | Refusal]:
    """Refusals of some verbs for one reason."""
    return {verb: Refusal(verb, reason) for verb in verbs}


def reading_rule(checkpoint: PretrainedCheckpoint, stride: int) -> SizeRule:
    """The sizes of pictures that are read: of any, but a picture takes half the positions at most.

    stride: pixels a code. The bound is far above what published processors make of a picture.
    """
    codes = max(1, checkpoint.number("max_position_embeddings") // 2)
    return SizeRule(multiple_of=stride, max_area=codes * stride**2)


def _vocab_size(checkpoint: PretrainedCheckpoint) -> int:
    return checkpoint.number("vocab_size")


BEHIND: Ids | None = None
"""Codes whose ids stand behind all others of the vocabulary, one block after another."""


@dataclass(frozen=True)
class PretrainedLayout:
    """A format, with the tokens that its markers are and the ids of the texts that it writes.

    markers: token by marker ("@field": an id of config.json); those left out are the model's.
    literals: ids by text, for those that the text tokenizer would not give by itself.
    """

    format: Format
    markers: Mapping[str, MarkerId] = field(default_factory=dict)
    literals: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class InsideEmbeds:
    """What a checkpoint reads as vectors. modality: of the media. parts: its encoder and connector,
    of transformers' object and the checkpoint's folder; or vectors: those of a picture, of
    transformers' object, its processor and pixels uint8 (H, W, 3), which is not trained."""

    modality: str
    parts: Callable[[Any, Path], EmbedderParts] | None = None
    vectors: Callable[[Any, Any, Any], Any] | None = None


@dataclass(frozen=True)
class Pretrained:
    """One published model, or a family of them.

    name: what its format is named, too. source: where its authors say what stands here.
    checkpoints: names on the Hugging Face hub. model_type, needs: the model_type of config.json
    and the tokens by which it is known. hf_class: of transformers, that its weights belong to.
    decoder: how it is computed: "causal", a language model and nothing more; "llama", a Llama
    inside a larger checkpoint; "janus", such a Llama with an embedding and a head for codes;
    "csm" and "moshi", a Llama with another over the codes of a position; "transformers", by its own
    class; "higgs", a Llama that reads codes by layers of its own; "qwen-talker", which reads texts
    beside codes; and those of
    `unified.models.published_decoders.ENCODER_DECODERS`, with a text encoder.
    markers: the tokens of the format's markers, "@field" being ids that config.json gives.
    codes: for each block of codes where its ids are. sizes: codes of a block where there is no
    codec to ask. inside: of each modality whose codec the checkpoint holds, the name of that part
    in the model of transformers. codecs: where the codec of a modality is to be had otherwise.
    rows_behind: whether config.json's vocab_size counts the codes that stand behind the tokens.
    num_rows: ids of text, of codes and of what stands beside them in their tables, where codes have
    tables of their own; None: vocab_size of config.json.
    codes_output: what writes the codes of positions that hold several: "heads", or "model": modules
    of the checkpoint itself.
    special_text: whether special tokens are written as text is, such as Moshi's for silence.
    layout: the format of a checkpoint. sampling: what its authors sample with.
    tasks: how a checkpoint is asked; its second argument is the stride of the image tokenizer, in
    pixels a code, None without one. cannot_make: by modality why a checkpoint with this
    config.json cannot make such media, and what to do.
    voices: how many voices stand side by side, each with the codebooks of the sound's codec.
    prepare: what an object of transformers is told of its checkpoint's folder when it is made.
    frozen: further parts of the model of transformers that training leaves as they are, by name.
    cannot_train: why it is not trained here; None where it is.
    embeds: by kind of span what is read as vectors, whose block has one id.
    """

    name: str
    source: str
    checkpoints: tuple[str, ...]
    model_type: str
    markers: Mapping[str, MarkerId]
    codes: Mapping[str, Ids | None]
    sampling: Sampling
    needs: tuple[str, ...] = ()
    hf_class: str | None = None
    decoder: str = "causal"
    sizes: Callable[[PretrainedCheckpoint], Mapping[str, int]] = lambda checkpoint: {}
    inside: Mapping[str, str] = field(default_factory=dict)
    codecs: Mapping[str, str] = field(default_factory=dict)
    rows_behind: bool = False
    num_rows: Callable[[PretrainedCheckpoint], int] | None = None
    codes_output: str = "heads"
    special_text: bool = False
    layout: Callable[[PretrainedCheckpoint], PretrainedLayout] | None = None
    voices: int = 1
    prepare: Callable[[Any, Path], None] | None = None
    frozen: tuple[str, ...] = ()
    cannot_train: str | None = None
    embeds: Mapping[str, InsideEmbeds] = field(default_factory=dict)
    tasks: Callable[[PretrainedCheckpoint, int | None], Tasks] = lambda checkpoint, stride: Tasks(
        {}
    )
    cannot_make: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda config: {}

    def matches(self, checkpoint: PretrainedCheckpoint) -> bool:
        """Whether a checkpoint is of this model."""
        return checkpoint.model_type == self.model_type and all(
            token in checkpoint.tokens for token in self.needs
        )

    @property
    def compiles(self) -> bool:
        """Whether the CPU backend can compute it."""
        return self.decoder in (
            "causal",
            "llama",
            "janus",
            "csm",
            "moshi",
            "higgs",
            "musicgen",
            "dia",
        )

    def layout_of(self, checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
        """The format of a checkpoint."""
        return self.layout(checkpoint) if self.layout else PretrainedLayout(load_format(self.name))

    def vocabulary(
        self,
        checkpoint: PretrainedCheckpoint,
        layout: PretrainedLayout,
        media: Mapping[str, MediaTokenizer | None],
    ) -> Vocabulary:
        """The blocks of a checkpoint's ids. media: its tokenizers by modality, None where missing.

        Raises ValueError where the checkpoint lacks tokens or entries of its kind, and for a codec
        with other codebooks than the model was trained on.
        """
        sizes = self._codebooks(checkpoint, media)
        rows = (self.num_rows or _vocab_size)(checkpoint)
        behind = [block for block, ids in self.codes.items() if ids is BEHIND]
        if self.rows_behind:
            rows -= sum(sizes[block] for block in behind)
        if not checkpoint.text.size <= rows:
            raise ValueError(
                f"the text tokenizer in {checkpoint.folder} has {checkpoint.text.size} ids, but"
                f" config.json leaves {rows} rows for them; take both from the same place"
            )
        markers = {**self.markers, **layout.markers}
        symbols = layout.format.markers
        blocks = [
            Block("text", 0, rows, fingerprint=checkpoint.text.fingerprint),
            Block.at(
                "markers",
                [checkpoint.id_of(markers[symbol], symbol) for symbol in symbols],
                symbols=symbols,
            ),
        ]
        stop = rows
        for block, ids in self.codes.items():
            level = int(block.rpartition(".")[2])
            if ids is BEHIND:
                blocks.append(Block(block, stop, sizes[block], level))
                stop += sizes[block]
            else:
                assert ids is not None
                blocks.append(Block.at(block, ids(checkpoint, sizes[block]), level=level))
        held = {block.id(code) for block in blocks[1:] for code in range(block.size)}
        reserved = sorted(set(checkpoint.text.special_ids) - held)
        if reserved and not self.special_text:
            blocks.append(Block.at("reserved", reserved))
        literals = {
            text: tuple(layout.literals.get(text) or checkpoint.text.encode(text))
            for text in layout.format.literals
        }
        return Vocabulary(tuple(blocks), checkpoint.text.size, rows, tuple(literals.items()))

    def _codebooks(
        self, checkpoint: PretrainedCheckpoint, media: Mapping[str, MediaTokenizer | None]
    ) -> dict[str, int]:
        """The number of codes of every block."""
        declared = dict(self.sizes(checkpoint))
        for modality in {block.split(".")[0] for block in self.codes}:
            blocks = [block for block in self.codes if block.split(".")[0] == modality]
            tokenizer = media.get(modality)
            if tokenizer is None:
                continue
            codebooks = tuple(int(size) for size in tokenizer.codebook_sizes)
            codebooks *= self.voices if modality == "audio" else 1
            expected = tuple(declared.get(block, size) for block, size in zip(blocks, codebooks))
            if len(codebooks) != len(blocks) or codebooks != expected:
                raise ValueError(
                    f"the {modality} tokenizer has codebooks of {codebooks} codes, but {self.name}"
                    f" was trained on {tuple(declared.get(block, '?') for block in blocks)};"
                    f" give {self.codecs.get(modality, 'the one of its checkpoint')}"
                )
            declared.update(zip(blocks, codebooks))
        return declared
