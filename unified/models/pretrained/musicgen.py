"""MusicGen (facebook/musicgen-small, -medium, -large, -melody is another model): music of a text.

Source: arXiv:2306.05284, the model card, and transformers' MusicgenForConditionalGeneration: a
description in plain words, guidance 3, top-k 250, 50 positions a second of four codes of EnCodec
at 32 kHz, at most 30 seconds. Nothing but a number of frames ends a sound: 500, ten seconds, where
none is asked for. A sound that stands before is gone on with.
"""

from __future__ import annotations

from collections.abc import Callable

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.load import load_format
from unified.models.pretrained.base import (
    Pretrained,
    PretrainedCheckpoint,
    PretrainedLayout,
    refused,
)
from unified.tasks.task import SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks

_LEVELS = 4
_FRAMES = 500


def _field(checkpoint: PretrainedCheckpoint, part: str, name: str) -> int:
    """A number of a part of config.json. Raises ValueError for none."""
    value = (checkpoint.config.get(part) or {}).get(name)
    if type(value) is not int:
        raise ValueError(
            f"config.json in {checkpoint.folder} has no {part}.{name}, expected a whole number;"
            " take config.json from the same place as the weights"
        )
    return value


def _row(checkpoint: PretrainedCheckpoint, level: int, row: int) -> int:
    """The id of a row of a level's table: the tables stand behind the encoder's ids."""
    rows = _field(checkpoint, "decoder", "vocab_size") + 1
    return _field(checkpoint, "text_encoder", "vocab_size") + level * rows + row


def _padding(level: int) -> Callable[[PretrainedCheckpoint], int]:
    return lambda checkpoint: _row(checkpoint, level, _field(checkpoint, "decoder", "pad_token_id"))


def _codes(level: int) -> Callable[[PretrainedCheckpoint, int], range]:
    return lambda checkpoint, size: range(
        _row(checkpoint, level, 0), _row(checkpoint, level, 0) + size
    )


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    """Raises ValueError for stereo, whose eight levels are laid out otherwise."""
    if (levels := _field(checkpoint, "decoder", "num_codebooks")) != _LEVELS:
        raise ValueError(
            f"config.json in {checkpoint.folder} says decoder.num_codebooks {levels}, expected"
            f" {_LEVELS}: MusicGen in stereo, and its melody model, cannot be opened yet"
        )
    return PretrainedLayout(load_format("musicgen"))


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    speak = Task(
        "speak",
        (TextPart("{text}"), SlotPart("audio")),
        "huggingface.co/facebook/musicgen-small",
        example="80s pop track with bassy drums and synth",
    )
    return Tasks(
        {
            "speak": speak,
            **refused("MusicGen has no pictures: it makes music of texts", "draw", "describe"),
            **refused("MusicGen makes music and writes no text", "ask", "listen", "write"),
        }
    )


PRETRAINED = Pretrained(
    name="musicgen",
    source="arXiv:2306.05284; huggingface.co/facebook/musicgen-small",
    checkpoints=("facebook/musicgen-small", "facebook/musicgen-medium", "facebook/musicgen-large"),
    model_type="musicgen",
    hf_class="MusicgenForConditionalGeneration",
    decoder="musicgen",
    markers={
        "<pad>": "<pad>",
        "<end>": "</s>",
        **{f"<pad.{k}>": _padding(k) for k in range(_LEVELS)},
    },
    codes={f"audio.{k}": _codes(k) for k in range(_LEVELS)},
    sizes=lambda checkpoint: {
        f"audio.{k}": _field(checkpoint, "decoder", "vocab_size") for k in range(_LEVELS)
    },
    num_rows=lambda checkpoint: _row(checkpoint, _LEVELS, 0),
    layout=_layout,
    tasks=_tasks,
    inside={"audio": "audio_encoder"},
    frozen=("text_encoder",),
    cannot_train="MusicGen reads texts by an encoder beside its decoder, and training lays"
    " documents out for a decoder alone: cross-attention inside packed documents is missing",
    sampling=Sampling(
        audio=SpanSampling(1.0, top_k=250, guidance=Guidance(3.0)),
        max_audio_frames=_FRAMES,
        max_ids=8192,
    ),
)
