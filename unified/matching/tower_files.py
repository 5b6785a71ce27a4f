"""A tower as a folder of transformers' form, and as it is made anew.

config.json, model.safetensors, tokenizer.json, tokenizer_config.json, preprocessor_config.json:
`CLIPModel`, `SiglipModel` and `VisionTextDualEncoderModel` of transformers open it, and published
checkpoints of those open here.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unified.matching.tower_pictures import TowerPictures
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.foreign import foreign
from unified_base.model_config import check_model_config
from unified_base.quiet import no_progress_bars
from unified_base.safetensors_files import check_weights
from unified_base.structured import MAX_JSON, read_json
from unified_base.text import quoted
from unified_base.whole_folder import whole_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["KINDS", "TowerParts", "make_parts", "read_parts", "write_parts"]

KINDS = ("clip", "siglip", "vision-text-dual-encoder")
"""`model_type`s of towers."""
_END = "<|endoftext|>"


class TowerParts(NamedTuple):
    """model: of transformers, one of `KINDS`. tokenizer: of transformers, adds what ends a text.
    pictures: how pictures are seen."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    pictures: TowerPictures


def check_kind(entries: Mapping[str, Any], where: str) -> str:
    """The `model_type`. Raises ValueError for one that is no tower."""
    kind = entries.get("model_type")
    if kind not in KINDS:
        raise ValueError(
            f"{where}: model_type is {quoted(kind)}, expected one of {', '.join(KINDS)}: a model"
            " that holds pictures and texts to one space"
        )
    return str(kind)


def make_parts(
    entries: Mapping[str, Any], text: TextTokenizer, size: int, max_text_ids: int, where: str
) -> TowerParts:
    """A tower with random weights.

    Args:
        entries: of its config.json; see `TowerTraining.tower`.
        text: a byte-level text tokenizer; one id is added, which ends texts and fills them up.
        size: side of the pictures, in pixels.
        max_text_ids: positions of the text tower.
        where: for errors.

    Raises:
        ValueError: entries that transformers does not build a tower of.
    """
    from transformers import AutoConfig, AutoModel

    kind = check_kind(entries, where)
    config = {name: copy.deepcopy(value) for name, value in entries.items() if name != "model_type"}
    end = text.size
    for part, entry in (
        ("text_config", {"vocab_size": end + 1, "max_position_embeddings": max_text_ids,
                         "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}),
        ("vision_config", {"image_size": size}),
    ):  # fmt: skip
        inner = config.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ValueError(f"{where}: {part} is {quoted(inner)}, expected a mapping")
        if names := sorted(entry.keys() & inner.keys()):
            raise ValueError(f"{where}: {part} has {names}, which follow from the run; leave them")
        inner |= entry
    vision = config["vision_config"]
    if "hidden_sizes" in vision:  # transformers takes the width of what is projected from here
        vision.setdefault("hidden_size", vision["hidden_sizes"][-1])
    check_model_config(config, where)
    with foreign(f"{where}: transformers makes no tower of these entries"):
        model = AutoModel.from_config(AutoConfig.for_model(kind, **config))
    _flatten_pool(model)
    return TowerParts(model, _with_end(text, max_text_ids), TowerPictures.square(size))


def _flatten_pool(model: Any) -> None:
    """Vision models of convolutions alone (ResNet, RegNet, BiT) give (N, D, 1, 1); the projection
    behind them is of (N, D). It has no weights, so the folder is as transformers has it."""
    from torch import nn

    vision: Any = getattr(model, "vision_model", None)
    if isinstance(getattr(vision, "pooler", None), nn.AdaptiveAvgPool2d):
        vision.pooler = nn.Sequential(vision.pooler, nn.Flatten())


def _with_end(text: TextTokenizer, max_text_ids: int) -> PreTrainedTokenizerFast:
    """The text tokenizer, which puts one id more behind every text."""
    from transformers import PreTrainedTokenizerFast

    from tokenizers import AddedToken, Tokenizer, processors

    backend = Tokenizer.from_str(text.to_text())
    if _END in text.tokens:
        raise ValueError(f"the text tokenizer has {_END} already; take one without special tokens")
    backend.add_special_tokens([AddedToken(_END, special=True, normalized=False)])
    end = backend.token_to_id(_END)
    if end != text.size:
        raise ValueError(
            f"the text tokenizer's ids have gaps: {_END} became {end}, not {text.size}"
        )
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {_END}", special_tokens=[(_END, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=_END, pad_token=_END, model_max_length=max_text_ids
    )


def read_parts(folder: str | os.PathLike[str]) -> TowerParts:
    """The tower in a folder, float32, on the CPU and in evaluation mode.

    Raises:
        ValueError: files missing or torn, a model of another kind, weights that do not fit.
    """
    from transformers import AutoModel, AutoTokenizer

    path = Path(folder)
    where = f"the tower in {path}"
    if not (path / "config.json").is_file():
        raise ValueError(f"{path} has no config.json: it is no tower (see `unified tower train`)")
    entries = read_json(path / "config.json", constants=True)
    check_model_config(entries, str(path / "config.json"))
    check_kind(entries, str(path / "config.json"))
    seen = read_json(path / "preprocessor_config.json")
    pictures = TowerPictures.from_entries(seen, str(path / "preprocessor_config.json"))
    check_weights(path, "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (path / name).is_file():
            read_json(path / name, 1 << 28 if name == "tokenizer.json" else MAX_JSON)
    with foreign(f"{where} cannot be loaded"), no_progress_bars():
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        model, report = AutoModel.from_pretrained(
            path, use_safetensors=True, dtype="float32", output_loading_info=True, **options
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(path, **options)
    if missing := sorted(report["missing_keys"]):  # transformers fills them with random numbers
        raise ValueError(f"{where} lacks {len(missing)} weights, such as {missing[0]}")
    _flatten_pool(model)
    return TowerParts(model.eval(), tokenizer, pictures)


def write_parts(parts: TowerParts, folder: str | os.PathLike[str]) -> None:
    """Write a tower; a reader finds all of it or what stood there before."""
    with whole_folder(folder, "config.json", keep=lambda name: True) as path, no_progress_bars():
        parts.model.save_pretrained(path)
        parts.tokenizer.save_pretrained(path)
        entries = json.dumps(parts.pictures.to_entries(), indent=2) + "\n"
        (path / "preprocessor_config.json").write_text(entries, "utf-8")
