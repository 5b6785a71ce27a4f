"""Apertus 1.5 (swiss-ai/Apertus-v1.5-8B and -70B), as transformers has it.

One table of 266,752 ids: text, 131,072 codes of pictures (Emu3.5's IBQ) and 4,096 of sound
(WavTokenizer). The published heads have the 131,072 rows of text alone: the model reads pictures
and sound and writes text. `UnifiedModel.extend` gives the head rows for the others.

Source: transformers' Apertus1p5Config and Apertus1p5Processor, and of
github.com/swiss-ai/apertus-omni-tokenizer the chat template `chat_templates/Apertus_1p5` and the
names of the tokens in `omnitok/modalities.py`; temperature 0.8 and top-p 0.9 of Apertus' model
card. The words that describe and transcribe are ours: the authors publish none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling
from unified.formats.load import load_format
from unified.models.pretrained.base import (
    Pretrained,
    PretrainedCheckpoint,
    PretrainedLayout,
    counted,
    reading_rule,
)
from unified.tasks.task import MediaPart, Refusal, SlotPart, Task, TextPart, Verb
from unified.tasks.task_table import Tasks

_SOURCE = "huggingface.co/swiss-ai/Apertus-v1.5-8B; the words of this package"
_TURNS = {
    "<system>": "<|system_start|>",
    "</system>": "<|system_end|>",
    "<developer>": "<|developer_start|>",
    "</developer>": "<|developer_end|>",
    "<user>": "<|user_start|>",
    "</user>": "<|user_end|>",
    "<assistant>": "<|assistant_start|>",
    "</assistant>": "<|assistant_end|>",
}
_STRIDE = 16  # pixels a code
_NAMES = {"image": "pictures", "audio": "sound"}


def chats(checkpoint: PretrainedCheckpoint) -> bool:
    """Whether the text tokenizer has the tokens of turns."""
    return all(token in checkpoint.tokens for token in _TURNS.values())


def _layout(checkpoint: PretrainedCheckpoint) -> PretrainedLayout:
    if chats(checkpoint):
        return PretrainedLayout(load_format("apertus"), _TURNS)
    return PretrainedLayout(load_format("apertus-base"))


def _sizes(checkpoint: PretrainedCheckpoint) -> dict[str, int]:
    parts = {"image.0": ("vision_config", 131_072), "audio.0": ("audio_config", 4096)}
    return {
        block: int((checkpoint.config.get(part) or {}).get("codebook_size", usual))
        for block, (part, usual) in parts.items()
    }


def _cannot_make(config: Mapping[str, Any]) -> dict[str, str]:
    rows = (config.get("text_config") or {}).get("output_vocab_size")
    if rows is None:
        return {}
    return {
        modality: (
            f"the head has {rows:,} rows, those of text: it reads {name} and cannot write them;"
            " `UnifiedModel.extend` (`unified extend`) gives it rows for them, to be trained"
        )
        for modality, name in _NAMES.items()
    }


def _tasks(checkpoint: PretrainedCheckpoint, stride: int | None) -> Tasks:
    prompts: dict[Verb, tuple[TextPart | MediaPart | SlotPart, ...]] = {
        "write": (_say("Write an illustrated article: {text}"), _slot("any")),
        "draw": (_say("Draw a picture: {text}"), _slot("image")),
        "describe": (_media("image"), _say("Describe this image."), _slot("text")),
        "ask": (_media("image"), _say("{question}"), _slot("text")),
        "speak": (_say("Read aloud: {text}"), _slot("audio")),
        "listen": (_media("audio"), _say("Transcribe this audio."), _slot("text")),
    }
    if not chats(checkpoint):  # nobody who asks: it goes on with a text
        prompts = {
            "write": (TextPart("{text}"), SlotPart("any")),
            "draw": (TextPart("{text}"), SlotPart("image")),
            "describe": (MediaPart("image"), SlotPart("text")),
            "ask": (MediaPart("image"), TextPart("{question}"), SlotPart("text")),
            "speak": (TextPart("{text}"), SlotPart("audio")),
            "listen": (MediaPart("audio"), SlotPart("text")),
        }
    reading = reading_rule(checkpoint, stride or _STRIDE)
    entries: dict[Verb, Task | Refusal] = {
        verb: Task(verb, parts, _SOURCE, size=reading if verb in ("describe", "ask") else None)
        for verb, parts in prompts.items()
    }
    if reasons := _cannot_make(checkpoint.config):
        entries["write"] = Refusal("write", reasons["image"])
    return Tasks(entries)


def _say(words: str) -> TextPart:
    return TextPart(words, "prompt")


def _media(kind: str) -> MediaPart:
    return MediaPart(kind, "prompt")


def _slot(kind: str) -> SlotPart:
    return SlotPart(kind, "response")


PRETRAINED = Pretrained(
    name="apertus",
    source=_SOURCE,
    checkpoints=("swiss-ai/Apertus-v1.5-8B", "swiss-ai/Apertus-v1.5-70B"),
    model_type="apertus1p5",
    hf_class="Apertus1p5ForConditionalGeneration",
    decoder="transformers",
    markers={
        "<pad>": "@pad_token_id",
        "<bos>": "@bos_token_id",
        "<eos>": "@eos_token_id",
        "<boi>": "<|img_start|>",
        "<img>": "<|img_token_start|>",
        "<line>": "<|img_end_of_row|>",
        "<eoi>": "<|img_end|>",
        "<boa>": "<|audio_start|>",
        "<eoa>": "<|audio_end|>",
    },
    codes={"image.0": counted("image_token_offset"), "audio.0": counted("audio_token_offset")},
    sizes=_sizes,
    inside={"image": "vision_tokenizer", "audio": "audio_tokenizer"},
    codecs={
        "image": "Emu3.5's vision tokenizer with its decoder (`unified tokenizer convert`)",
        "audio": "the whole WavTokenizer, swiss-ai/wavtokenizer-large-unify-40token",
    },
    layout=_layout,
    tasks=_tasks,
    cannot_make=_cannot_make,
    sampling=Sampling(text=SpanSampling(0.8, top_p=0.9)),
)
