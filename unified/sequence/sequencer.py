"""Documents <-> ids: the one place where segments are tokenized and laid out for training.

Shapes: L ids of a sequence, K codebook levels, h w grid of codes, H W pixels, T frames, S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from unified.formats.coded import Coded, CodedAudio, CodedImage, CodedText
from unified.formats.grammar import Grammar
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.document import Audio, Document, Image, Segment, Slot, Text

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer, MediaTokenizer


@dataclass(frozen=True, eq=False)
class Sequence:
    """A document as a decoder reads it.

    ids: int64 (L,). modality: uint8 (L,), see `grammar.MODALITIES`. loss: float32 (L,), weight of
    predicting this id from those before it. segment: int32 (L,), index of its segment or -1.
    """

    ids: np.ndarray
    modality: np.ndarray
    loss: np.ndarray
    segment: np.ndarray


def loss_weights(
    losses: Seq[float], roles: Seq[str | None], grammar: Grammar
) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """What the ids between segments weigh in the loss, from the segments' weights and roles.

    Returns, for the ids before each segment and for those at the end of the document, two weights:
    of the ids that end the role before, and of the others.

    What ends a role counts with the segment before it: an answer is learnt with its end. Other
    markers count with the segment they stand before, but one that hands over to the response counts
    with the prompt before it, since a user's prompt ends with it. The end of a document counts with
    the last segment; behind the end of a role it counts not at all, since no sampler chooses it.
    Nor does the begin of a document. The ids of a segment count as it says itself.
    """
    leading = [
        (
            losses[i - 1] if i else 0.0,
            losses[i - 1] if i and roles[i] == "response" != roles[i - 1] else losses[i],
        )
        for i in range(len(losses))
    ]
    last = losses[-1] if losses else 1.0
    role = (roles[-1] if roles else None) or grammar.format.start
    return leading, (last, 0.0 if grammar.role_suffix(role) else last)


class Sequencer:
    """Turns documents into sequences of ids and back, through a grammar and its tokenizers.

    image_tokenizer, audio_tokenizer: see `unified_tokenizers.base`; None where documents hold no
    such media. missing: (modality, "read" or "make") -> why the model cannot do this, and what to
    do; of media that its tokenizers alone would allow.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        grammar: Grammar,
        text_tokenizer: TextTokenizer,
        image_tokenizer: ImageTokenizer | None = None,
        audio_tokenizer: AudioTokenizer | None = None,
        missing: Mapping[tuple[str, str], str] | None = None,
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
        self.image_tokenizer = image_tokenizer
        self.audio_tokenizer = audio_tokenizer
        self._missing = dict(missing or {})
        for tokenizer, modality in ((image_tokenizer, "image"), (audio_tokenizer, "audio")):
            if tokenizer is None:
                continue
            blocks = vocabulary.levels(modality)
            sizes = tuple(int(n) for n in tokenizer.codebook_sizes)
            if tuple(b.size for b in blocks) != sizes:
                raise ValueError(
                    f"the {modality} tokenizer has codebooks of {sizes} codes, the vocabulary "
                    f"blocks of {tuple(b.size for b in blocks)}"
                )
            if blocks[0].fingerprint not in (None, tokenizer.fingerprint):
                raise ValueError(
                    f"the {modality} tokenizer has fingerprint {tokenizer.fingerprint}, the "
                    f"vocabulary was made for {blocks[0].fingerprint}"
                )

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
            s if isinstance(s, CodedText | CodedImage | CodedAudio) else self._coded(i, s)
            for i, s in enumerate(segments)
        ]
        return self._encode(coded, end=False, following=following)

    def _encode(self, coded: Seq[Coded], end: bool, following: Slot | None = None) -> Sequence:
        laid = self.grammar.serialize(coded, end=end)
        ids, segment, modality = laid.ids, laid.segment, laid.modality
        losses = [s.loss for s in coded]
        leading, closing = loss_weights(losses, [s.role for s in coded], self.grammar)
        # segment is -1 at the begin and the end, which picks the last weight.
        weights = np.array([*losses, closing[1]], dtype=np.float32)
        ending, others = np.array([*leading, closing], dtype=np.float32).T
        loss = np.where(laid.is_prefix, others[segment], weights[segment])
        loss = np.where(laid.is_suffix, ending[segment], loss)
        loss[: len(self.grammar.begin)] = 0.0
        if following is not None:
            before = coded[-1].kind if coded else None
            role = coded[-1].role if coded else None
            lead = self.grammar.segment_prefix(before, role, following.modality, following.role)
            ids = np.concatenate([ids, np.array(lead, dtype=np.int64)])
            none = np.zeros(len(lead))
            modality = np.concatenate([modality, none]).astype(np.uint8)
            loss = np.concatenate([loss, none]).astype(np.float32)
            segment = np.concatenate([segment, none + len(coded)]).astype(np.int32)
        return Sequence(ids, modality, loss, segment)

    def _coded(self, index: int, segment: Segment) -> Coded:
        try:
            return self.code_segment(segment)
        except ValueError as error:
            raise ValueError(f"segment {index}: {error}") from None

    def code_segment(self, segment: Segment) -> Coded:
        """Tokenize one Text, Image or Audio.

        Raises ValueError for a picture whose sides are not multiples of the tokenizer's stride,
        and for sound that is not mono at the tokenizer's sample rate. The last frame of a sound
        may reach over its end: decoding gives whole frames.
        """
        if isinstance(segment, Text):
            return CodedText(
                tuple(self.text_tokenizer.encode(segment.text)), segment.role, segment.loss
            )
        if isinstance(segment, Image):
            height, width = segment.pixels.shape[:2]
            self.image_grid(height, width)
            codes = _encode(self._image(), segment.pixels.transpose(2, 0, 1))
            return CodedImage(codes, segment.role, segment.loss)
        if isinstance(segment, Audio):
            tokenizer = self._audio()
            check_sound(tokenizer, segment.waveform.shape[0], segment.sample_rate)
            return CodedAudio(_encode(tokenizer, segment.waveform), segment.role, segment.loss)
        raise ValueError(f"expected Text, Image or Audio, found {type(segment).__name__}")

    def image_grid(self, height: int, width: int) -> tuple[int, int]:
        """The grid (h, w) of codes of a picture of this many pixels."""
        check_picture(self._image(), height, width)
        return height // self._image().stride, width // self._image().stride

    # Ids to documents.

    def decode(self, ids: Iterable[int]) -> Document:
        """The document of a complete sequence; GrammarError where it is none.

        Text comes back exactly, media as their tokenizers rebuild them; loss weights are 1.
        """
        return Document(tuple(self.decode_segment(s) for s in self.grammar.parse(ids)))

    def decode_segment(self, coded: Coded) -> Text | Image | Audio:
        role: Any = coded.role
        if isinstance(coded, CodedText):
            return Text(self.text_tokenizer.decode(coded.ids), role, coded.loss)
        if isinstance(coded, CodedImage):
            return Image(self.decode_image(coded.codes), role, coded.loss)
        waveform = self.decode_audio(coded.codes)
        return Audio(waveform, self._audio().sample_rate, role, coded.loss)

    def decode_image(self, codes: np.ndarray) -> np.ndarray:
        """Codes int64 (K, h, w) -> pixels uint8 (H, W, 3)."""
        tokenizer = self._image()
        h, w = codes.shape[1:]
        pixels = _decode(tokenizer, codes, (h * tokenizer.stride, w * tokenizer.stride))
        return np.ascontiguousarray(np.round(pixels * 255.0).astype(np.uint8).transpose(1, 2, 0))

    def decode_audio(self, codes: np.ndarray) -> np.ndarray:
        """Codes int64 (K, T) -> waveform float32 (1, S) in [-1, 1], S = T * hop."""
        tokenizer = self._audio()
        return _decode(tokenizer, codes, (codes.shape[1] * tokenizer.hop,))

    @property
    def missing(self) -> dict[tuple[str, str], str]:
        """(modality, "read" or "make") -> why the model cannot do this, and what to do."""
        reasons: dict[tuple[str, str], str] = {}
        tokenizers = {"image": self.image_tokenizer, "audio": self.audio_tokenizer}
        for modality, tokenizer in tokenizers.items():
            if tokenizer is None:
                reason = (
                    f"it has no {modality} tokenizer; give one with --{modality}-tokenizer, or"
                    f" {modality}_tokenizer= in Python"
                )
                reasons.update(dict.fromkeys(((modality, "read"), (modality, "make")), reason))
            elif (why := getattr(tokenizer, "cannot_decode", None)) is not None:
                reasons[modality, "make"] = str(why)
        return {**reasons, **self._missing}

    def check_makes(self, modality: str) -> None:
        """Raises ValueError, with the reason, where the model cannot make media of a modality."""
        if (reason := self.missing.get((modality, "make"))) is not None:
            media = {"image": "pictures", "audio": "sound"}[modality]
            raise ValueError(f"the model cannot make {media}: {reason}")

    @overload
    def tokenizer(self, modality: Literal["image"]) -> ImageTokenizer: ...

    @overload
    def tokenizer(self, modality: Literal["audio"]) -> AudioTokenizer: ...

    @overload
    def tokenizer(self, modality: str) -> ImageTokenizer | AudioTokenizer: ...

    def tokenizer(self, modality: str) -> ImageTokenizer | AudioTokenizer:
        """The tokenizer of "image" or "audio". Raises ValueError where the model has none."""
        return self._image() if modality == "image" else self._audio()

    def _image(self) -> ImageTokenizer:
        if self.image_tokenizer is None:
            reason = self._missing.get(("image", "read"), "there is no image tokenizer")
            raise ValueError(f"{reason}; pictures cannot be coded or decoded")
        return self.image_tokenizer

    def _audio(self) -> AudioTokenizer:
        if self.audio_tokenizer is None:
            reason = self._missing.get(("audio", "read"), "there is no audio tokenizer")
            raise ValueError(f"{reason}; sound cannot be coded or decoded")
        return self.audio_tokenizer


