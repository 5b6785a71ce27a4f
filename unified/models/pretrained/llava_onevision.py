"""LLaVA-OneVision (arXiv:2408.03326), as transformers has it: tiles of a picture, and its whole.

Source: the model card of llava-hf/llava-onevision-qwen2-7b-ov-hf and transformers'
LlavaOnevisionProcessor: a turn is "<|im_start|>user <image>\\nTEXT<|im_end|>"; the tiling, the
pooled grid and the vector behind each row are transformers' own.
"""

from __future__ import annotations

from typing import Any

from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling
from unified.formats.load import load_format
from unified.models.pretrained.base import (
    InsideEmbeds,
    Pretrained,
    PretrainedCheckpoint,
    PretrainedLayout,
    refused,
)
from unified.models.pretrained.llava import image_id
from unified.tasks.task import MediaPart, SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks

_NO_PICTURES = "LLaVA-OneVision reads pictures and writes text alone"


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    return PretrainedLayout(load_format("llava-onevision"))


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    source = "llava-hf/llava-onevision-qwen2-7b-ov-hf, its chat template"

    def task(verb: Any, words: str, example: str = "") -> Task:
        picture, text = MediaPart("image", "prompt"), TextPart(f"\n{words}", "prompt")
        return Task(verb, (picture, text, SlotPart("text", "response")), source, example=example)

    return Tasks(
        {
            "describe": task("describe", "Describe the image in detail."),
            "ask": task("ask", "{question}", "What is in the picture?"),
            **refused(_NO_PICTURES, "draw", "write"),
            **refused("LLaVA-OneVision has no sound", "speak", "listen"),
        }
    )


def _vectors(hf: Any, processor: Any, pixels: Any) -> Any:
    """The vectors (n, D) of a picture, uint8 (H, W, 3)."""
    inputs = processor(pixels, return_tensors="pt", input_data_format="channels_last")
    features = hf.base_model.get_image_features(
        pixel_values=inputs["pixel_values"].to(hf.device, hf.dtype),
        image_sizes=inputs["image_sizes"].to(hf.device),
        return_dict=True,
    ).pooler_output
    return features[0]


PRETRAINED = Pretrained(
    name="llava_onevision",
    source="llava-hf/llava-onevision-qwen2-7b-ov-hf: its model card and chat template",
    checkpoints=(
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    ),
    model_type="llava_onevision",
    hf_class="LlavaOnevisionForConditionalGeneration",
    decoder="transformers",
    markers={
        "<pad>": "<|endoftext|>",
        "<im_start>": "<|im_start|>",
        "<im_end>": "<|im_end|>",
    },
    codes={"image.0": lambda checkpoint, size: [image_id(checkpoint)]},
    sizes=lambda checkpoint: {"image.0": 1},
    layout=_layout,
    tasks=_tasks,
    embeds={"image": InsideEmbeds("image", vectors=_vectors)},
    cannot_make=lambda config: {"image": _NO_PICTURES},
    cannot_train="its tiles are made by transformers' own code, which training does not run yet",
    sampling=Sampling(text=SpanSampling(0.0)),
)
