"""Dialogues <-> codes: a text and two voices as the parallel streams of a span.

Shapes: K codebooks of a voice, T frames, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from unified.formats.grammar import Grammar
from unified.formats.span_grammar import SpanGrammar
from unified.sequence.media_checks import check_sound
from unified.sequence.modality import decode_codes, encode_media
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.text import quoted
from unified_data.document import Audio, Dialogue, Role

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer

__all__ = ["DialogueStreams", "num_voices"]


def num_voices(grammar: Grammar, modality: str) -> int:
    """How many voices stand side by side in the spans of a modality: 1 without streams."""
    spec = grammar.format.spans.get(modality)
    return 1 if spec is None else max(1, sum(own is not None for own in spec.streams.values()))


@dataclass(frozen=True)
class DialogueStreams:
    """The streams of a format's dialogues: a text, then the voice that speaks it and the other.

    span: of the format. text, speaker, listener: the names of its streams.
    """

    span: SpanGrammar
    tokens: TextTokenizer
    text: str
    speaker: str
    listener: str

    @classmethod
    def of(cls, grammar: Grammar, tokens: TextTokenizer) -> DialogueStreams | None:
        """Those of a grammar's sounds; None where these have no streams, or others."""
        spec = grammar.format.spans.get("audio")
        sizes = {} if spec is None else spec.streams
        texts = [name for name, number in sizes.items() if number is None]
        voices = [name for name, number in sizes.items() if number is not None]
        if len(texts) != 1 or len(voices) != 2 or sizes[voices[0]] != sizes[voices[1]]:
            return None
        return cls(grammar.span_grammars["audio"], tokens, texts[0], *voices)

    def code(self, sound: Audio, codec: AudioTokenizer) -> np.ndarray:
        """The codes of a dialogue: int64 (1 + 2 K, T), ids of its words first.

        Raises ValueError for a sound that is no dialogue, of another rate, or of another number of
        frames than it has words; and for words that are no tokens.
        """
        if not isinstance(sound, Dialogue):
            raise ValueError(
                "the sound is of one voice, where this format has dialogues: give a Dialogue, whose"
                " two channels are the voices and which has a word for each frame; a sound to"
                " answer is the `listener` of a slot"
            )
        check_sound(codec, 1, sound.sample_rate)
        voices = [encode_media(codec, sound.waveform[at : at + 1]) for at in (0, 1)]
        if (frames := voices[0].shape[1]) != len(sound.words):
            raise ValueError(
                f"the dialogue has words for {len(sound.words)} frames, but its sound has {frames},"
                f" of {codec.hop} samples each; expected a word for each frame"
            )
        words = np.array([[self._id(at, word) for at, word in enumerate(sound.words)]])
        return self.span.join_streams(
            {self.text: words, self.speaker: voices[0], self.listener: voices[1]}
        )

    def restore(
        self, codes: np.ndarray, codec: AudioTokenizer, role: Role | None, loss: float
    ) -> Dialogue:
        """The dialogue of codes int64 (1 + 2 K, T)."""
        streams = self.span.split_streams(codes)
        size = (codes.shape[1] * codec.hop,)
        names = (self.speaker, self.listener)
        voices = [decode_codes(codec, streams[name], size) for name in names]
        ids = streams[self.text][0].tolist()
        if unnamed := [id for id in ids if id not in self._names]:
            raise ValueError(f"id {unnamed[0]} of a dialogue's text is no token of its tokenizer")
        words = tuple(self._names[id] for id in ids)
        return Dialogue(np.concatenate(voices), codec.sample_rate, role, loss, words)

    def listener_codes(
        self, sound: Audio | None, codec: AudioTokenizer, begun: np.ndarray | None, frames: int
    ) -> np.ndarray:
        """Codes (K, frames) of the voice that is spoken with.

        A silent frame has the codes that the codec gives a frame of nothing, as transformers'
        generate has it for Moshi.

        Args:
            sound: of that voice; None: nothing is said.
            begun: codes (1 + 2 K, T) of the dialogue that goes on before the sound; None: none.
            frames: of the whole.

        Raises ValueError for a sound of another rate or of several channels, and where more is
        given than fits.
        """
        parts = [] if begun is None else [self.span.split_streams(begun)[self.listener]]
        if sound is not None:
            check_sound(codec, sound.waveform.shape[0], sound.sample_rate)
            parts.append(encode_media(codec, sound.waveform))
        num_given = sum(part.shape[1] for part in parts)
        if num_given > frames:
            raise ValueError(
                f"{num_given} frames of sound are given, but the dialogue shall have {frames}"
                f" (max_audio_frames); raise it to {num_given} or more, or give less"
            )
        if num_given < frames:
            nothing = encode_media(codec, np.zeros((1, codec.hop), np.float32))
            parts.append(np.repeat(nothing, frames - num_given, axis=1))
        return np.concatenate(parts, axis=1)

    def words_in(self, ids: list[int]) -> list[int]:
        """The ids of a text stream that are words: those of no special token."""
        return [id for id in ids if id not in self._silent]

    def text_of(self, dialogue: Dialogue) -> str:
        """What the first voice of a dialogue says, as one text."""
        return self.tokens.decode(
            self.words_in([self._id(at, word) for at, word in enumerate(dialogue.words)])
        )

    def _id(self, frame: int, word: str) -> int:
        id = self.tokens.tokens.get(word)
        if id is None:
            raise ValueError(
                f"frame {frame} of the dialogue has the word {quoted(word)}, which is no token of"
                " the text tokenizer"
            )
        return id

    @cached_property
    def _names(self) -> dict[int, str]:
        return {id: name for name, id in self.tokens.tokens.items()}

    @cached_property
    def _silent(self) -> frozenset[int]:
        return frozenset(self.tokens.special_ids)
