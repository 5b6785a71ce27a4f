"""New decoders over a vocabulary: one with random weights, or a language model with more rows."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unified.formats.chat_format import NAME as CHAT
from unified.formats.chat_format import WITH_TOOLS, ChatFormat, chat_format
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.formats.parser import parse_format, write_format
from unified.formats.spec import Format
from unified.formats.text_to_text_format import check_encoded, text_to_text_format
from unified.models import hf_checkpoint as checkpoint
from unified.models.code_output import (
    CodesOutput,
    add_codes_output,
    codes_output,
    depth_decoder_of,
    laid_out,
)
from unified.models.files import FILE_NAME, model_directory
from unified.models.grafting.graft import Graft, add_spans, make_embedders
from unified.models.stored_weights import check_dtype
from unified.sequence.modality import registered_modalities
from unified.sequence.sequencer import Sequencer
from unified.vocabulary.block import Block
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.foreign import foreign
from unified_base.model_config import check_model_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from unified.models.grafting.embedder import MediaEmbedder
    from unified_tokenizers.base import AudioTokenizer, ImageTokenizer, MediaTokenizer

__all__ = ["begin_with", "create_decoder", "extend_decoder"]


def create_decoder(
    config: Mapping[str, Any],
    text_tokenizer: TextTokenizer,
    image_tokenizer: ImageTokenizer | None,
    audio_tokenizer: AudioTokenizer | None,
    format: str | Path,
    max_grid: int,
    others: Mapping[str, MediaTokenizer] | None = None,
    codes: str | None = None,
    depth: Mapping[str, Any] | None = None,
) -> tuple[Sequencer, Any, CodesOutput | None]:
    """A Qwen3 causal LM with random weights; see `UnifiedModel.create`."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import Qwen3Config, Qwen3ForCausalLM

    known = Qwen3Config().to_dict()
    unknown = sorted(set(config) - set(known) - {"rope_theta"})
    if unknown or "vocab_size" in config:
        fields = unknown or ["vocab_size, which follows from the tokenizers"]
        raise ValueError(f"the decoder's config has {', '.join(fields)}; leave it out")
    check_model_config(config, "the decoder's config")
    sequencer = _sequencer(
        _layout(format, text_tokenizer),
        text_tokenizer,
        text_tokenizer.size,
        image_tokenizer,
        audio_tokenizer,
        max_grid,
        others,
    )
    try:
        full = Qwen3Config(**{**config, "vocab_size": sequencer.vocabulary.size})
    except StrictDataclassError as error:
        raise ValueError(f"the decoder's config does not hold together: {error}") from None
    declared = codes_output(sequencer.grammar, full, codes, depth)
    with foreign("a decoder of this config cannot be made"):  # larger than memory, most often
        hf = Qwen3ForCausalLM(full)
        add_codes_output(hf, declared)
    return sequencer, hf, declared


def extend_decoder(
    llm: str | Path | PreTrainedModel,
    text_tokenizer: TextTokenizer | None,
    image_tokenizer: ImageTokenizer | None,
    audio_tokenizer: AudioTokenizer | None,
    format: str | Path,
    max_grid: int,
    initialise: str,
    dtype: str | None,
    others: Mapping[str, MediaTokenizer] | None = None,
    device: str | None = None,
    layouts: Mapping[str, str | None] | None = None,
    depth: Mapping[str, Any] | None = None,
    grafts: Mapping[str, Graft] | None = None,
    attended: bool = False,
    bidirectional: Sequence[str] = (),
) -> tuple[Sequencer, Any, CodesOutput | None, tuple[str, ...]]:
    """A language model with rows for new ids, its codes' output and notes; see
    `UnifiedModel.extend`.

    layouts: by modality, see `laid_out`. grafts: by modality, what it is read through. attended:
    whether the decoder's layers attend to that. bidirectional: what is seen both ways, beside what
    the format says.
    """
    import torch

    from unified.models.init_rows import check_name, new_rows, vectors_of

    check_name(initialise)
    if dtype is not None:
        check_dtype(dtype)
    media = {"image": image_tokenizer, "audio": audio_tokenizer, **(others or {})}
    hf: Any = None
    if not isinstance(llm, str | Path):
        hf, config = llm, llm.config
    else:
        folder = model_directory(llm)
        if (folder / FILE_NAME).exists():
            raise ValueError(f"{folder} is a unified model already; take the language model it was")
        config = checkpoint.load_config(folder)
        if text_tokenizer is None:
            text_tokenizer = TextTokenizer.load(folder)
    if text_tokenizer is None:
        raise ValueError("give text_tokenizer with a loaded language model: it does not say")
    # Before the weights, which may take minutes.
    places = bool({"box", "point"} & set(others or {}))
    layout = _layout(format, text_tokenizer, config, places)
    if isinstance(layout, ChatFormat):
        plain, codes = laid_out(layout.format, layouts or {})
        layout = replace(layout, format=plain)
    else:
        layout, codes = laid_out(layout, layouts or {})
    if checkpoint.has_encoder(config.to_dict()):
        plain = layout.format if isinstance(layout, ChatFormat) else layout
        bidirectional = bidirectional or ([] if plain.bidirectional else ["prompt"])
        check_encoded(_seen_both_ways(plain, bidirectional))
    own_codes = [name for name, tokenizer in media.items() if tokenizer is not None]
    width = int(config.get_text_config().hidden_size)
    embedders = make_embedders(grafts or {}, width, own_codes, attended)
    if hf is None:
        hf = checkpoint.load_hf(folder, dtype=dtype or "auto", device=device or "cpu")
    else:
        if dtype is not None:
            hf.to(getattr(torch, dtype))
        if device is not None:
            hf = checkpoint.move(hf, device)
    old = _rows(hf, text_tokenizer)
    sequencer = _sequencer(
        layout, text_tokenizer, old, image_tokenizer, audio_tokenizer, max_grid, others, embedders,
        bidirectional,
    )  # fmt: skip
    declared = codes_output(sequencer.grammar, config, codes, depth)
    blocks = sequencer.vocabulary.blocks
    vectors = vectors_of(blocks, media) if initialise == "codebook" else {}
    _part_head(hf)
    hf.resize_token_embeddings(sequencer.vocabulary.size, mean_resizing=False)
    new_rows(hf, old, initialise, vectors)
    add_codes_output(hf, declared)
    notes = tuple(f"the text tokenizer: {note}" for note in text_tokenizer.notes)
    chat_notes = layout.notes if isinstance(layout, ChatFormat) else ()
    return sequencer, hf, declared, (*notes, *chat_notes)


