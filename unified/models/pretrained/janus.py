"""Janus and Janus-Pro (arXiv:2410.13848, arXiv:2501.17811), as transformers has them.

Source: `generation_inference.py` and the README of github.com/deepseek-ai/Janus and transformers'
JanusProcessor: one picture of 384x384 pixels, guidance 5 and temperature 1, everything between
the begin of the text and that of the picture blanked out with padding in the other branch. Turns
are "<|User|>: TEXT" and "<|Assistant|>:" in Janus-Pro, where both names are special tokens, and
"User: TEXT" and "Assistant:" in Janus. Pictures are understood by a vision tower of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.load import load_format
from unified.models.pretrained.base import (
    BEHIND,
    InsideEmbeds,
    Pretrained,
    PretrainedCheckpoint,
    PretrainedLayout,
    refused,
)
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import MediaPart, SlotPart, Task, TextPart, Verb
from unified.tasks.task_table import Tasks
from unified_data.document import Role

if TYPE_CHECKING:
    from unified.models.grafting.embedder import EmbedderParts

_GRID, _STRIDE = 24, 16
"""Codes on each side of a picture, and pixels a code: 384x384 pixels."""
_TURNS = {"<user>": "<|User|>", "<assistant>": "<|Assistant|>"}


def is_pro(checkpoint: PretrainedCheckpoint) -> bool:
    """Whether turns begin with special tokens, as in Janus-Pro."""
    special = set(checkpoint.text.special_ids)
    return all(checkpoint.tokens.get(token) in special for token in _TURNS.values())


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    if is_pro(checkpoint):
        return PretrainedLayout(load_format("janus-pro"), _TURNS)
    return PretrainedLayout(load_format("janus"))


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    source = "github.com/deepseek-ai/Janus, generation_inference.py"
    if is_pro(checkpoint):
        prompt = TextPart(": {text}\n\n", "prompt")
        slot = SlotPart("image", "response")
    else:
        prompt, slot = TextPart("User: {text}\n\nAssistant:"), SlotPart("image")
    side = _GRID * (stride or _STRIDE)
    draw = Task(
        "draw",
        (prompt, slot),
        source,
        size=SizeRule((side, side), fixed=True),
        example="A close-up photo of a red fox in the snow",
    )
    return Tasks(
        {
            "draw": draw,
            "describe": _seeing("describe", is_pro(checkpoint)),
            "ask": _seeing("ask", is_pro(checkpoint)),
            **refused("Janus writes no articles: it draws one picture or answers", "write"),
            **refused("Janus has no sound", "speak", "listen"),
        }
    )


def _seeing(verb: Verb, pro: bool) -> Task:
    """A question about a picture, as the model's chat template lays it out."""
    source = "deepseek-community/Janus-Pro-1B, its chat template"
    words = "{question}" if verb == "ask" else "Describe the image in detail."
    example = "What is in the picture?" if verb == "ask" else ""
    if pro:
        role: Role | None = "prompt"
        before, after = ": ", f"\n{words}\n\n"
        slot = SlotPart("text", "response")
    else:
        role, before, after = None, "User: ", f"\n{words}\n\nAssistant:"
        slot = SlotPart("text")
    parts = (TextPart(before, role), MediaPart("image", role), TextPart(after, role), slot)
    return Task(verb, parts, source, example=example)


def _parts(hf: Any, folder: Path) -> EmbedderParts:
    from unified.models.grafting.published_parts import picture_parts

    return picture_parts(hf, folder, "vision_model", "aligner")


def _place(checkpoint: PretrainedCheckpoint, size: int) -> list[int]:
    """The id that holds a vector's place."""
    return [checkpoint.id_of("<image_placeholder>", "what stands where a picture is seen")]


PRETRAINED = Pretrained(
    name="janus",
    source="github.com/deepseek-ai/Janus: generation_inference.py, README.md",
    checkpoints=(
        "deepseek-community/Janus-Pro-1B",
        "deepseek-community/Janus-Pro-7B",
        "deepseek-community/Janus-1.3B",
    ),
    model_type="janus",
    hf_class="JanusForConditionalGeneration",
    decoder="janus",
    markers={
        "<pad>": "<\uff5c\u2581pad\u2581\uff5c>",
        "<bos>": "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
        "<eos>": "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<boi>": "<begin_of_image>",
        "<eoi>": "<end_of_image>",
    },
    codes={"image.0": BEHIND, "seen.0": _place},
    sizes=lambda checkpoint: {"seen.0": 1},
    embeds={"seen": InsideEmbeds("image", _parts)},
    layout=_layout,
    tasks=_tasks,
    inside={"image": "vqmodel"},
    frozen=("vision_model", "aligner"),
    sampling=Sampling(image=SpanSampling(1.0, guidance=Guidance(5.0))),
)
