"""Documents <-> ids: the one place where segments are tokenized and laid out for training.

Shapes: L ids of a sequence, K codebook levels, h w grid of codes, H W pixels, T frames, S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, overload

import numpy as np

from unified.formats.coded import (
    Coded,
    CodedAudio,
    CodedImage,
    CodedMedia,
    CodedText,
    coded_media,
)
from unified.formats.grammar import Grammar
from unified.sequence.continuous import (
    Embedder,
    check_embedder,
    check_fingerprint,
    choose_embedder,
    embed_segment,
)
from unified.sequence.dialogue import DialogueStreams, num_voices
from unified.sequence.media_checks import check_picture
from unified.sequence.modality import (
    encode_media,
    modality_of,
    registered_modalities,
)
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.document import Audio, Document, Image, Media, Role, Segment, Slot, Text
from unified_data.segments import media_class

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer, MediaTokenizer


@dataclass(frozen=True, eq=False)
class Sequence:
    """A document as a decoder reads it.

    ids: int64 (L,). modality: uint8 (L,), see `grammar.MODALITIES`. loss: float32 (L,), weight of
    predicting this id from those before it. segment: int32 (L,), index of its segment or -1.
    depth: uint8 (L,), see `grammar.Serialized`. embedded: the segments of continuous positions, in
    order, with their vectors.
    """

    ids: np.ndarray
    modality: np.ndarray
    loss: np.ndarray
    segment: np.ndarray
    depth: np.ndarray
    embedded: tuple[CodedMedia, ...] = ()


def loss_weights(
    losses: Seq[float], roles: Seq[str | None], grammar: Grammar
) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """What the ids between segments weigh in the loss, from the segments' weights and roles.

    Returns, for the ids before each segment and for those at the end of the document, two weights:
    of the ids that end the role before, and of the others.

    What ends a role counts with the segment before it: an answer is learnt with its end. Other
    markers count with the segment they stand before, but one that hands over to the response counts
    with the prompt before it, since a user's prompt ends with it (but where the model may call a
    tool instead, it is the model's choice, and counts with the response). The end of a document
    counts with the last segment; behind the end of a role it counts not at all, since no sampler
    chooses it. Nor does the begin of a document. The ids of a segment count as it says itself.
    """
    handed_over = "" if "call" in grammar.roles else "response"
    prefixes = [
        (
            losses[i - 1] if i else 0.0,
            losses[i - 1] if i and roles[i] == handed_over != roles[i - 1] else losses[i],
        )
        for i in range(len(losses))
    ]
    last = losses[-1] if losses else 1.0
    role = (roles[-1] if roles else None) or grammar.format.start
    return prefixes, (last, 0.0 if grammar.role_suffix(role) else last)


class Sequencer:
    """Turns documents into sequences of ids and back, through a grammar and its tokenizers.

    image_tokenizer, audio_tokenizer: see `unified_tokenizers.base`; None where documents hold no
    such media. others: tokenizers of other modalities by name. tokenizers: all of them, by name.
    missing: (modality, "read" or "make") -> why the model cannot do this, and what to do; of media
    that its tokenizers alone would allow. dialogue: of formats whose sounds are dialogues of two
    voices, else None. embedders: by kind of span what reads media as continuous positions.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        grammar: Grammar,
        text_tokenizer: TextTokenizer,
        image_tokenizer: ImageTokenizer | None = None,
        audio_tokenizer: AudioTokenizer | None = None,
        missing: Mapping[tuple[str, str], str] | None = None,
        others: Mapping[str, MediaTokenizer | None] | None = None,
        embedders: Mapping[str, Embedder] | None = None,
    ):
        grammar.vocabulary.check_same(vocabulary)
        if text_tokenizer.size != vocabulary.text_size:
            raise ValueError(
                f"the text tokenizer has {text_tokenizer.size} ids, the vocabulary "
                f"{vocabulary.text_size}; it was made for another tokenizer"
            )
        text_fingerprint = vocabulary.block("text").fingerprint
        if text_fingerprint not in (None, text_tokenizer.fingerprint):
            raise ValueError(
                f"the text tokenizer has fingerprint {text_tokenizer.fingerprint}, the "
                f"vocabulary was made for {text_fingerprint}"
            )
        self.vocabulary = vocabulary
        self.grammar = grammar
        self.text_tokenizer = text_tokenizer
        self.dialogue = DialogueStreams.of(grammar, text_tokenizer)
        self._missing = dict(missing or {})
        by_name = {"image": image_tokenizer, "audio": audio_tokenizer, **(others or {})}
        self.tokenizers: dict[str, MediaTokenizer] = {
            name: tokenizer for name, tokenizer in by_name.items() if tokenizer is not None
        }
        for name, tokenizer in self.tokenizers.items():
            modality_of(name)
            _check_blocks(name, tokenizer, vocabulary, num_voices(grammar, name))
        self.embedders = dict(embedders or {})
        self._unchecked = set(self.embedders)  # whose fingerprints nobody has asked for
        for embedder in self.embedders.values():
            check_embedder(embedder, vocabulary)

    def with_grammar(self, grammar: Grammar) -> Sequencer:
        """The same parts under another grammar of this vocabulary."""
        return Sequencer(
            self.vocabulary, grammar, self.text_tokenizer, missing=self._missing,
            others=self.tokenizers, embedders=self.embedders,
        )  # fmt: skip

    # Documents to ids.

    def encode(self, document: Document) -> Sequence:
        """The sequence of a document without slots. Its weights are those of `loss_weights`."""
        if document.has_slots:
            raise ValueError(
                f"the document has slots at segments {list(document.slots)}; fill them first "
                "(sampling does), or use encode_prefix for what stands before them"
            )
        return self._encode([self._coded(i, s) for i, s in enumerate(document.segments)], end=True)

    def code(self, document: Document) -> list[Coded | Slot]:
        """The segments of a document, tokenized; slots are kept as they are."""
        return [
            segment if isinstance(segment, Slot) else self._coded(index, segment)
            for index, segment in enumerate(document.segments)
        ]

    def encode_prefix(
        self, segments: Iterable[Segment | Coded], following: Slot | None = None
    ) -> Sequence:
        """The sequence of the segments before a slot: no end marker.

        following: the slot, whose markers (role, text separator) are then added.
        """
        coded = [
            s if isinstance(s, CodedText | CodedMedia) else self._coded(i, s)
            for i, s in enumerate(segments)
        ]
        return self._encode(coded, end=False, following=following)

    def _encode(self, coded: Seq[Coded], end: bool, following: Slot | None = None) -> Sequence:
        serialized = self.grammar.serialize(coded, end=end)
        ids, segment, modality = serialized.ids, serialized.segment, serialized.modality
        depth = serialized.depth
        losses = [s.loss for s in coded]
        before_segments, at_end = loss_weights(losses, [s.role for s in coded], self.grammar)
        # segment is -1 at the begin and the end, which picks the last weight.
        weights = np.array([*losses, at_end[1]], dtype=np.float32)
        suffixes, others = np.array([*before_segments, at_end], dtype=np.float32).T
        loss = np.where(serialized.is_prefix, others[segment], weights[segment])
        loss = np.where(serialized.is_suffix, suffixes[segment], loss)
        loss[: len(self.grammar.begin)] = 0.0
        if following is not None:
            before = coded[-1].kind if coded else None
            role = coded[-1].role if coded else None
            prefix = self.grammar.segment_prefix(before, role, following.modality, following.role)
            ids = np.concatenate([ids, np.array(prefix, dtype=np.int64)])
            none = np.zeros(len(prefix))
            modality = np.concatenate([modality, none]).astype(np.uint8)
            loss = np.concatenate([loss, none]).astype(np.float32)
            segment = np.concatenate([segment, none + len(coded)]).astype(np.int32)
            depth = np.concatenate([depth, none]).astype(np.uint8)
        embedded = tuple(s for s in coded if getattr(s, "features", None) is not None)
        for index, own in enumerate(coded):
            if isinstance(own, CodedMedia) and own.features is not None:
                loss[segment == index] = 0.0  # nothing writes it
        return Sequence(ids, modality, loss, segment, depth, embedded)  # type: ignore[arg-type]

    def _coded(self, index: int, segment: Segment) -> Coded:
        try:
            return self.code_segment(segment)
        except ValueError as error:
            raise ValueError(f"segment {index}: {error}") from None

    def code_segment(self, segment: Segment) -> Coded:
        """Tokenize one segment of text or media.

        Raises ValueError for a picture whose sides are not multiples of the tokenizer's stride,
        and for sound that is not mono at the tokenizer's sample rate. The last frame of a sound
        may reach over its end: decoding gives whole frames.
        """
        if isinstance(segment, Text):
            return CodedText(
                tuple(self.text_tokenizer.encode(segment.text)), segment.role, segment.loss
            )
        if not isinstance(segment, Media):
            raise ValueError(f"expected text or media, found {type(segment).__name__}")
        name = segment.modality
        if (embedder := self.embedder_of(segment)) is not None:
            return embed_segment(embedder, segment)
        tokenizer = self.tokenizer(name)
        if self.dialogue is not None and isinstance(segment, Audio):
            codes = self.dialogue.code(segment, self.tokenizer("audio"))
            return coded_media(name, codes, segment.role, segment.loss)
        codes = encode_media(tokenizer, modality_of(name).prepare(segment, tokenizer))
        return coded_media(name, codes, segment.role, segment.loss)

    def embedder_of(self, segment: Media) -> Embedder | None:
        """What reads a medium as continuous positions; None where it is read as codes.

        Raises ValueError where the vocabulary was made for another encoder.
        """
        embedder = choose_embedder(self.embedders, self.tokenizers, segment)
        if embedder is not None and embedder.kind in self._unchecked:
            check_fingerprint(embedder, self.vocabulary)
            self._unchecked.discard(embedder.kind)
        return embedder

    def reads_continuous(self, modality: str) -> bool:
        """Whether media of a modality are read as continuous positions."""
        return any(embedder.modality == modality for embedder in self.embedders.values())

    def image_grid(self, height: int, width: int) -> tuple[int, int]:
        """The grid (h, w) of codes of a picture of this many pixels."""
        tokenizer = self.tokenizer("image")
        check_picture(tokenizer, height, width)
        return height // tokenizer.stride, width // tokenizer.stride

    # Ids to documents.

    def decode(self, ids: Iterable[int]) -> Document:
        """The document of a complete sequence; GrammarError where it is none.

        Text comes back exactly, media as their tokenizers rebuild them; loss weights are 1.
        """
        return Document(tuple(self.decode_segment(s) for s in self.grammar.parse(ids)))

    def decode_segment(self, coded: Coded) -> Text | Media:
        """The segment of coded text or media. ValueError where there is no tokenizer for it."""
        role = cast("Role | None", coded.role)
        if isinstance(coded, CodedText):
            return Text(self.text_tokenizer.decode(coded.ids), role, coded.loss)
        tokenizer = self.tokenizer(coded.modality)
        if self.dialogue is not None and coded.kind == "audio":
            return self.dialogue.restore(coded.codes, self.tokenizer("audio"), role, coded.loss)
        return modality_of(coded.modality).restore(coded.codes, tokenizer, role, coded.loss)

    def decode_image(self, codes: np.ndarray) -> np.ndarray:
        """Codes int64 (K, h, w) -> pixels uint8 (H, W, 3)."""
        picture = self.decode_segment(CodedImage(codes))
        assert isinstance(picture, Image)
        return picture.pixels

    def decode_audio(self, codes: np.ndarray) -> np.ndarray:
        """Codes int64 (K, T) -> waveform float32 (1, S) in [-1, 1], S = T * hop."""
        sound = self.decode_segment(CodedAudio(codes))
        assert isinstance(sound, Audio)
        return sound.waveform

    @property
    def image_tokenizer(self) -> ImageTokenizer | None:
        return self.tokenizers.get("image")  # type: ignore[return-value]

    @property
    def audio_tokenizer(self) -> AudioTokenizer | None:
        return self.tokenizers.get("audio")  # type: ignore[return-value]

    @property
    def missing(self) -> dict[tuple[str, str], str]:
        """(modality, "read" or "make") -> why the model cannot do this, and what to do."""
        reasons: dict[tuple[str, str], str] = {}
        for modality in registered_modalities():
            tokenizer = self.tokenizers.get(modality)
            if tokenizer is None and self.reads_continuous(modality):
                media = media_class(modality).plural
                reasons[modality, "make"] = (
                    f"it reads {media} through an encoder, which makes none, and has no {modality}"
                    " tokenizer"
                )
            elif tokenizer is None:
                reason = f"it has no {modality} tokenizer"
                if modality in ("image", "audio"):  # which have an option of their own
                    reason += (
                        f"; give one with --{modality}-tokenizer, or {modality}_tokenizer= in"
                        " Python"
                    )
                reasons.update(dict.fromkeys(((modality, "read"), (modality, "make")), reason))
            elif (cannot_decode := getattr(tokenizer, "cannot_decode", None)) is not None:
                reasons[modality, "make"] = cannot_decode
        return {**reasons, **self._missing}

    def check_makes(self, modality: str) -> None:
        """Raises ValueError, with the reason, where the model cannot make media of a modality."""
        if (reason := self.missing.get((modality, "make"))) is not None:
            raise ValueError(f"the model cannot make {media_class(modality).plural}: {reason}")

    @overload
    def tokenizer(self, modality: Literal["image"]) -> ImageTokenizer: ...

    @overload
    def tokenizer(self, modality: Literal["audio"]) -> AudioTokenizer: ...

    @overload
    def tokenizer(self, modality: str) -> MediaTokenizer: ...

    def tokenizer(self, modality: str) -> MediaTokenizer:
        """The tokenizer of a modality. Raises ValueError where the model has none."""
        if modality not in self.tokenizers:
            plural = media_class(modality).plural
            reason = self._missing.get((modality, "read"), f"there is no {modality} tokenizer")
            raise ValueError(f"{reason}; {plural} cannot be coded or decoded")
        return self.tokenizers[modality]


def _check_blocks(
    modality: str, tokenizer: MediaTokenizer, vocabulary: Vocabulary, voices: int
) -> None:
    """Raises ValueError where the codes of a tokenizer are not those of the vocabulary's blocks, a
    set of them for each voice."""
    blocks = vocabulary.levels(modality)
    sizes = tuple(int(n) for n in tokenizer.codebook_sizes) * voices
    if tuple(block.size for block in blocks) != sizes:
        raise ValueError(
            f"the {modality} tokenizer has codebooks of {sizes} codes, the vocabulary "
            f"blocks of {tuple(block.size for block in blocks)}"
        )
    if blocks[0].fingerprint not in (None, tokenizer.fingerprint):
        raise ValueError(
            f"the {modality} tokenizer has fingerprint {tokenizer.fingerprint}, the "
            f"vocabulary was made for {blocks[0].fingerprint}"
        )
