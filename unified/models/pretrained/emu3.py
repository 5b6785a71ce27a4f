"""Emu3-Gen and Emu3-Chat (arXiv:2409.18869), as transformers has them.

Source: the model cards of BAAI/Emu3-Gen and BAAI/Emu3-Chat, `emu3/mllm/processing_emu3.py` of
github.com/baaivision/Emu3, and transformers' Emu3Processor: quality words behind the prompt, a
negative prompt in its place for guidance, guidance 3.0 and top-k 2048; sizes of 518,400 pixels in
the proportion asked for; and "You are a helpful assistant. USER: PICTURE QUESTION. ASSISTANT:".
"""

from __future__ import annotations

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.load import load_format
from unified.models.pretrained.base import (
    Pretrained,
    PretrainedCheckpoint,
    PretrainedLayout,
    named,
    reading_rule,
    refused,
)
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import MediaPart, Refusal, SlotPart, Task, TextPart, Verb
from unified.tasks.task_table import Tasks

_GENERATION = "huggingface.co/BAAI/Emu3-Gen, its model card"
_CHAT = "github.com/baaivision/Emu3, emu3/mllm/processing_emu3.py"
_QUALITY = " masterpiece, film grained, best quality."
_NEGATIVE = (
    "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits,"
    " cropped, worst quality, low quality, normal quality, jpeg artifacts, signature, watermark,"
    " username, blurry."
)
_GRID = 90
"""Of codes, on each side of a picture of the usual size: 720 pixels at 8 pixels a code."""
_STRIDE = 8
# Positions of Emu3-Gen and of Emu3-Chat, the only thing that their files differ in.
_GEN_POSITIONS, _CHAT_POSITIONS = 9216, 131_072


def weights_of(checkpoint: PretrainedCheckpoint) -> str:
    """ "gen", "chat", or "" where config.json does not say which of the two it is."""
    positions = checkpoint.language.get("max_position_embeddings")
    if positions == _GEN_POSITIONS:
        return "gen"
    return "chat" if positions == _CHAT_POSITIONS else ""


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    return PretrainedLayout(load_format("emu3" if weights_of(checkpoint) == "gen" else "emu3-chat"))


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    stride = stride or _STRIDE
    side = _GRID * stride
    draw = Task(
        "draw",
        (TextPart("{text}" + _QUALITY), SlotPart("image")),
        _GENERATION,
        negative=_NEGATIVE,
        size=SizeRule((side, side), multiple_of=stride, max_area=side * side),
        example="a portrait of young girl.",
    )
    reading = reading_rule(checkpoint, stride)
    before, after = "You are a helpful assistant. USER: ", ". ASSISTANT:"
    readings: tuple[tuple[Verb, str, str], ...] = (
        ("describe", "Please describe the image", ""),
        ("ask", "{question}", "What is on the left"),
    )
    about: dict[Verb, Task] = {
        verb: Task(
            verb,
            (TextPart(before), MediaPart("image"), TextPart(words + after), SlotPart("text")),
            _CHAT,
            sampling={"max_text_ids": 320},
            size=reading,
            example=example,
        )
        for verb, words, example in readings
    }
    entries: dict[Verb, Task | Refusal] = {"draw": draw, **about}
    kind = weights_of(checkpoint)
    if kind == "gen":
        reason = "Emu3-Gen draws and reads no pictures; take Emu3-Chat's checkpoint"
        entries |= {verb: Refusal(verb, reason) for verb in about}
    if kind == "chat":
        entries["draw"] = Refusal("draw", "Emu3-Chat draws nothing; take Emu3-Gen's checkpoint")
    entries["write"] = Refusal(
        "write", "Emu3 writes no articles: it was trained on one picture or one text at a time"
    )
    return Tasks({**entries, **refused("Emu3 has no sound", "speak", "listen")})


PRETRAINED = Pretrained(
    name="emu3",
    source="huggingface.co/BAAI/Emu3-Gen, huggingface.co/BAAI/Emu3-Chat",
    checkpoints=("BAAI/Emu3-Gen-hf", "BAAI/Emu3-Chat-hf"),
    model_type="emu3",
    hf_class="Emu3ForConditionalGeneration",
    decoder="llama",
    markers={
        "<pad>": "@pad_token_id",
        "<bos>": "@bos_token_id",
        "<eos>": "@eos_token_id",
        "<boi>": "<|image start|>",
        "<img>": "<|image token|>",
        "<line>": "<|extra_200|>",
        "<frame>": "<|extra_201|>",
        "<eoi>": "<|image end|>",
    },
    codes={"image.0": named(lambda code: f"<|visual token {code:06d}|>")},
    inside={"image": "vqmodel"},
    layout=_layout,
    tasks=_tasks,
    sampling=Sampling(image=SpanSampling(1.0, top_k=2048, guidance=Guidance(3.0)), max_ids=9216),
)
