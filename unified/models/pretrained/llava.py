"""LLaVA-1.5 (arXiv:2310.03744), as transformers has it.

Source: the model card of llava-hf/llava-1.5-7b-hf and transformers' LlavaProcessor: a turn is
"USER: <image>\\nTEXT ASSISTANT:" and the picture 336x336 pixels of CLIP ViT-L/14, whose last layer
but one is read without its class token.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling
from unified.formats.load import load_format
from unified.formats.parser import parse_format, write_format
from unified.models.pretrained.base import (
    InsideEmbeds,
    Pretrained,
    PretrainedCheckpoint,
    PretrainedLayout,
    refused,
)
from unified.tasks.task import MediaPart, SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks

if TYPE_CHECKING:
    from unified.models.grafting.embedder import EmbedderParts

_NO_PICTURES = "LLaVA reads pictures and writes text alone"


def image_id(checkpoint: PretrainedCheckpoint) -> int:
    """The id that holds a vector's place, by its name of either age."""
    named = "image_token_id" if "image_token_id" in checkpoint.config else "image_token_index"
    return checkpoint.number(named)


def patches(checkpoint: PretrainedCheckpoint) -> int:
    """Patches on a side of the picture."""
    side = checkpoint.part_number("vision_config", "image_size")
    return side // checkpoint.part_number("vision_config", "patch_size")


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    side = patches(checkpoint)
    top = yaml.safe_load(load_format("llava").source)
    rows = top["spans"]["image"][0]
    rows["repeat"] = rows["of"][0]["repeat"] = side
    return PretrainedLayout(parse_format(write_format(top)))


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    source = "llava-hf/llava-1.5-7b-hf, its model card"
    before, picture, answer = TextPart("USER: "), MediaPart("image"), SlotPart("text")

    def task(verb: Any, words: str, example: str = "") -> Task:
        parts = (before, picture, TextPart(f"\n{words} ASSISTANT:"), answer)
        return Task(verb, parts, source, example=example)

    return Tasks(
        {
            "describe": task("describe", "Describe the image in detail."),
            "ask": task("ask", "{question}", "What is in the picture?"),
            **refused(_NO_PICTURES, "draw", "write"),
            **refused("LLaVA has no sound", "speak", "listen"),
        }
    )


def _parts(hf: Any, folder: Path) -> EmbedderParts:
    from unified.models.grafting.published_parts import picture_parts

    config = hf.config
    layer = config.vision_feature_layer
    if not isinstance(layer, int) or config.vision_feature_select_strategy != "default":
        raise ValueError(
            f"vision_feature_layer is {layer} and vision_feature_select_strategy"
            f" {config.vision_feature_select_strategy}, expected one layer and default"
        )
    return picture_parts(hf, folder, "vision_tower", "multi_modal_projector", layer)


PRETRAINED = Pretrained(
    name="llava",
    source="llava-hf/llava-1.5-7b-hf: its model card; transformers' LlavaProcessor",
    checkpoints=("llava-hf/llava-1.5-7b-hf", "llava-hf/llava-1.5-13b-hf"),
    model_type="llava",
    hf_class="LlavaForConditionalGeneration",
    decoder="llama",
    markers={"<pad>": "<pad>", "<s>": "<s>", "</s>": "</s>"},
    codes={"image.0": lambda checkpoint, size: [image_id(checkpoint)]},
    sizes=lambda checkpoint: {"image.0": 1},
    layout=_layout,
    tasks=_tasks,
    embeds={"image": InsideEmbeds("image", _parts)},
    frozen=("vision_tower",),
    cannot_make=lambda config: {"image": _NO_PICTURES},
    sampling=Sampling(text=SpanSampling(0.2)),
)
