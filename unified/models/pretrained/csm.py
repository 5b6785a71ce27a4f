"""CSM (sesame/csm-1b), a speech model of Mimi's 32 codebooks, as transformers has it.

Source: `generator.py` and the README of github.com/SesameAILabs/csm and transformers' CsmProcessor:
"[SPEAKER]TEXT", a speaker being a number from 0 on, temperature 0.9, top-k 50, 90 seconds at most.
It sounds best behind a recording of each speaker with its text: a document of such turns, the text
to be read, and a slot. Its codec, Mimi at 24 kHz and 12.5 frames a second, is in the checkpoint.
"""

from __future__ import annotations

from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling
from unified.models.pretrained.base import BEHIND, Pretrained, PretrainedCheckpoint, refused
from unified.tasks.task import SlotPart, Task, TextPart
from unified.tasks.task_table import Tasks

_CODEBOOKS = 32
_FRAMES = 1125  # 90 seconds


def _sizes(checkpoint: PretrainedCheckpoint) -> dict[str, int]:
    size = (checkpoint.config.get("codec_config") or {}).get("codebook_size")
    return {f"audio.{level}": size for level in range(_CODEBOOKS) if type(size) is int}


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    speak = Task(
        "speak",
        (TextPart("[{voice}]{text}"), SlotPart("audio")),
        "github.com/SesameAILabs/csm, generator.py; transformers' CsmProcessor",
        voice="0",
        example="Hello from Sesame.",
    )
    return Tasks(
        {
            "speak": speak,
            **refused("CSM has no pictures: it reads texts aloud", "draw", "describe", "ask"),
            **refused("CSM speaks and does not listen", "listen"),
            **refused("CSM reads texts aloud and writes none", "write"),
        }
    )


PRETRAINED = Pretrained(
    name="csm",
    source="github.com/SesameAILabs/csm: generator.py, README.md; huggingface.co/sesame/csm-1b",
    checkpoints=("sesame/csm-1b",),
    model_type="csm",
    hf_class="CsmForConditionalGeneration",
    decoder="csm",
    num_rows=lambda checkpoint: checkpoint.number("text_vocab_size"),
    codes_output="model",
    markers={
        "<pad>": "<|finetune_right_pad_id|>",
        "<bos>": "<|begin_of_text|>",
        "<eos>": "<|end_of_text|>",
        "<end>": "<|audio_eos|>",
    },
    codes={f"audio.{level}": BEHIND for level in range(_CODEBOOKS)},
    sizes=_sizes,
    tasks=_tasks,
    inside={"audio": "codec_model"},
    sampling=Sampling(audio=SpanSampling(0.9, top_k=50), max_audio_frames=_FRAMES),
)
