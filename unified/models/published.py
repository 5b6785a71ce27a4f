"""Published checkpoints as unified models: their ids, format and codec, from their own files.

A checkpoint is known by its config.json and its text tokenizer: Emu3, Chameleon and Anole, Janus
(their whole checkpoints as transformers has them), Liquid, Orpheus. What their papers call special
tokens becomes markers and blocks of codes; those that no format names are held back, so that no
text can hold them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified.engine.request import Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.formats.spec import Format
from unified.models.hf_checkpoint import read_config
from unified.sequence.sequencer import Sequencer
from unified.vocabulary.block import Block
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.text import quoted

__all__ = ["fetch", "open_published", "published_kind"]


WITH_IMAGES = ("emu3", "chameleon", "janus")
"""Kinds whose checkpoints hold their image tokenizer."""


@dataclass(frozen=True)
class _Kind:
    """How a published model names its ids.

    markers: of the format, by their tokens; "@field" is an id that config.json gives.
    codes: block -> the token of a code, or None where codes stand behind all tokens.
    sampling: what its authors sample with.
    """

    markers: Mapping[str, str]
    codes: Mapping[str, Callable[[int], str] | None]
    sampling: Sampling


def _letters(code: int) -> str:
    """Chameleon's: digits as letters from A on."""
    return f"IMGIMG{''.join(chr(ord('A') + int(digit)) for digit in str(code))}Z"


def _slot(slot: int) -> Callable[[int], str]:
    """Orpheus': one of seven slots of a frame."""
    return lambda code: f"<custom_token_{10 + 4096 * slot + code}>"


_ENDS = {"<pad>": "@pad_token_id", "<bos>": "@bos_token_id", "<eos>": "@eos_token_id"}
_CHAMELEON = _Kind(
    {"<pad>": "<pad>", "<s>": "<s>", "</s>": "</s>", "<sep>": "<reserved08706>",
     "<boi>": "<racm3:break>", "<eoi>": "<eoss>"},
    {"image.0": _letters},
    Sampling(text=SpanSampling(0.7, top_p=0.9), image=SpanSampling(1.0), max_ids=4096),
)  # fmt: skip
_KINDS = {
    "emu3": _Kind(
        {**_ENDS, "<boi>": "<|image start|>", "<img>": "<|image token|>",
         "<line>": "<|extra_200|>", "<frame>": "<|extra_201|>", "<eoi>": "<|image end|>"},
        {"image.0": lambda code: f"<|visual token {code:06d}|>"},
        Sampling(image=SpanSampling(1.0, top_k=2048, guidance=Guidance(3.0)), max_ids=9216),
    ),
    "chameleon": _CHAMELEON,
    "janus": _Kind(
        {"<pad>": "<\uff5c\u2581pad\u2581\uff5c>",
         "<bos>": "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
         "<eos>": "<\uff5cend\u2581of\u2581sentence\uff5c>", "<boi>": "<begin_of_image>"},
        {"image.0": None},
        Sampling(image=SpanSampling(1.0, guidance=Guidance(5.0))),
    ),
    "liquid": _Kind(
        {"<pad>": "<pad>", "<bos>": "<bos>", "<eos>": "<eos>", "<boi>": "<boi>", "<eoi>": "<eoi>",
         "<unconditional>": "<unconditional>"},
        {"image.0": None},
        Sampling(image=SpanSampling(0.99, top_k=4096, top_p=0.96, guidance=Guidance(7.0))),
    ),
    "orpheus": _Kind(
        {"<bos>": "<|begin_of_text|>", "<eot>": "<|eot_id|>",
         **{name: f"<custom_token_{number}>" for number, name in enumerate(
             ("<sos>", "<eos>", "<soh>", "<eoh>", "<soa>", "<eoa>", "<pad>"), start=1)}},
        {f"audio.{slot}": _slot(slot) for slot in range(7)},
        Sampling(audio=SpanSampling(0.6, top_p=0.8)),
    ),
}  # fmt: skip
# Beside weights the files of text tokenizers, some of which have no JSON.
_FETCHED = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]
_SLOT_CODES = 4096  # of SNAC's codebooks
_LIQUID_CODES = 8192  # of Chameleon's


def published_kind(config: Mapping[str, Any], tokens: Mapping[str, int]) -> str | None:
    """The format of a checkpoint by its config.json and the ids of its tokens, None if unknown."""
    kind = config.get("model_type")
    if kind in WITH_IMAGES:
        return str(kind)
    if kind == "gemma" and {"<boi>", "<eoi>", "<unconditional>"} <= set(tokens):
        return "liquid"
    if kind == "llama" and f"<custom_token_{9 + 7 * _SLOT_CODES}>" in tokens:
        return "orpheus"
    return None


