"""What a model is made of, beside its decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unified.formats.grammar import Grammar
from unified.sequence.sequencer import Sequencer
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer

__all__ = ["ModelParts"]


class ModelParts:
    """The parts of `UnifiedModel` that its sequencer holds."""

    sequencer: Sequencer

    @property
    def vocabulary(self) -> Vocabulary:
        return self.sequencer.vocabulary

    @property
    def grammar(self) -> Grammar:
        return self.sequencer.grammar

    @property
    def text_tokenizer(self) -> TextTokenizer:
        return self.sequencer.text_tokenizer

    @property
    def image_tokenizer(self) -> ImageTokenizer | None:
        """See `unified_tokenizers.base`; None where the model has no pictures.

        Of a folder's own tokenizer without attention numpy computes arrays, and its `module` is the
        same in torch (`unified_tokenizers.numpy_tokenizer`).
        """
        return self.sequencer.image_tokenizer

    @property
    def audio_tokenizer(self) -> AudioTokenizer | None:
        """As `image_tokenizer`; None where the model has no sound."""
        return self.sequencer.audio_tokenizer

    @property
    def embedders(self) -> dict[str, Any]:
        """By kind of span what reads media as vectors (`unified.models.grafting.embedder`)."""
        return self.sequencer.embedders
