"""Dia (nari-labs/Dia-1.6B, as transformers has it): dialogues of texts with [S1] and [S2].

Source: the model card, github.com/nari-labs/dia, transformers' DiaProcessor and DiaGenerationMixin:
texts are bytes, guidance 3 whose 45 likeliest codes are drawn among by the prompt's own logits,
temperature 1.8, top-p 0.9: what the model card of Dia-1.6B-0626 calls it with (the defaults of
`Dia.generate` there are 1.2 and 0.95, with the same guidance and 45). A voice is a sound that
begins, its own text standing before the new one. A position has nine codes of DAC at 44.1 kHz, 86
positions a second.
"""

from __future__ import annotations

from collections.abc import Callable

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.models.pretrained.base import (
    Pretrained,
    PretrainedCheckpoint,
    level_codes,
    level_markers,
    refused,
)
from unified.tasks.task import SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks

_LEVELS = 9


def _row(checkpoint: PretrainedCheckpoint, level: int, row: int) -> int:
    """The id of a row of a level's table: the tables stand behind the bytes."""
    rows = checkpoint.part_number("decoder_config", "vocab_size")
    return checkpoint.part_number("encoder_config", "vocab_size") + level * rows + row


def _token(name: str) -> Callable[[PretrainedCheckpoint], int]:
    return lambda checkpoint: checkpoint.part_number("decoder_config", f"{name}_token_id")


def _unused(checkpoint: PretrainedCheckpoint) -> int:
    """The last row of level 0's table, which stands for nothing: the end of a document."""
    return _row(checkpoint, 1, -1)


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    speak = Task(
        "speak",
        (TextPart("{text}"), SlotPart("audio")),
        "huggingface.co/nari-labs/Dia-1.6B-0626",
        example="[S1] Dia is an open weights text to dialogue model. [S2] (laughs) It is.",
    )
    return Tasks(
        {
            "speak": speak,
            **refused("Dia has no pictures: it reads dialogues aloud", "draw", "describe"),
            **refused("Dia reads dialogues aloud and writes no text", "ask", "listen", "write"),
        }
    )


PRETRAINED = Pretrained(
    name="dia",
    source="github.com/nari-labs/dia; transformers: DiaProcessor, DiaGenerationMixin",
    checkpoints=("nari-labs/Dia-1.6B-0626",),
    model_type="dia",
    hf_class="DiaForConditionalGeneration",
    decoder="dia",
    markers={
        "<pad>": "<pad>",
        "<end>": _unused,
        **level_markers(_row, _LEVELS, {name: _token(name) for name in ("bos", "eos", "pad")}),
    },
    codes=level_codes(_row, _LEVELS),
    sizes=lambda checkpoint: {
        f"audio.{k}": checkpoint.part_number("decoder_config", "eos_token_id")
        for k in range(_LEVELS)
    },
    num_rows=lambda checkpoint: _row(checkpoint, _LEVELS, 0),
    tasks=_tasks,
    codecs={"audio": "DAC at 44.1 kHz (descript/dac_44khz)"},
    cannot_train="Dia reads texts by an encoder beside its decoder, and training lays documents"
    " out for a decoder alone: cross-attention inside packed documents is missing",
    sampling=Sampling(
        audio=SpanSampling(
            1.8, top_p=0.9, guidance=Guidance(3.0, "show-o", top_k=45), ends_likeliest=True
        ),
        max_ids=26_000,
    ),
)
