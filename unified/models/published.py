"""Opening published checkpoints: their ids, format and codec, from their own files.

What is known of each model stands in a file of its own, in `unified.models.pretrained`. What their
papers call special tokens becomes markers and blocks of codes; those that no format names are held
back, so that no text can hold them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.request import Sampling
from unified.formats.grammar import Grammar
from unified.models.code_output import CodesOutput
from unified.models.pretrained import Pretrained, PretrainedCheckpoint, pretrained_models, recognise
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_table import Tasks
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.hub import fetch_files, is_hub_name
from unified_base.text import quoted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unified.models.grafting.published_parts import InsideEmbedder
    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer, MediaTokenizer

__all__ = [
    "Opened",
    "Published",
    "codec_inside",
    "codecs_inside",
    "fetch",
    "inside_embedders",
    "missing_of",
    "open_checkpoint",
    "open_published",
    "saved_published",
]

# Beside weights the files of text tokenizers, some of which have no JSON.
_FETCHED = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]


@dataclass(frozen=True)
class Published:
    """What a model was published as. inside: the modalities whose codec is that of its checkpoint,
    not another one that was asked for."""

    pretrained: Pretrained
    inside: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.pretrained.name, "inside": list(self.inside)}


@dataclass(frozen=True)
class Opened:
    """A published checkpoint, its weights unread."""

    published: Published
    sequencer: Sequencer
    sampling: Sampling
    tasks: Tasks
    codes: CodesOutput | None = None


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
    checkpoint = PretrainedCheckpoint.read(folder)
    pretrained = recognise(checkpoint)
    if pretrained is None:
        raise ValueError(
            f"{folder} holds a {_word(checkpoint.model_type)} that is neither a model of ours"
            f" (it has no unified.json) nor one of {', '.join(pretrained_models())};"
            " `UnifiedModel.extend` gives a language model pictures and sound"
        )
    return open_checkpoint(checkpoint, pretrained, image_tokenizer, audio_tokenizer)


def open_checkpoint(
    checkpoint: PretrainedCheckpoint,
    pretrained: Pretrained,
    image_tokenizer: ImageTokenizer | None = None,
    audio_tokenizer: AudioTokenizer | None = None,
) -> Opened:
    """See `open_published`, of a checkpoint that is known to be of a published model."""
    folder = checkpoint.folder
    media: dict[str, Any] = {"image": image_tokenizer, "audio": audio_tokenizer}
    inside = tuple(modality for modality in pretrained.inside if media[modality] is None)
    media.update(codecs_inside(folder, inside))
    layout = pretrained.layout_of(checkpoint)
    vocabulary = pretrained.vocabulary(checkpoint, layout, media)
    sequencer = Sequencer(
        vocabulary,
        Grammar(layout.format, vocabulary),
        checkpoint.text,
        missing=missing_of(pretrained, checkpoint.config, media),
        others=media,
        embedders=inside_embedders(pretrained, folder, vocabulary),
    )
    image = media["image"]
    tasks = pretrained.tasks(checkpoint, None if image is None else int(image.stride))
    sampling = _within(pretrained.sampling, checkpoint)
    codes = CodesOutput(pretrained.codes_output) if sequencer.grammar.num_together > 1 else None
    return Opened(Published(pretrained, inside), sequencer, sampling, tasks, codes)


def _within(sampling: Sampling, checkpoint: PretrainedCheckpoint) -> Sampling:
    """A budget of no more ids than the checkpoint has positions."""
    positions = checkpoint.language.get("max_position_embeddings")
    if sampling.max_ids is None or type(positions) is not int or positions < 1:
        return sampling
    return replace(sampling, max_ids=min(sampling.max_ids, positions))


def missing_of(
    pretrained: Pretrained, config: Mapping[str, Any], media: Mapping[str, MediaTokenizer | None]
) -> dict[tuple[str, str], str]:
    """Why a model cannot read or make media, as `Sequencer` takes it. media: its tokenizers."""
    missing = {
        (modality, "make"): reason for modality, reason in pretrained.cannot_make(config).items()
    }
    for modality, codec in pretrained.codecs.items():
        option = f"--{modality}-tokenizer, or {modality}_tokenizer= in Python"
        if media.get(modality) is None:
            reason = (
                f"{pretrained.name} comes without its {modality} codec, so there is no {modality}"
                f" tokenizer; give {codec} with {option}"
            )
            missing.update(dict.fromkeys(((modality, "read"), (modality, "make")), reason))
        elif getattr(media[modality], "cannot_decode", None) is not None:
            missing.setdefault(
                (modality, "make"),
                f"the checkpoint holds no decoder of its {modality} codec; give {codec} with"
                f" {option}",
            )
    return missing


def saved_published(manifest: Mapping[str, Any], where: Path) -> Published | None:
    """What a model's unified.json says that it was published as; None of others.

    Raises ValueError for a name that is not known here, and other codecs than that model has.
    """
    entry = manifest.get("pretrained")
    if entry is None:
        return None
    models = pretrained_models()
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or name not in models:
        raise ValueError(
            f"{where}: pretrained is {quoted(entry)}, expected one of {', '.join(models)}; the"
            " package that registers it may be missing"
        )
    inside = entry.get("inside")
    known = models[name].inside
    if not isinstance(inside, list) or set(entry) != {"name", "inside"} or set(inside) - set(known):
        raise ValueError(
            f"{where}: pretrained is {quoted(entry)}, expected name and inside, a list of"
            f" {', '.join(known) or 'nothing'}"
        )
    return Published(models[name], tuple(inside))


@contextmanager
def codec_inside(
    hf: PreTrainedModel, published: Published | None, sequencer: Sequencer
) -> Iterator[None]:
    """Let an object of transformers hold, while it is saved, the very codec that its model uses:
    exact in float32 whatever `hf` was rounded to, and whole where transformers knows a part of it
    alone (Chameleon's decoder of pictures)."""
    if published is None:
        yield
        return
    parts = {published.pretrained.inside[modality]: modality for modality in published.inside}
    before = {name: getattr(hf.base_model, name) for name in parts}
    for name, modality in parts.items():
        codec: Any = sequencer.tokenizer(modality)
        setattr(hf.base_model, name, codec.model)
    try:
        yield
    finally:
        for name, module in before.items():
            setattr(hf.base_model, name, module)


def codecs_inside(folder: Path, modalities: Sequence[str]) -> dict[str, Any]:
    """The tokenizers of some modalities that a whole checkpoint holds."""
    from unified_tokenizers import load_tokenizer

    load: Any = load_tokenizer  # its overloads know the names of two modalities
    return {modality: load(folder, modality) for modality in modalities}


def inside_embedders(
    pretrained: Pretrained, folder: Path, vocabulary: Vocabulary
) -> dict[str, InsideEmbedder]:
    """What a published checkpoint reads as vectors, by kind; nothing of it is loaded yet.

    vocabulary: one that was saved before the kind was known has no id for it.
    """
    if not pretrained.embeds:
        return {}
    from unified.models.grafting.published_parts import InsideEmbedder, WholeEmbedder

    embedders: dict[str, InsideEmbedder] = {}
    for kind, embeds in pretrained.embeds.items():
        if not vocabulary.levels(kind):
            continue
        if embeds.parts is not None:
            embedders[kind] = InsideEmbedder(kind, embeds.modality, embeds.parts, folder)
        else:
            assert embeds.vectors is not None
            embedders[kind] = WholeEmbedder(kind, embeds.modality, embeds.vectors, folder)
    return embedders


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
