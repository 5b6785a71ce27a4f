"""New decoders over a vocabulary: one with random weights, or a language model with more rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unified import checkpoint
from unified.format_spec import load_format
from unified.grammar import Grammar
from unified.sequence import Sequencer
from unified.text import TextTokenizer
from unified.vocabulary import Vocabulary

__all__ = ["begin_with", "create_decoder", "extend_decoder"]


def create_decoder(
    config: Mapping[str, Any],
    text_tokenizer: TextTokenizer,
    image_tokenizer: Any,
    audio_tokenizer: Any,
    format: str | Path,
    max_grid: int,
) -> tuple[Sequencer, Any]:
    """A Qwen3 causal LM with random weights; see `UnifiedModel.create`."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import Qwen3Config, Qwen3ForCausalLM

    known = Qwen3Config().to_dict()
    unknown = sorted(set(config) - set(known) - {"rope_theta"})
    if unknown or "vocab_size" in config:
        found = unknown or ["vocab_size, which follows from the tokenizers"]
        raise ValueError(f"the decoder's config has {', '.join(found)}; leave it out")
    sequencer = _sequencer(
        format, text_tokenizer, text_tokenizer.size, image_tokenizer, audio_tokenizer, max_grid
    )
    try:
        full = Qwen3Config(**{**config, "vocab_size": sequencer.vocabulary.size})
    except StrictDataclassError as error:
        raise ValueError(f"the decoder's config does not hold together: {error}") from None
    return sequencer, Qwen3ForCausalLM(full)


def extend_decoder(
    llm: str | Path | Any,
    text_tokenizer: TextTokenizer | None,
    image_tokenizer: Any,
    audio_tokenizer: Any,
    format: str | Path,
    max_grid: int,
) -> tuple[Sequencer, Any]:
    """A language model with rows for new ids; see `UnifiedModel.extend`."""
    import torch

    if isinstance(llm, str | Path):
        if text_tokenizer is None:
            text_tokenizer = TextTokenizer.load(llm)
        hf = checkpoint.load_hf(Path(llm))
    else:
        hf = llm
    if text_tokenizer is None:
        raise ValueError("give text_tokenizer with a loaded language model: it does not say")
    old = int(hf.get_input_embeddings().weight.shape[0])
    if text_tokenizer.size > old:
        raise ValueError(
            f"the text tokenizer has {text_tokenizer.size} ids, but the language model only "
            f"{old} rows; it belongs to another model"
        )
    sequencer = _sequencer(format, text_tokenizer, old, image_tokenizer, audio_tokenizer, max_grid)
    hf.resize_token_embeddings(sequencer.vocabulary.size, mean_resizing=False)
    tables = [hf.get_input_embeddings()]
    head = hf.get_output_embeddings()
    if head is not None and head.weight is not tables[0].weight:
        tables.append(head)
    with torch.no_grad():
        for table in tables:
            rows = table.weight[:old].float()
            noise = torch.randn(len(table.weight) - old, rows.shape[1])
            mean, spread = rows.mean(0), rows.std(0, correction=0)
            table.weight[old:] = mean + 0.1 * spread * noise.to(rows.device)
            if getattr(table, "bias", None) is not None:
                table.bias[old:] = table.bias[:old].mean()
    return sequencer, hf


def begin_with(
    hf: Any, vocabulary: Vocabulary, start: Any, start_vocabulary: Vocabulary, fresh: Sequence[str]
) -> None:
    """Give a decoder another one's weights, its rows block by block.

    Rows of a block that the other vocabulary has in this size are its rows, unless their modality
    is among `fresh`: codes of another tokenizer mean something else. Those and what the other one
    lacks are drawn with the mean and spread of all its rows, from torch's global generator.

    Raises ValueError for a decoder of another shape.
    """
    import torch

    theirs = {block.name: block for block in start_vocabulary.blocks}
    state, mine = start.state_dict(), hf.state_dict()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name not in state or state[name].shape[1:] != mine[name].shape[1:]:
            continue
        old = state[name].float()
        rows = old.mean(0) + old.std(0) * torch.randn(mine[name].shape)
        for block in vocabulary.blocks:
            known = theirs.get(block.name)
            if known and known.size == block.size and block.name.split(".")[0] not in fresh:
                rows[block.start : block.start + block.size] = old[
                    known.start : known.start + known.size
                ]
        state[name] = rows
    if hf.config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    try:
        hf.load_state_dict(state)
    except RuntimeError as error:
        summary = " ".join(str(error).split())[:300]
        raise ValueError(f"the decoder to begin with does not fit this one: {summary}") from None


def _sequencer(
    format: str | Path,
    text_tokenizer: TextTokenizer,
    text_rows: int,
    image_tokenizer: Any,
    audio_tokenizer: Any,
    max_grid: int,
) -> Sequencer:
    """A sequencer over the vocabulary that these parts make."""

    def of(tokenizer: Any) -> tuple[tuple[int, ...], str] | None:
        if tokenizer is None:
            return None
        return tuple(int(size) for size in tokenizer.codebook_sizes), tokenizer.fingerprint

    vocabulary = Vocabulary.build(
        text_size=text_tokenizer.size,
        text_rows=text_rows,
        markers=load_format(format).markers,
        max_grid=max_grid,
        image=of(image_tokenizer),
        audio=of(audio_tokenizer),
        text_fingerprint=text_tokenizer.fingerprint,
    )
    grammar = Grammar.load(format, vocabulary)
    return Sequencer(vocabulary, grammar, text_tokenizer, image_tokenizer, audio_tokenizer)
