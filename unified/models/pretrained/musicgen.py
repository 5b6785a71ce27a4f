"""MusicGen (facebook/musicgen-small, -medium, -large, -melody is another model): music of a text.

Source: arXiv:2306.05284, the model card, and transformers' MusicgenForConditionalGeneration: a
description in plain words. Guidance 3, top-k 250 and temperature 1 are the defaults of its authors
(audiocraft, `MusicGen.set_generation_params`); its generation_config.json has the same guidance and
leaves top-k to transformers, which takes 50. 50 positions a second of four codes of EnCodec
at 32 kHz, at most 30 seconds. Nothing but a number of frames ends a sound: 500, ten seconds, where
none is asked for. A sound that stands before is gone on with.
"""

from __future__ import annotations

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.load import load_format
from unified.models.pretrained.base import (
    Pretrained,
    PretrainedCheckpoint,
    PretrainedLayout,
    level_codes,
    level_markers,
    refused,
)
from unified.tasks.task import SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks

_LEVELS = 4
_FRAMES = 500


def _row(checkpoint: PretrainedCheckpoint, level: int, row: int) -> int:
    """The id of a row of a level's table: the tables stand behind the encoder's ids."""
    rows = checkpoint.part_number("decoder", "vocab_size") + 1
    return checkpoint.part_number("text_encoder", "vocab_size") + level * rows + row


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    """Raises ValueError for stereo, whose eight levels are laid out otherwise."""
    if (levels := checkpoint.part_number("decoder", "num_codebooks")) != _LEVELS:
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
        **level_markers(
            _row, _LEVELS, {"pad": lambda own: own.part_number("decoder", "pad_token_id")}
        ),
    },
    codes=level_codes(_row, _LEVELS),
    sizes=lambda checkpoint: {
        f"audio.{k}": checkpoint.part_number("decoder", "vocab_size") for k in range(_LEVELS)
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
