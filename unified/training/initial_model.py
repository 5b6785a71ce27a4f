"""The model that a run begins with: that of a folder, or a new one with a text tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from unified.dataloading.source import leaves
from unified.dataloading.source_samples import find_shards
from unified.models.extend import begin_with
from unified.models.model import UnifiedModel
from unified.training.config import TrainConfig
from unified.training.trainable import check_trainable
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_data.shard_file import ShardFile
from unified_tokenizers import load_tokenizer

__all__ = ["build_model"]


def build_model(config: TrainConfig) -> UnifiedModel:
    """The model to train.

    With `init_from` alone it is that one. With `init_from` and `model`, a new decoder that begins
    with the other's rows and layers, and its text tokenizer. With `model` alone, a new decoder
    with random weights, whose text tokenizer is learnt, or read if it was before.

    Raises:
        ValueError: the text tokenizer that was read has more ids than `text_vocab_size`, or the
            decoder to begin with has another shape, or is of a kind that cannot be trained yet.
    """
    torch.manual_seed(config.seed)
    start = None
    if config.init_from is not None:
        check_trainable(config.init_from)
        # Trained weights are float32; what is frozen takes its precision of them.
        start = UnifiedModel.from_pretrained(config.init_from, dtype="float32")
    if start is not None and config.model is None:
        named = [n for n in ("image_tokenizer", "audio_tokenizer") if getattr(config, n)]
        if named or config.reinit_modalities:
            raise ValueError(
                f"{named or ['reinit_modalities']} would give {config.init_from} another"
                " vocabulary: state the decoder's shape in model as well"
            )
        return start
    text = start.text_tokenizer if start is not None else _text_tokenizer(config)
    assert config.model is not None
    model = UnifiedModel.create(
        config.model,
        text_tokenizer=text,
        image_tokenizer=_tokenizer(config.image_tokenizer),
        audio_tokenizer=_tokenizer(config.audio_tokenizer),
        format=config.format,
        max_grid=config.max_grid,
        codes=config.codes,
        depth=config.depth,
    )
    if start is not None:
        begin_with(model.hf, model.vocabulary, start.hf, start.vocabulary, config.reinit_modalities)
    return model


def _tokenizer(folder: str | None) -> Any:
    return None if folder is None else load_tokenizer(folder)


def _text_tokenizer(config: TrainConfig) -> TextTokenizer:
    folder = Path(config.output) / "text_tokenizer"
    if (folder / "tokenizer.json").exists():
        text = TextTokenizer.load(folder)
        if text.size > config.text_vocab_size:  # fewer: the texts held no more
            raise ValueError(
                f"the text tokenizer in {folder} has {text.size} ids, text_vocab_size is "
                f"{config.text_vocab_size}; remove the folder to learn another"
            )
        return text
    # A world repeats its sentences: each once is enough to learn merges from.
    text = TextTokenizer.train(sorted(set(_texts(config))), config.text_vocab_size)
    text.save(folder)
    return text


def _texts(config: TrainConfig) -> Iterator[str]:
    """Those of all sources, of documents or of codes; pictures and sounds are not decoded."""
    for _, source in leaves(config.sources):
        for path in find_shards(source.shards):
            with ShardFile(path, tolerant=True) as shard:
                for number in range(len(shard)):
                    try:
                        _, obj, _ = shard.parts(number)
                    except ValueError:  # told when the sample's turn comes
                        continue
                    rows = obj.get("segments") if isinstance(obj, dict) else None
                    for row in rows if isinstance(rows, list) else ():
                        if isinstance(row, dict) and isinstance(row.get("text"), str):
                            yield row["text"]