def _part_head(hf: Any) -> None:
    """Let a T5 whose head has rows of its own keep them: its config says that they are the
    embedding's, and rows would be given to that alone."""
    head = hf.get_output_embeddings().weight
    if checkpoint.has_encoder(hf.config.to_dict()) and head is not hf.get_input_embeddings().weight:
        hf.config.tie_word_embeddings = False


def _rows(hf: PreTrainedModel, text_tokenizer: TextTokenizer) -> int:
    """The rows of a language model. Raises ValueError for one that cannot be given more."""
    if hf.config.get_text_config() is not hf.config:
        raise ValueError(
            f"a {hf.config.model_type} is more than a language model; expected a causal language"
            " model of text alone, such as the one in it"
        )
    if getattr(hf, "hf_quantizer", None) is not None:
        raise ValueError(
            "the language model's weights are quantised; take the checkpoint it was made from"
        )
    table: Any = hf.get_input_embeddings()
    old, head = len(table.weight), hf.get_output_embeddings()
    if head is None or len(head.weight) != old:
        lacks = "no head" if head is None else f"a head of {len(head.weight)} rows"
        raise ValueError(f"the language model has {lacks} beside {old} rows of its embedding")
    if text_tokenizer.size > old:
        raise ValueError(
            f"the text tokenizer has {text_tokenizer.size} ids, but the language model only "
            f"{old} rows; it belongs to another model"
        )
    return old


def begin_with(
    hf: PreTrainedModel,
    vocabulary: Vocabulary,
    start: PreTrainedModel,
    start_vocabulary: Vocabulary,
    fresh: Sequence[str],
) -> None:
    """Give a decoder another one's weights, its rows block by block.

    Rows of a block that the other vocabulary has in this size are its rows, unless their modality
    is among `fresh`: codes of another tokenizer mean something else. Those and what the other one
    lacks are drawn with the mean and covariance of all its rows, from torch's global generator: the
    whole decoder is trained on, so that nothing is gained by holding them near the mean. A depth
    decoder is the other one's where that has one of the same sizes for the same ids, none of them
    fresh; else it stays as it is.

    Raises ValueError for a decoder of another shape.
    """
    from unified.engine.backends.depth_module import DEPTH_DECODER
    from unified.models.init_rows import Moments, fill_rows

    theirs = {block.name: block for block in start_vocabulary.blocks}
    state, mine = start.state_dict(), hf.state_dict()
    tables: list[Any] = [model.get_input_embeddings() for model in (start, hf)]
    tables = [table.weight for table in tables]
    head, own_head = (model.get_output_embeddings().weight for model in (start, hf))
    pairs = [tables] if own_head is tables[1] else [tables, [head, own_head]]
    for source, target in pairs:
        name = next(name for name, value in hf.named_parameters() if value is target)
        if source.shape[1:] != target.shape[1:]:
            continue  # said below
        rows = mine[name].float().clone()
        fill_rows(rows, 0, "mean-covariance", Moments(source), share=1.0)
        for block in vocabulary.blocks:
            known = theirs.get(block.name)
            if known and known.size == block.size and block.name.split(".")[0] not in fresh:
                rows[block.start : block.start + block.size] = source.detach()[
                    known.start : known.start + known.size
                ]
        state[name] = rows
    if hf.config.tie_word_embeddings:
        for name, value in hf.named_parameters(remove_duplicate=False):
            if value is own_head:
                state[name] = rows
    own_depth, depth = depth_decoder_of(hf), depth_decoder_of(start)
    same = own_depth is not None and depth is not None and own_depth.config == depth.config
    if not same or fresh or vocabulary.hash != start_vocabulary.hash:
        prefix = f"{DEPTH_DECODER}."
        state = {name: value for name, value in state.items() if not name.startswith(prefix)}
        state |= {name: value for name, value in mine.items() if name.startswith(prefix)}
    try:
        hf.load_state_dict(state)
    except RuntimeError as error:
        summary = " ".join(str(error).split())[:300]
        raise ValueError(f"the decoder to begin with does not fit this one: {summary}") from None