def check_picture(tokenizer: ImageTokenizer, height: int, width: int) -> None:
    """Raises ValueError for a picture of so many pixels that does not divide into codes."""
    stride = tokenizer.stride
    if height < 1 or width < 1 or height % stride or width % stride:
        raise ValueError(
            f"a picture of {width}x{height} pixels does not divide into codes: both sides "
            f"must be multiples of {stride}; resize or crop it first"
        )


def check_sound(tokenizer: AudioTokenizer, channels: int, sample_rate: int) -> None:
    """Raises ValueError for a sound that is not mono at the tokenizer's sample rate (Hz)."""
    if channels != 1 or sample_rate != tokenizer.sample_rate:
        raise ValueError(
            f"the sound has {channels} channels at {sample_rate} Hz, expected 1 "
            f"channel at {tokenizer.sample_rate} Hz; convert it first"
        )


def _encode(tokenizer: MediaTokenizer, media: np.ndarray) -> np.ndarray:
    """One medium, channels first, -> codes int64 (K, *grid)."""
    import torch  # here, so that text-only use of this module does not wait for it

    with torch.inference_mode():
        codes = tokenizer.encode(torch.from_numpy(np.ascontiguousarray(media))[None]).codes
    return codes[0].cpu().numpy()


def _decode(tokenizer: MediaTokenizer, codes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Codes (K, *grid) -> float32 media, channels first, of exactly `size`."""
    import torch

    from unified_tokenizers.base import Codes

    with torch.inference_mode():
        media = tokenizer.decode(Codes(torch.tensor(codes, dtype=torch.int64)[None], size))
    return media[0].float().cpu().numpy()
