"""Chat templates in the manner of those in use, text tokenizers that have them, and documents."""

import json
from functools import cache

from transformers import AutoTokenizer

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from unified import TextTokenizer
from unified.formats.chat_format import chat_format
from unified.models.extend import _sequencer
from unified_data.document import Document, Text

TEXTS = [
    "Hello there, how are you?\n\nI am fine.\n\n", "user\n\nassistant\nmodel\n What is this?",
    "x:Q x:Q", "It is a zebra.\n\n <|user|>\n<|assistant|>\n",
] * 6  # fmt: skip

# Short templates of our own in the manner of those that are in use.
CHATML = """
{%- for m in messages -%}
  {%- if loop.first and m.role != 'system' -%}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}
  {%- endif -%}
  {{- '<|im_start|>' + m.role + '\n' -}}
  {%- if m.role == 'assistant' -%}
    {%- generation -%}{{ m.content + '<|im_end|>' }}{%- endgeneration -%}
  {%- else -%}{{ m.content + '<|im_end|>' }}{%- endif -%}
  {{- '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"""
LLAMA3 = """{{- bos_token -}}
{%- for m in messages -%}
  {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%}"""
GEMMA = """{{- bos_token -}}
{%- for m in messages -%}
  {%- set name = 'model' if m.role == 'assistant' else m.role -%}
  {{- '<start_of_turn>' + name + '\n' + m.content | trim + '<end_of_turn>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}"""
MISTRAL = """{{- bos_token -}}
{%- for m in messages -%}
  {%- if m.role == 'user' -%}{{- '[INST]' + m.content + '[/INST]' -}}
  {%- else -%}{{- m.content + eos_token -}}{%- endif -%}
{%- endfor -%}"""
ZEPHYR = """
{%- for m in messages -%}{{- '<|' + m.role + '|>\n' + m.content + eos_token + '\n' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\n' -}}{%- endif -%}"""
STYLES = {
    "chatml": (CHATML, ["<|im_start|>", "<|im_end|>"]),
    "llama3": (LLAMA3, ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
                        "<|eot_id|>"]),
    "gemma": (GEMMA, ["<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"]),
    "mistral": (MISTRAL, ["<s>", "</s>", "[INST]", "[/INST]"]),
    "zephyr": (ZEPHYR, ["<s>", "</s>"]),
}  # fmt: skip
ENDS = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>",
        "mistral": "</s>", "zephyr": "</s>"}  # fmt: skip
BEGINS = ("<s>", "<bos>", "<|begin_of_text|>")


def with_template(backend: Tokenizer, template: str | None, special=()) -> TextTokenizer:
    backend.encode_special_tokens = False
    backend.add_special_tokens([AddedToken(name, special=True) for name in special])
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    for name in special:
        if name in BEGINS:
            config["bos_token"] = name
        if name in ("</s>", "<eos>"):
            config["eos_token"] = name
    if template is not None:
        config["chat_template"] = template
    return TextTokenizer(backend, {"tokenizer_config.json": json.dumps(config).encode()})


# How Llama 3 and Qwen cut texts: line breaks stay together, whatever follows them.
LINES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(template: str | None, special=("<s>", "</s>"), lines=False) -> TextTokenizer:
    """A tokenizer that cuts texts as GPT-2 does; lines: as Llama 3 and Qwen. The same for the same
    arguments."""
    return _byte_level(template, tuple(special), lines)


@cache
def _byte_level(template: str | None, special: tuple[str, ...], lines: bool) -> TextTokenizer:
    if not lines:
        return with_template(TextTokenizer.train(TEXTS, 330)._tokenizer, template, special)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LINES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return with_template(tokenizer, template, special)


def opened(text: TextTokenizer, folder):
    """The tokenizer as transformers has it."""
    text.save(folder)
    return AutoTokenizer.from_pretrained(folder)


# A chat template is rendered in a process of its own, which takes its time to begin.
format_of = cache(chat_format)


@cache
def sequencer_of(text: TextTokenizer):
    return _sequencer(format_of(text), text, text.size + 3, None, None, 4)


def document(contents, loss=(0.0, 1.0)) -> Document:
    roles = ("prompt", "response")
    return Document(tuple(Text(s, roles[at % 2], loss[at % 2]) for at, s in enumerate(contents)))


def messages(contents):
    return [{"role": ("user", "assistant")[at % 2], "content": s} for at, s in enumerate(contents)]


def pieces(pre_tokenizer=None, normalizer=None, specials=("<unk>", "<s>", "</s>")) -> Tokenizer:
    """SentencePiece's kind, with bytes to fall back to."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False,
        special_tokens=[*specials, *(f"<0x{byte:02X}>" for byte in range(256))],
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.train_from_iterator([line for text in TEXTS for line in text.split("\n")], trainer)
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = [a for a in parts["added_tokens"] if a["content"] in specials]
    tokenizer = Tokenizer.from_str(json.dumps(parts))
    if pre_tokenizer is not None:
        tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer
