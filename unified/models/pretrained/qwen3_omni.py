"""Qwen3-Omni (Qwen/Qwen3-Omni-30B-A3B-Instruct): its talker speaks a reply that is given.

Source: arXiv:2509.17765 and transformers' Qwen3OmniMoeForConditionalGeneration.generate: 16 codes a
position, 12.5 positions a second, temperature 0.9, top-k 50 and a repetition penalty of 1.05 for
the first code, top-k 50 and top-p 0.8 for the others; speakers by name, "ethan" where none is
named. The thinker, a mixture of experts that reads pictures, films and sound, is not computed:
nothing but its table of text is read, which is all that the talker takes of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unified.engine.request import Sampling
from unified.engine.sampler import LevelSampling, SpanSampling
from unified.formats.load import load_format
from unified.models.pretrained.base import (
    BEHIND,
    Pretrained,
    PretrainedCheckpoint,
    PretrainedLayout,
    refused,
)
from unified.tasks.task import SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks
from unified.vocabulary.text_tokenizer import TextTokenizer

_LEVELS = 16
_FRAMES = 4096  # transformers' talker_max_new_tokens
_OURS = ("<voice>", "</voice>", "<bos>", "<eos>", "<end>")  # behind the rows of text, in this order
_VOICE = "ethan"


def _part(checkpoint: PretrainedCheckpoint, *names: str) -> Mapping[str, Any]:
    """A part of config.json. Raises ValueError where there is none."""
    part: Any = checkpoint.config
    for name in names:
        part = part.get(name)
        if not isinstance(part, dict):
            raise ValueError(
                f"config.json in {checkpoint.folder} has no {'.'.join(names)}; take a checkpoint of"
                " Qwen3-Omni with its talker, such as Qwen/Qwen3-Omni-30B-A3B-Instruct"
            )
    return part


def _number(checkpoint: PretrainedCheckpoint, name: str, *parts: str) -> int:
    """A number of a part of config.json. Raises ValueError for none."""
    value = _part(checkpoint, *parts).get(name)
    if type(value) is not int:
        raise ValueError(
            f"config.json in {checkpoint.folder} has no {'.'.join((*parts, name))}, expected a"
            " whole number; take config.json from the same place as the weights"
        )
    return value


def _text_rows(checkpoint: PretrainedCheckpoint) -> int:
    return _number(checkpoint, "vocab_size", "thinker_config", "text_config")


def _ours(number: int) -> Callable[[PretrainedCheckpoint], int]:
    return lambda checkpoint: _text_rows(checkpoint) + number


def _sizes(checkpoint: PretrainedCheckpoint) -> dict[str, int]:
    predictor = ("talker_config", "code_predictor_config")
    levels = _number(checkpoint, "num_code_groups", "talker_config")
    if levels != _LEVELS:
        raise ValueError(
            f"config.json in {checkpoint.folder} has talker_config.num_code_groups {levels},"
            f" expected {_LEVELS}"
        )
    size = _number(checkpoint, "vocab_size", *predictor)
    return {f"audio.{level}": size for level in range(_LEVELS)}


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    return PretrainedLayout(load_format("qwen3-omni"))


def _speakers(config: Mapping[str, Any]) -> dict[str, int]:
    """Rows of the talker's table by a speaker's name."""
    speakers = (config.get("talker_config") or {}).get("speaker_id") or {}
    return {str(name): int(row) for name, row in speakers.items()}


def _name_speakers(hf: Any, folder: Path) -> None:
    """Tell an object of transformers which ids of text are the names of which speakers."""
    text = TextTokenizer.load(folder)
    speakers = _speakers(hf.config.to_dict())
    hf.speakers_by_ids = {tuple(text.encode(name)): name for name in speakers}


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    voices = tuple(_speakers(checkpoint.config))
    speak = Task(
        "speak",
        (
            TextPart("{voice}", "scene"),
            TextPart("Read this aloud: {text}", "prompt"),
            TextPart("{text}", "response"),
            SlotPart("audio", "response"),
        ),
        "the turns are ours; their layout is that of transformers' Qwen3OmniMoeForConditional"
        "Generation",
        voices=voices,
        voice=_VOICE if _VOICE in voices else next(iter(voices), None),
        example="Hello from the talker.",
    )
    thinks = "Qwen3-Omni's thinker is not computed here: its talker speaks texts that are given"
    return Tasks(
        {
            "speak": speak,
            **refused(thinks, "write", "draw", "describe", "ask", "listen", "reply"),
        }
    )


PRETRAINED = Pretrained(
    name="qwen3_omni",
    source="arXiv:2509.17765; transformers: Qwen3OmniMoeForConditionalGeneration",
    checkpoints=("Qwen/Qwen3-Omni-30B-A3B-Instruct",),
    model_type="qwen3_omni_moe",
    hf_class="Qwen3OmniMoeForConditionalGeneration",
    decoder="qwen-talker",
    markers={
        "<pad>": "<|endoftext|>",
        "<im_start>": "<|im_start|>",
        "<im_end>": "<|im_end|>",
        **{name: _ours(number) for number, name in enumerate(_OURS)},
    },
    num_rows=lambda checkpoint: _text_rows(checkpoint) + len(_OURS),
    codes={f"audio.{level}": BEHIND for level in range(_LEVELS)},
    sizes=_sizes,
    codes_output="model",
    layout=_layout,
    tasks=_tasks,
    inside={"audio": "code2wav"},
    prepare=_name_speakers,
    frozen=("thinker",),
    cannot_train="its talker reads a text beside the codes, and training lays one out behind the"
    " other",
    sampling=Sampling(
        audio=SpanSampling(
            0.9,
            top_k=50,
            repetition_penalty=1.05,
            levels=(
                LevelSampling(0.9, top_k=50, repetition_penalty=1.05),
                LevelSampling(1.0, top_k=50, top_p=0.8, repetition_penalty=1.0),
            ),
        ),
        max_audio_frames=_FRAMES,
    ),
)
