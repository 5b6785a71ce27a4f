"""Higgs Audio v2 (bosonai/higgs-audio-v2-generation-3B-base, as transformers has it): speech.

Source: the model card and README of github.com/boson-ai/higgs-audio, and transformers'
HiggsAudioV2Processor: a system turn with a description of the scene, texts as the user's turns,
sound as the assistant's. A voice is one that was heard: its text and its sound stand before, as
turns of their own. Temperature 0.3, top-p 0.95 and top-k 50 are those of its README and notebooks
(its generation_config.json has temperature 1); the window of seven and the two repeats of its
repetition-aware sampling those of both generation_config.json and the serving code
(`boson_multimodal/serve/serve_engine.py`: ras_win_len, ras_win_max_num_repeat). Sound takes eight
codes of the Higgs Audio tokenizer a position, 25 positions a second.
"""

from __future__ import annotations

from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling
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

_LEVELS = 8
_SCENE = "\nAudio is recorded from a quiet room.\n"


def _row(checkpoint: PretrainedCheckpoint, level: int, row: int) -> int:
    """The id of a row of a level's table: the tables stand behind the ids of text."""
    number = checkpoint.number
    return number("vocab_size") + level * number("codebook_size") + row


def _sizes(checkpoint: PretrainedCheckpoint) -> dict[str, int]:
    """Codes of every level: the rows of its table before those that begin and end a stream."""
    first = min(checkpoint.number(f"audio_stream_{end}_id") for end in ("bos", "eos"))
    return {f"audio.{level}": first for level in range(_LEVELS)}


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    """Raises ValueError for a checkpoint with other codebooks than the published one."""
    if (levels := checkpoint.number("num_codebooks")) != _LEVELS:
        raise ValueError(
            f"config.json in {checkpoint.folder} says num_codebooks {levels}, expected {_LEVELS}:"
            " so many codes a position has in format 'higgs-audio-v2'"
        )
    return PretrainedLayout(load_format("higgs-audio-v2"))


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    speak = Task(
        "speak",
        (TextPart(_SCENE, "scene"), TextPart("{text}", "prompt"), SlotPart("audio", "response")),
        "github.com/boson-ai/higgs-audio, README.md; transformers, HiggsAudioV2Model",
        example="The sun rises in the east and sets in the west.",
    )
    return Tasks(
        {
            "speak": speak,
            **refused("Higgs Audio has no pictures: it reads texts aloud", "draw", "describe"),
            **refused("Higgs Audio has no head for text: it speaks and writes none", "write"),
            **refused("Higgs Audio hears voices, to speak as they do, and answers none", "ask"),
            **refused("Higgs Audio speaks, and has no head for text to write down", "listen"),
        }
    )


PRETRAINED = Pretrained(
    name="higgs_audio",
    source="github.com/boson-ai/higgs-audio: README.md; transformers: HiggsAudioV2Processor",
    checkpoints=("bosonai/higgs-audio-v2-generation-3B-base",),
    model_type="higgs_audio_v2",
    hf_class="HiggsAudioV2ForConditionalGeneration",
    decoder="higgs",
    markers={
        "<pad>": "@pad_token_id",
        "<bos>": "<|begin_of_text|>",
        "<header>": "<|start_header_id|>",
        "</header>": "<|end_header_id|>",
        "<scene>": "<|scene_desc_start|>",
        "</scene>": "<|scene_desc_end|>",
        "<eot>": "<|eot_id|>",
        "<audio>": "@audio_bos_token_id",
        "</audio>": "<|audio_eos|>",
        **level_markers(
            _row,
            _LEVELS,
            {
                "begin": lambda own: own.number("audio_stream_bos_id"),
                "end": lambda own: own.number("audio_stream_eos_id"),
            },
        ),
    },
    codes=level_codes(_row, _LEVELS),
    sizes=_sizes,
    num_rows=lambda checkpoint: _row(checkpoint, _LEVELS, 0),
    layout=_layout,
    tasks=_tasks,
    codecs={"audio": "the Higgs Audio tokenizer (eustlb/higgs-audio-v2-tokenizer)"},
    sampling=Sampling(
        audio=SpanSampling(0.3, top_k=50, top_p=0.95, repetition_window=7, window_repeats=2)
    ),
)