def _layout(
    format: str | Path,
    text_tokenizer: TextTokenizer,
    config: PreTrainedConfig | None = None,
    places: bool = False,
) -> Format | ChatFormat:
    """A format by its name, or the one of the text tokenizer's chat template, with spans of boxes
    and points if `places`."""
    if str(format) == CHAT and config is not None and checkpoint.has_encoder(config.to_dict()):
        return text_to_text_format(text_tokenizer, config, places)
    if str(format) in (CHAT, WITH_TOOLS):
        return chat_format(text_tokenizer, config, places, str(format) == WITH_TOOLS)
    return load_format(format)


def _sequencer(
    layout: Format | ChatFormat,
    text_tokenizer: TextTokenizer,
    text_rows: int,
    image_tokenizer: ImageTokenizer | None,
    audio_tokenizer: AudioTokenizer | None,
    max_grid: int,
    others: Mapping[str, MediaTokenizer] | None = None,
    embedders: Mapping[str, MediaEmbedder] | None = None,
    bidirectional: Sequence[str] = (),
) -> Sequencer:
    """A sequencer over the vocabulary that these parts make."""
    embedders = embedders or {}

    def of(tokenizer: MediaTokenizer) -> tuple[tuple[int, ...], str]:
        return tuple(int(size) for size in tokenizer.codebook_sizes), tokenizer.fingerprint

    chat = layout if isinstance(layout, ChatFormat) else None
    format = chat.format if chat else layout
    assert isinstance(format, Format)
    tokens = chat.tokens if chat else {}
    by_name = {"image": image_tokenizer, "audio": audio_tokenizer, **(others or {})}
    media = {name: of(tokenizer) for name, tokenizer in by_name.items() if tokenizer is not None}
    format = _without(format, [name for name in registered_modalities() if name not in media])
    format = _seen_both_ways(_with_labels(add_spans(format, embedders), media), bidirectional)
    media |= {kind: ((1,), embedder.fingerprint) for kind, embedder in embedders.items()}
    built = Vocabulary.build(
        text_size=text_tokenizer.size,
        text_rows=text_rows,
        markers=[marker for marker in format.markers if marker not in tokens],
        max_grid=max_grid,
        text_fingerprint=text_tokenizer.fingerprint,
        others=media,
    )
    blocks = list(built.blocks)
    if tokens:
        blocks.append(Block.at(CHAT, tokens.values(), symbols=tuple(tokens)))
    # What no text becomes must not be sampled as text either.
    if held := sorted(set(text_tokenizer.special_ids) - set(tokens.values())):
        blocks.append(Block.at("reserved", held))
    literals = {text: tuple(text_tokenizer.encode(text)) for text in format.literals}
    literals.update(chat.literals if chat else ())
    vocabulary = Vocabulary(
        tuple(blocks), built.text_size, built.text_rows, tuple(literals.items())
    )
    grammar = Grammar(format, vocabulary)
    return Sequencer(
        vocabulary, grammar, text_tokenizer, image_tokenizer, audio_tokenizer, others=others,
        embedders=embedders,
    )  # fmt: skip


def _seen_both_ways(format: Format, names: Sequence[str]) -> Format:
    """A format with roles and kinds of spans whose positions see one another."""
    if not names:
        return format
    top = yaml.safe_load(format.source)
    top["bidirectional"] = list(dict.fromkeys([*format.bidirectional, *names]))
    return parse_format(write_format(top))


def _with_labels(format: Format, tokenizers: Container[str]) -> Format:
    """A format with a span of labels where they have codes and it has none."""
    if "label" not in tokenizers or "label" in format.spans:
        return format
    top = yaml.safe_load(format.source)
    top["markers"] += ["<label>", "</label>"]
    code = {"repeat": 1, "of": [{"codes": "label"}]}
    top["spans"]["label"] = [{"marker": "<label>"}, code, {"marker": "</label>"}]
    return parse_format(write_format(top))


def _without(format: Format, kinds: Sequence[str]) -> Format:
    """A format without the spans of these kinds, for which there is no tokenizer."""
    if not set(kinds) & set(format.spans):
        return format
    top = yaml.safe_load(format.source)
    top["spans"] = {kind: span for kind, span in top["spans"].items() if kind not in kinds}
    return parse_format(write_format(top))
