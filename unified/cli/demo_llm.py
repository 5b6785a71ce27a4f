"""A tiny language model with random weights, in the layout of Llama, to try the commands on."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["write_tiny_llm"]

_TEXT_IDS = 2000
_SEED = 16
_MARKERS = ("<|im_start|>", "<|im_end|>")
# ChatML without a system message of its own.
_CHAT_TEMPLATE = """{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""


def write_tiny_llm(folder: Path) -> None:
    """Write a checkpoint that transformers loads: 2 layers of width 64, 2,048 rows, bfloat16.

    Its text tokenizer is a byte-level BPE trained on the pocket world's sentences. The weights are
    random, from a seed of their own; torch's global generator stays as it was.

    Args:
        folder: an empty folder, or one that can be made.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tokenizers import AddedToken
    from unified.vocabulary.text_tokenizer import TextTokenizer
    from unified_base.quiet import no_progress_bars
    from unified_data.demo import training_sentences

    folder.mkdir(parents=True, exist_ok=True)
    TextTokenizer.train(training_sentences(), _TEXT_IDS).save(folder)
    _add_markers(folder, [AddedToken(marker, special=True) for marker in _MARKERS])
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": _CHAT_TEMPLATE,
        "eos_token": _MARKERS[1],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), "utf-8")
    config = LlamaConfig(
        vocab_size=2048, hidden_size=64, intermediate_size=192, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=_TEXT_IDS + 1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), no_progress_bars():
        torch.manual_seed(_SEED)
        LlamaForCausalLM(config).bfloat16().save_pretrained(folder)


def _add_markers(folder: Path, markers: list) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(markers)
    tokenizer.save(str(folder / "tokenizer.json"))