def open_published(
    folder: Path, image_tokenizer: Any = None, audio_tokenizer: Any = None
) -> tuple[Sequencer, Sampling]:
    """The sequencer of a published checkpoint, and what its authors sample with.

    image_tokenizer, audio_tokenizer: for checkpoints that come without their codec (Liquid's is
    Chameleon's, Orpheus' is SNAC); without one its codes are neither made nor decoded.

    Raises ValueError for a folder that is no known checkpoint, or lacks tokens of its kind.
    """
    config = read_config(folder)
    text = TextTokenizer.load(folder)
    tokens = {**(config.get("vocabulary_map") or {}), **text.tokens}
    name = published_kind(config, tokens)
    if name is None:
        raise ValueError(
            f"{folder} holds a {_word(config.get('model_type'))} that is neither a model of ours"
            f" (it has no unified.json) nor one of {', '.join(_KINDS)}; `UnifiedModel.extend` gives"
            " a language model pictures and sound"
        )
    kind = _KINDS[name]
    if name in WITH_IMAGES and image_tokenizer is None:
        from unified_tokenizers import load_tokenizer

        image_tokenizer = load_tokenizer(folder)
    format = load_format(name)
    vocabulary = _vocabulary(
        kind, format, config, tokens, text, _codebook_sizes(name, image_tokenizer)
    )
    return (
        Sequencer(vocabulary, Grammar(format, vocabulary), text, image_tokenizer, audio_tokenizer),
        kind.sampling,
    )


def _word(value: Any) -> str:
    return quoted(value).strip("'")


def _codebook_sizes(name: str, image_tokenizer: Any) -> dict[str, int]:
    if name == "orpheus":
        return dict.fromkeys(_KINDS[name].codes, _SLOT_CODES)
    size = _LIQUID_CODES if image_tokenizer is None else int(image_tokenizer.codebook_sizes[0])
    return {"image.0": size}


def _vocabulary(
    kind: _Kind,
    format: Format,
    config: Mapping[str, Any],
    tokens: Mapping[str, int],
    text: TextTokenizer,
    sizes: Mapping[str, int],
) -> Vocabulary:
    language = {**config, **(config.get("text_config") or {})}

    def id_of(token: str, owner: str) -> int:
        if token.startswith("@"):
            found = language.get(token[1:])
            found = found[0] if isinstance(found, list) and found else found
        else:
            found = tokens.get(token)
        if type(found) is not int:
            raise ValueError(
                f"a checkpoint of {format.name} has no {token.lstrip('@')} for {owner}; take its"
                " tokenizer.json and config.json from the same place as its weights"
            )
        return found

    rows = language.get("vocab_size")
    if type(rows) is not int:
        raise ValueError(f"config.json: vocab_size is {quoted(rows)}, expected a whole number")
    behind = [block for block, token in kind.codes.items() if token is None]
    if format.name == "liquid":
        rows -= sum(sizes[block] for block in behind)
    blocks = [
        Block("text", 0, rows, fingerprint=text.fingerprint),
        Block.at(
            "markers",
            [id_of(kind.markers[marker], marker) for marker in format.markers],
            symbols=format.markers,
        ),
    ]
    stop = rows
    for level, (block, token) in enumerate(kind.codes.items()):
        if token is None:
            blocks.append(Block(block, stop, sizes[block], level))
            stop += sizes[block]
        else:
            ids = [id_of(token(code), f"{block} code {code}") for code in range(sizes[block])]
            blocks.append(Block.at(block, ids, level=level))
    taken = {block.id(code) for block in blocks[1:] for code in range(block.size)}
    if held := sorted(set(text.special_ids) - taken):
        blocks.append(Block.at("reserved", held))
    literals = tuple((literal, tuple(text.encode(literal))) for literal in format.literals)
    return Vocabulary(tuple(blocks), text.size, rows, literals)


def fetch(name: str) -> Path:
    """The files of a checkpoint by its name on the Hugging Face hub; no pickles.

    Raises ValueError where the hub has none, or is out of reach.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", name):
        raise ValueError(
            f"there is no model {name!r}: expected 'pocket', a model's folder, or a name on the"
            " Hugging Face hub such as canopylabs/orpheus-3b-0.1-ft"
        )
    try:
        return Path(snapshot_download(name, allow_patterns=_FETCHED))
    except (OSError, ValueError, HTTPError) as error:
        summary = " ".join(str(error).split())[:300]
        raise ValueError(
            f"cannot fetch {name!r}: the Hugging Face hub gave {type(error).__name__}: {summary};"
            f" check the name, or run `hf download {name} --local-dir FOLDER` where there is a"
            " network and give FOLDER"
        ) from None
