"""Orpheus (Llama 3 with SNAC's codes, canopylabs/orpheus-3b-0.1-ft): texts read aloud.

Source: the README of github.com/canopyai/Orpheus-TTS and the model card: `VOICE: TEXT`, eight
English voices, temperature 0.6, top-p 0.8, and a repetition penalty of at least 1.1, "required for
stable generations". A frame has seven slots, of 4,096 ids each: `<custom_token_N>` with
N = 10 + 4096 * slot + code. It comes without its codec, SNAC at 24 kHz.
"""

from __future__ import annotations

from collections.abc import Callable

from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling
from unified.models.pretrained.base import Pretrained, PretrainedCheckpoint, named, refused
from unified.tasks.task import SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks

_CODES = 4096  # of each of SNAC's codebooks
_SLOTS = 7


def _slot(slot: int) -> Callable[[int], str]:
    return lambda code: f"<custom_token_{10 + _CODES * slot + code}>"


_MARKERS = ("<sos>", "<eos>", "<soh>", "<eoh>", "<soa>", "<eoa>", "<pad>")

_VOICES = ("tara", "leah", "jess", "leo", "dan", "mia", "zac", "zoe")


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    speak = Task(
        "speak",
        (TextPart("{voice}: {text}", "prompt"), SlotPart("audio", "response")),
        "github.com/canopyai/Orpheus-TTS, README.md: Prompting",
        voices=_VOICES,
        voice=_VOICES[0],
        example="I went to the market <laugh> and it was closed.",
    )
    return Tasks(
        {
            "speak": speak,
            **refused("Orpheus has no pictures: it reads texts aloud", "draw", "describe", "ask"),
            **refused("Orpheus speaks and does not listen", "listen"),
            **refused("Orpheus reads texts aloud and writes none", "write"),
        }
    )


PRETRAINED = Pretrained(
    name="orpheus",
    source="github.com/canopyai/Orpheus-TTS: README.md; huggingface.co/canopylabs",
    checkpoints=("canopylabs/orpheus-3b-0.1-ft", "canopylabs/orpheus-3b-0.1-pretrained"),
    model_type="llama",
    needs=(f"<custom_token_{9 + _SLOTS * _CODES}>",),
    markers={
        "<bos>": "<|begin_of_text|>",
        "<eot>": "<|eot_id|>",
        **{name: f"<custom_token_{number}>" for number, name in enumerate(_MARKERS, start=1)},
    },
    codes={f"audio.{slot}": named(_slot(slot)) for slot in range(_SLOTS)},
    sizes=lambda checkpoint: {f"audio.{slot}": _CODES for slot in range(_SLOTS)},
    tasks=_tasks,
    codecs={"audio": "SNAC at 24 kHz (hubertsiuzdak/snac_24khz) in safetensors"},
    sampling=Sampling(audio=SpanSampling(0.6, top_p=0.8, repetition_penalty=1.1)),
)
