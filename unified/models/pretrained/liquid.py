"""Liquid (arXiv:2412.04332): Gemma with 8,192 rows for Chameleon's codes behind its own.

Source: `evaluation/inference_t2i.py`, `inference_i2t.py` and `T2I_Eval/genaibench_generation.py` of
github.com/FoundationVision/Liquid: " Generate an image based on this description." behind the
prompt, `<unconditional>` alone in the other branch, guidance 7, temperature 0.99, top-k 4096, top-p
0.96; questions in Gemma's turns, the picture before them. It comes without its codec.
"""

from __future__ import annotations

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.load import load_format
from unified.models.pretrained.base import (
    BEHIND,
    Pretrained,
    PretrainedCheckpoint,
    PretrainedLayout,
    refused,
)
from unified.models.pretrained.chameleon import DECODER
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import MediaPart, Refusal, SlotPart, Task, TextPart, Verb
from unified.tasks.task_table import Tasks

_CODES = 8192

_GRID, _STRIDE = 32, 16
"""Codes on each side of a picture, and pixels a code: 512x512 pixels."""
_TURNS = ("<start_of_turn>", "<end_of_turn>")


def has_turns(checkpoint: PretrainedCheckpoint) -> bool:
    """Whether the text tokenizer has the tokens of Gemma's turns."""
    return all(token in checkpoint.tokens for token in _TURNS)


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    return PretrainedLayout(load_format("liquid-chat" if has_turns(checkpoint) else "liquid"))


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    side = _GRID * (stride or _STRIDE)
    size = SizeRule((side, side), fixed=True)
    drawing, reading = (
        f"github.com/FoundationVision/Liquid, evaluation/{name}.py"
        for name in ("inference_t2i", "inference_i2t")
    )
    draw = Task(
        "draw",
        (TextPart("{text} Generate an image based on this description."), SlotPart("image")),
        drawing,
        size=size,
        example="young blue dragon with horn lightning in the style of dd fantasy full body",
    )
    readings: tuple[tuple[Verb, str, str], ...] = (
        ("describe", "Describe the image.", ""),
        ("ask", "{question}", "How to make this pastry?"),
    )
    about: dict[Verb, Task | Refusal] = {
        verb: Task(
            verb,
            (
                MediaPart("image", "prompt"),
                TextPart(f"\n{words}", "prompt"),
                SlotPart("text", "response"),
            ),
            reading,
            sampling={"max_text_ids": 1024},
            size=size,
            example=example,
        )
        for verb, words, example in readings
    }
    if not has_turns(checkpoint):
        reason = f"the text tokenizer has no {' and '.join(_TURNS)}, which Liquid is asked with"
        about = refused(reason, "describe", "ask")
    return Tasks(
        {
            "draw": draw,
            **about,
            **refused("Liquid writes no articles: it draws one picture, or answers", "write"),
            **refused("Liquid has no sound", "speak", "listen"),
        }
    )


PRETRAINED = Pretrained(
    name="liquid",
    source="github.com/FoundationVision/Liquid: evaluation/inference_t2i.py, inference_i2t.py",
    checkpoints=("Junfeng5/Liquid_V1_7B",),
    model_type="gemma",
    needs=("<boi>", "<eoi>", "<unconditional>"),
    markers={
        name: name
        for name in ("<pad>", "<bos>", "<eos>", "<boi>", "<eoi>", "<unconditional>", *_TURNS)
    },
    codes={"image.0": BEHIND},
    sizes=lambda checkpoint: {"image.0": _CODES},
    rows_behind=True,
    codecs={"image": DECODER},
    layout=_layout,
    tasks=_tasks,
    sampling=Sampling(image=SpanSampling(0.99, top_k=4096, top_p=0.96, guidance=Guidance(7.0))),
)
