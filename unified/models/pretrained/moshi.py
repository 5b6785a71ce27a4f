"""Moshi (kyutai/moshika, as transformers has it: kmhf/hf-moshika): a voice that talks and listens.

Source: arXiv:2410.00037, section 3.4 and appendix, and transformers' MoshiForConditionalGeneration:
17 streams, a text and 8 codes of Mimi for each voice, temperature 0.8 and top-k 250 for sound, 0.7
and 25 for text. Nothing but a number of frames ends a dialogue: 125, ten seconds, where none is
asked for. The other voice is given, since nothing of the checkpoint writes it; where it is silent
it has the codes of a frame of nothing, as in transformers' generate.
"""

from __future__ import annotations

from collections.abc import Callable

from unified.engine.request import Sampling
from unified.engine.sampler import LevelSampling, SpanSampling
from unified.models.moshi_decoder import MARKERS
from unified.models.pretrained.base import BEHIND, Pretrained, PretrainedCheckpoint, refused
from unified.tasks.task import SlotPart, Task
from unified.tasks.task_table import Tasks

_CODEBOOKS = 8  # of each voice
_FRAMES = 125  # ten seconds


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    """Moshi reads no texts: it answers what it hears."""
    reply = Task(
        "reply",
        (SlotPart("audio", listens=True),),
        "arXiv:2410.00037, section 3.4; transformers' MoshiForConditionalGeneration",
    )
    hears = "Moshi hears and answers, and reads nothing: give it a sound to reply to"
    return Tasks(
        {
            "reply": reply,
            **refused("Moshi has no pictures: it talks", "draw", "describe"),
            **refused(hears, "write", "ask", "speak"),
            **refused("Moshi writes its own words and not those that it hears: reply", "listen"),
        }
    )


def _marker(number: int) -> Callable[[PretrainedCheckpoint], int]:
    return lambda checkpoint: checkpoint.number("vocab_size") + number


_NAMES = (
    "<text>",
    *(f"<{name}.{k}>" for name in ("speaker", "listener") for k in range(_CODEBOOKS)),
    "<pad>",
    "<end>",
)


def _sizes(checkpoint: PretrainedCheckpoint) -> dict[str, int]:
    size = checkpoint.number("audio_vocab_size")
    return {f"audio.{level}": size for level in range(2 * _CODEBOOKS)}


PRETRAINED = Pretrained(
    name="moshi",
    source="arXiv:2410.00037; huggingface.co/kmhf/hf-moshika, transformers' Moshi",
    checkpoints=("kmhf/hf-moshika", "kmhf/hf-moshiko"),
    model_type="moshi",
    hf_class="MoshiForConditionalGeneration",
    decoder="moshi",
    markers={name: _marker(number) for number, name in enumerate(_NAMES)},
    num_rows=lambda checkpoint: checkpoint.number("vocab_size") + 2 * _CODEBOOKS + MARKERS,
    codes={f"audio.{level}": BEHIND for level in range(2 * _CODEBOOKS)},
    sizes=_sizes,
    codes_output="model",
    special_text=True,
    tasks=_tasks,
    inside={"audio": "audio_encoder"},
    voices=2,
    cannot_train="Moshi's words and voices lie in streams beside each other, which training lays"
    " out for no document yet",
    # Level 0 is the text.
    sampling=Sampling(
        audio=SpanSampling(
            0.8, top_k=250, levels=(LevelSampling(0.7, top_k=25), LevelSampling(0.8, top_k=250))
        ),
        max_audio_frames=_FRAMES,
    ),
)
