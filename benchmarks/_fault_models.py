"""Tiny model folders of every kind that can be opened: what the mutations of folders begin with.

A new layout joins by one line in `FOLDERS`.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PUBLISHED = Path(__file__).parents[1] / "tests" / "unified" / "published" / "conftest.py"
_TEXTS = ["a red fox on a green ground", "two owls and a lamp 90*12", "what is this? a tree"] * 3
_SIZES = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 12,
    "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 512,
}  # fmt: skip
_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def _tokenizers() -> tuple[Any, Any]:
    import torch

    from unified_tokenizers.audio import VQAudioTokenizer
    from unified_tokenizers.image import VQImageTokenizer

    torch.manual_seed(5)
    picture = {"stride": 32, "quantizer": {"levels": [3, 3]}, "encoder_width": 8,
               "decoder_width": 8, "encoder_depths": [1], "decoder_depths": [1, 0, 0]}  # fmt: skip
    sound = {"hop": 3200, "quantizer": {"levels": [3, 3], "depth": 2}, "num_mels": 8,
             "encoder_width": 8, "encoder_depth": 1, "decoder_width": 8,
             "decoder_depths": [1, 0]}  # fmt: skip
    return (
        VQImageTokenizer(VQImageTokenizer.parse_config(picture)).eval(),
        VQAudioTokenizer(VQAudioTokenizer.parse_config(sound)).eval(),
    )


def pocket(folder: Path) -> None:
    """A model of our own with both tokenizers and the subjects it knows."""
    from unified.models.model import UnifiedModel
    from unified.pocket.known_subjects import KnownSubjects
    from unified.vocabulary.text_tokenizer import TextTokenizer
    from unified_data.pocket.subjects import load_subjects

    image, audio = _tokenizers()
    text = TextTokenizer.train(_TEXTS, 280)
    model = UnifiedModel.create(
        {**_SIZES, "tie_word_embeddings": True},
        text_tokenizer=text, image_tokenizer=image, audio_tokenizer=audio, max_grid=8,
    )  # fmt: skip
    model.save_pretrained(folder)
    KnownSubjects.of(load_subjects()[:3]).save(folder)


def language_model(folder: Path) -> None:
    """A Llama in shards, with a tokenizer's companions and a chat template: to be extended."""
    import torch
    import transformers

    from tokenizers import AddedToken
    from unified.vocabulary.text_tokenizer import TextTokenizer

    torch.manual_seed(6)
    stored = TextTokenizer.train(_TEXTS, 280)._tokenizer
    stored.add_special_tokens(
        [AddedToken(t, special=True) for t in ("<s>", "<|start|>", "<|end|>")]
    )
    text = TextTokenizer(stored)
    rope = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
    config = transformers.LlamaConfig(**_SIZES, vocab_size=text.size, rope_parameters=rope)
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder, max_shard_size="20KB")
    text.save(folder)
    companions = {
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>",
                                  "eos_token": "<|end|>", "chat_template": _TEMPLATE,
                                  "model_max_length": 10**30},
        "special_tokens_map.json": {"bos_token": "<s>", "eos_token": "<|end|>"},
    }  # fmt: skip
    for name, entries in companions.items():
        (folder / name).write_text(json.dumps(entries, indent=1), "utf-8")


def extended(folder: Path) -> None:
    """That language model with pictures and sound."""
    import tempfile

    from unified.models.model import UnifiedModel

    image, audio = _tokenizers()
    with tempfile.TemporaryDirectory() as name:
        language_model(Path(name))
        model = UnifiedModel.extend(
            name, image_tokenizer=image, audio_tokenizer=audio, max_grid=8, format="pocket"
        )
    model.save_pretrained(folder)


def _published(kind: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        spec = importlib.util.spec_from_file_location("_published_layouts", _PUBLISHED)
        assert spec is not None
        assert spec.loader is not None
        layouts = importlib.util.module_from_spec(spec)
        import sys

        sys.modules[spec.name] = layouts
        spec.loader.exec_module(layouts)
        layouts.make(kind, folder)

    return make


FOLDERS: dict[str, Callable[[Path], None]] = {
    "pocket": pocket,
    "language_model": language_model,
    "extended": extended,
    "emu3": _published("emu3"),
    "chameleon": _published("chameleon"),
    "janus": _published("janus"),
    "liquid": _published("liquid"),
    "orpheus": _published("orpheus"),
    "janus-pro": _published("janus-pro"),
    "apertus": _published("apertus"),
}
"""By name what writes a folder."""


def use(name: str, folder: Path) -> None:
    """Do with a folder what a user would: open it, ask what it is, sample from it, extend it."""
    from unified.engine.request import Sampling
    from unified.models.info import describe_model
    from unified.models.model import UnifiedModel
    from unified_data.document import Document, Slot, Text

    if name == "language_model":
        # By its chat template where that was changed: a process for it takes a second.
        chat = (folder / "chat_template.jinja").exists()
        UnifiedModel.extend(folder, format="chat" if chat else "pocket")
        return
    model = UnifiedModel.from_pretrained(folder)
    if (folder / "unified.json").exists():
        describe_model(name, folder)
    if name == "orpheus":
        return  # it comes without its codec, and cannot speak
    roles = ("prompt", "response") if "response" in model.grammar.roles else (None, None)
    document = Document((Text("a fox", roles[0]), Slot("text", role=roles[1])))
    budget = 260 if name == "apertus" else 24  # whose documents begin with who it is
    model.generate(document, sampling=Sampling(max_ids=budget, max_audio_frames=1))
