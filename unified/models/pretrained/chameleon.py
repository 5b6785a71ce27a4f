"""Chameleon (arXiv:2405.09818) and Anole (arXiv:2407.06135), as transformers has Chameleon.

Source: `chameleon/inference/chameleon.py` of github.com/facebookresearch/chameleon (its `Options`:
text at temperature 0.7, top-p 0.9 and repetition penalty 1.2; pictures at temperature 0.7, top-p
0.9, guided by text with 3.0 and by the prompt's pictures with 1.2), transformers'
ChameleonProcessor, and `text2image.py` and `interleaved_generation.py` of
github.com/GAIR-NLP/anole: a picture is asked for with the prompt and the end of the user's turn,
an article with its instruction alone, which the model goes on from.

Anole is Chameleon with the rows of pictures in its head trained; the two are told apart by nothing
in their files.
"""

from __future__ import annotations

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.models.pretrained.base import Pretrained, PretrainedCheckpoint, named, refused
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import MediaPart, SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks

_GRID, _STRIDE = 32, 16
"""Codes on each side of a picture, and pixels a code: 512x512 pixels."""
DECODER = (
    "a Chameleon checkpoint that holds the decoder of its pictures, such as leloy/Anole-7b-v0.1-hf"
)


def _letters(code: int) -> str:
    """The digits of a code as letters, from A on."""
    return f"IMGIMG{''.join(chr(ord('A') + int(digit)) for digit in str(code))}Z"


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    """Draw and ask end the user's turn; an article goes on from its instruction, as Anole does."""
    meta = "github.com/facebookresearch/chameleon, chameleon/inference"
    anole = "github.com/GAIR-NLP/anole"
    side = _GRID * (stride or _STRIDE)
    size = SizeRule((side, side), fixed=True)
    picture = MediaPart("image", "prompt")
    answer = SlotPart("text", "response")
    tasks = (
        Task(
            "draw",
            (TextPart("{text}", "prompt"), SlotPart("image", "response")),
            f"{anole}: text2image.py",
            size=size,
            example="A piece of paper with the word Anole written on it",
        ),
        Task(
            "describe",
            (picture, TextPart("Describe the image in detail.", "prompt"), answer),
            meta,
            size=size,
        ),
        Task(
            "ask",
            (picture, TextPart("{question}", "prompt"), answer),
            meta,
            size=size,
            example="What do you see?",
        ),
        Task(
            "write",
            (TextPart("{text}", "prompt"), SlotPart("any", "prompt")),
            f"{anole}: interleaved_generation.py",
            size=size,
            example="Please introduce the city of Gyumri with pictures.",
        ),
    )
    return Tasks(
        {
            **{task.verb: task for task in tasks},
            **refused("Chameleon has no sound", "speak", "listen"),
        }
    )


PRETRAINED = Pretrained(
    name="chameleon",
    source="github.com/facebookresearch/chameleon, github.com/GAIR-NLP/anole",
    checkpoints=("facebook/chameleon-7b", "facebook/chameleon-30b", "leloy/Anole-7b-v0.1-hf"),
    model_type="chameleon",
    hf_class="ChameleonForConditionalGeneration",
    decoder="transformers",
    markers={
        "<pad>": "<pad>",
        "<s>": "<s>",
        "</s>": "</s>",
        "<sep>": "<reserved08706>",
        "<boi>": "<racm3:break>",
        "<eoi>": "<eoss>",
    },
    codes={"image.0": named(_letters)},
    inside={"image": "vqmodel"},
    codecs={"image": DECODER},
    tasks=_tasks,
    sampling=Sampling(
        text=SpanSampling(0.7, top_p=0.9, repetition_penalty=1.2),
        image=SpanSampling(
            0.7, top_p=0.9, guidance=Guidance(3.0, formula="three-way", image_scale=1.2)
        ),
        max_ids=4096,
    ),
)
