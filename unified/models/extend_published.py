"""Extending published models that read media and cannot write them: their head gets more rows.

Apertus 1.5 has ids and embeddings for the codes of pictures and sound, and a head of the rows of
text alone. Its head grows to all ids; what it was stays in place, so that its logits of text stay
what they were. Then it can be trained to write what it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.models.files import FILE_NAME, model_directory
from unified.models.hf_checkpoint import read_config
from unified.models.pretrained import PretrainedCheckpoint, pretrained_models, recognise
from unified.models.published import Opened, open_checkpoint
from unified.models.published_decoders import load_published_hf
from unified_base.text import quoted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer

__all__ = ["FIRST_NEW", "extend_published"]

FIRST_NEW = "unified_first_new_row"
"""In config.json: the first id whose row of the head is new to the model that was extended."""
_DEFAULT_FORMATS = ("pocket", "chat")  # what `extend` means where nobody names a format


def extend_published(
    name_or_path: str | Path,
    image_tokenizer: ImageTokenizer | None,
    audio_tokenizer: AudioTokenizer | None,
    format: str | Path,
    initialise: str,
    dtype: str | None,
    device: str | None = None,
    layouts: Mapping[str, str | None] | None = None,
) -> tuple[Opened, Any] | None:
    """A published model whose head has a row for every id, with the parts of a `UnifiedModel`.

    Returns None for what is no whole published checkpoint: a language model of text.

    Raises ValueError for one whose head has all rows already, and another format than its own.
    """
    folder = model_directory(name_or_path)
    if (folder / FILE_NAME).exists() or not (folder / "config.json").exists():
        return None
    kind = read_config(folder).get("model_type")
    if not any(p.hf_class and p.model_type == kind for p in pretrained_models().values()):
        return None
    checkpoint = PretrainedCheckpoint.read(folder)
    pretrained = recognise(checkpoint)
    if pretrained is None:
        return None
    if not pretrained.cannot_make(checkpoint.config):
        trained = "it is trained as it is (`init_from` of `unified train`); "
        if pretrained.cannot_train is not None:
            trained = ""
        raise ValueError(
            f"{folder} holds a whole {pretrained.name}, which has rows for all its ids:"
            f" {trained}extending is for language models of text"
        )
    layout = pretrained.layout_of(checkpoint).format.name
    if str(format) not in (*_DEFAULT_FORMATS, layout):
        raise ValueError(
            f"format is {quoted(str(format))}, expected {layout}: {pretrained.name} was trained on"
            " documents in its own format"
        )
    if chosen := [f"{name}_codes" for name, way in (layouts or {}).items() if way is not None]:
        raise ValueError(
            f"{' and '.join(chosen)} would lay codes out anew: {pretrained.name} was trained on"
            " documents in its own format; leave it out"
        )
    text_config = {**(checkpoint.config.get("text_config") or {}), "output_vocab_size": None}
    config = {**checkpoint.config, "text_config": text_config}
    grown = PretrainedCheckpoint(folder, config, checkpoint.text)
    opened = open_checkpoint(grown, pretrained, image_tokenizer, audio_tokenizer)
    hf = load_published_hf(folder, pretrained, dtype or "auto", device or "cpu")
    _grow_head(hf, initialise)
    return opened, hf


def _grow_head(hf: PreTrainedModel, initialise: str) -> None:
    """Give the head a row for every row of the embedding, those of text as they were."""
    import torch

    from unified.models.init_rows import Moments, check_name, fill_rows

    check_name(initialise)
    if initialise == "codebook":
        raise ValueError(
            "initialise is codebook, expected another way: the codes have embeddings already, and"
            " only rows of the head are new"
        )
    table: Any = hf.get_input_embeddings()
    head, rows = hf.get_output_embeddings(), len(table.weight)
    old, width = head.weight.shape
    wide = torch.nn.Linear(width, rows, bias=False, device="meta").to_empty(
        device=head.weight.device
    )
    wide.to(head.weight.dtype)
    with torch.no_grad():
        wide.weight[:old] = head.weight
    like = Moments(head.weight) if initialise == "mean-covariance" else None
    spread = float(hf.config.get_text_config().initializer_range) if initialise == "normal" else 0.0
    fill_rows(wide.weight, old, initialise, like, spread=spread)
    hf.set_output_embeddings(wide)
    hf.config.get_text_config().output_vocab_size = None
    setattr(hf.config, FIRST_NEW, old)
