"""Opening published checkpoints: their ids, format and codec, from their own files.

What is known of each model stands in a file of its own, in `unified.models.pretrained`. What their
papers call special tokens becomes markers and blocks of codes; those that no format names are held
back, so that no text can hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.request import Sampling
from unified.formats.grammar import Grammar
from unified.models.pretrained import Checkpoint, Pretrained, pretrained_models, recognise
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_table import Tasks
from unified_base.hub import fetch_files, is_hub_name
from unified_base.text import quoted

if TYPE_CHECKING:
    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer

__all__ = ["Opened", "fetch", "open_published"]

# Beside weights the files of text tokenizers, some of which have no JSON.
_FETCHED = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]


@dataclass(frozen=True)
class Opened:
    """A published checkpoint, its weights unread."""

    pretrained: Pretrained
    checkpoint: Checkpoint
    sequencer: Sequencer
    sampling: Sampling
    tasks: Tasks | None = None


def open_published(
    folder: Path,
    image_tokenizer: ImageTokenizer | None = None,
    audio_tokenizer: AudioTokenizer | None = None,
) -> Opened:
    """The published checkpoint in a folder.

    image_tokenizer, audio_tokenizer: for checkpoints that come without their codec (Liquid's is
    Chameleon's, Orpheus' is SNAC); without one its codes are neither made nor decoded.

    Raises ValueError for a folder that is no known checkpoint, or lacks tokens of its kind, and for
    a codec of other codebooks.
    """
    checkpoint = Checkpoint.read(folder)
    pretrained = recognise(checkpoint)
    if pretrained is None:
        raise ValueError(
            f"{folder} holds a {_word(checkpoint.model_type)} that is neither a model of ours"
            f" (it has no unified.json) nor one of {', '.join(pretrained_models())};"
            " `UnifiedModel.extend` gives a language model pictures and sound"
        )
    media = _media(pretrained, folder, {"image": image_tokenizer, "audio": audio_tokenizer})
    layout = pretrained.layout_of(checkpoint)
    vocabulary = pretrained.vocabulary(checkpoint, layout, media)
    sequencer = Sequencer(
        vocabulary,
        Grammar(layout.format, vocabulary),
        checkpoint.text,
        media["image"],
        media["audio"],
    )
    return Opened(pretrained, checkpoint, sequencer, pretrained.sampling)


def _media(pretrained: Pretrained, folder: Path, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizers by modality: those asked for, or those that the checkpoint holds."""
    from unified_tokenizers import load_tokenizer

    media = dict(chosen)
    for modality in pretrained.inside:
        if media.get(modality) is None:
            media[modality] = load_tokenizer(folder, modality)
    return media


def _word(value: Any) -> str:
    return quoted(value).strip("'")


def fetch(name: str) -> Path:
    """The files of a checkpoint by its name on the Hugging Face hub; no pickles.

    Raises ValueError where the hub has none, or is out of reach.
    """
    if not is_hub_name(name):
        raise ValueError(
            f"there is no model {name!r}: expected 'pocket', a model's folder, or a name on the"
            " Hugging Face hub such as canopylabs/orpheus-3b-0.1-ft"
        )
    return fetch_files(name, _FETCHED)
