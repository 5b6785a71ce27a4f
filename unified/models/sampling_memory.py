"""Memory that sampling from a model takes, from its config.json alone: no weights are read.

The model is made by transformers on the device "meta", where tensors have shapes and no memory, so
that every architecture that it has is counted as it is. What is stated: weights by their type, the
KV cache for an id, the workspace of a pass, and what of it fits into a device's memory.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unified.engine.backends.cpu.config import PANEL, LlamaCpuConfig
from unified.models.pretrained import pretrained_models
from unified.models.quantized import INT4_GROUP, INT4_INPUTS, INT4_OUTPUTS, quantized_layers
from unified_base.foreign import foreign

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PREFILL_IDS", "Fit", "SamplingMemory", "packed_bytes", "sampling_memory"]

PREFILL_IDS = 512
"""New ids of a pass, at most: longer prompts are read in parts."""
_NUMBERS = {"float32": 4, "bfloat16": 2}
_COMPUTED = {"float32": "float32", "bfloat16": "bfloat16", "int8": "bfloat16", "int4": "bfloat16"}
_USABLE = 0.95  # of a device's memory; the rest is the runtime's, and lost between blocks
_LOGITS = 3 * 4  # bytes for an id of the vocabulary: logits, masked, sorted


@dataclass(frozen=True)
class Fit:
    """What fits beside the weights.

    rows: sequences of as many ids as asked. longest: ids of one sequence alone, no more than the
    model has positions. Both 0 where the weights do not fit.
    """

    rows: int
    longest: int


@dataclass(frozen=True)
class SamplingMemory:
    """Bytes that a model takes for sampling.

    Attributes:
        parameters: numbers in its weights, media tokenizers inside its checkpoint among them.
        weights: bytes by type, as torch has them on a device; of int8 and int4 the layers alone
            are quantized, embeddings and head stay bfloat16.
        packed: bytes by type as the CPU backend packs them; empty where it does not cover the
            model.
        cache: bytes of keys and values of an id, by the cache's type.
        hidden: numbers for each new id of a pass, beside weights and cache.
        vocabulary: ids that have logits.
        positions: the most ids of a sequence.
    """

    parameters: int
    weights: Mapping[str, int]
    packed: Mapping[str, int]
    cache: Mapping[str, int]
    hidden: int
    vocabulary: int
    positions: int

    def workspace(self, dtype: str) -> int:
        """Bytes of a pass over PREFILL_IDS new ids, with weights of a type."""
        return PREFILL_IDS * self.hidden * _NUMBERS[_COMPUTED[dtype]]

    @property
    def logits(self) -> int:
        """Bytes of the logits of a row of a pass."""
        return _LOGITS * self.vocabulary

    def fit(self, dtype: str, memory: float, ids: int = 2048) -> Fit:
        """What of sequences of so many ids fits into a device of `memory` bytes.

        dtype: of `weights`; the cache is bfloat16, beside float32 weights float32.
        """
        cache = self.cache[_COMPUTED[dtype]]
        left = _USABLE * memory - self.weights[dtype] - self.workspace(dtype)
        rows = int(left // (cache * ids + self.logits))
        longest = int((left - self.logits) // cache)
        return Fit(max(0, rows), max(0, min(longest, self.positions)))

    def to_json(self, memories: tuple[float, ...], ids: int = 2048) -> dict[str, Any]:
        """All of it, with what fits into devices of so many bytes."""
        return {
            "parameters": self.parameters, "weights": dict(self.weights),
            "packed_weights": dict(self.packed),
            "cache_per_1000_ids": {name: 1000 * size for name, size in self.cache.items()},
            "workspace": {dtype: self.workspace(dtype) for dtype in self.weights},
            "logits_of_a_row": self.logits,
            "positions": self.positions,
            "fits": [
                {
                    "memory": memory, "dtype": dtype, "ids": ids,
                    "rows": self.fit(dtype, memory, ids).rows,
                    "longest": self.fit(dtype, memory, ids).longest,
                }
                for memory in memories
                for dtype in self.weights
            ],
        }  # fmt: skip


def sampling_memory(config: Mapping[str, Any], where: str) -> SamplingMemory:
    """What sampling takes from a model of this config.json. where: the file, for errors.

    Raises ValueError for one that transformers has no causal language model for.
    """
    hf = _meta_model(config, where)
    # Of Qwen3-Omni the talker alone is computed.
    talker = getattr(hf.config, "talker_config", None)
    text = hf.config.get_text_config() if talker is None else talker.text_config
    try:
        layers, D = text.num_hidden_layers, text.hidden_size
        # Moshi's ffn_dim is of gate and value together.
        F = getattr(text, "intermediate_size", None) or text.ffn_dim // 2
        H = text.num_attention_heads
        G = getattr(text, "num_key_value_heads", None) or H
        C = getattr(text, "head_dim", None) or D // H
        V, positions = text.vocab_size, text.max_position_embeddings
    except (AttributeError, TypeError) as missing:
        raise ValueError(
            f"{where} is not of a decoder whose keys and values can be counted: {missing}"
        ) from None
    numbers = 2 * layers * G * C  # of an id's keys and values
    return SamplingMemory(
        parameters=sum(p.numel() for p in hf.parameters()),
        weights=_weights(hf),
        packed=_packed(hf),
        cache={name: numbers * size for name, size in _NUMBERS.items()},
        hidden=4 * D + (H + 2 * G) * C + H * C + 3 * F,
        vocabulary=V,
        positions=positions,
    )


def _meta_model(config: Mapping[str, Any], where: str) -> Any:
    import torch
    import transformers

    kind = config.get("model_type")
    classes = [
        published.hf_class
        for published in pretrained_models().values()
        if published.model_type == kind and published.hf_class
    ]
    with foreign(f"{where} is not of a model that transformers can make"), torch.device("meta"):
        # It changes what it is made of.
        made_of = transformers.AutoConfig.for_model(**copy.deepcopy(dict(config)))
        if classes:
            return getattr(transformers, classes[0])._from_config(made_of)
        return transformers.AutoModelForCausalLM.from_config(made_of)


def _weights(hf: PreTrainedModel) -> dict[str, int]:
    """Bytes of weights by type, as torch has them."""
    numbers = sum(p.numel() for p in hf.parameters())
    quantized = [layer.weight.shape for _, layer in quantized_layers(hf)]
    others = 2 * (numbers - sum(outputs * inputs for outputs, inputs in quantized))
    # torchao: a scale (bfloat16) and a zero (int8) for each output; of int4 a scale and a zero
    # (bfloat16) for each output and group.
    int8 = sum(outputs * (inputs + 3) for outputs, inputs in quantized)
    int4 = 0
    for outputs, inputs in quantized:
        if inputs % INT4_GROUP:  # torchao leaves such a layer as it is
            int4 += 2 * outputs * inputs
            continue
        inputs += -inputs % INT4_INPUTS
        outputs += -outputs % INT4_OUTPUTS
        int4 += outputs * inputs // 2 + outputs * inputs // INT4_GROUP * 4
    by_type = {name: size * numbers for name, size in _NUMBERS.items()}
    return {**by_type, "int8": others + int8, "int4": others + int4}


def _packed(hf: PreTrainedModel) -> dict[str, int]:
    """Bytes of weights by type as the CPU backend packs them; none where it does not cover them."""
    text: dict[str, Any] = hf.config.get_text_config().to_dict()
    inner = {
        published.model_type
        for published in pretrained_models().values()
        if published.decoder in ("llama", "janus")
    }
    if hf.config.model_type in inner:  # a Llama by another name
        text |= {"model_type": "llama", "hidden_act": "silu"}
    if not LlamaCpuConfig.covers(text):
        return {}
    sizes = LlamaCpuConfig.from_hf(text)
    return {dtype: packed_bytes(sizes, dtype) for dtype in ("float32", "bfloat16", "int8")}


def packed_bytes(sizes: LlamaCpuConfig, dtype: str) -> int:
    """Bytes of a decoder's weights as the CPU backend packs them, of one of its types."""
    total = 0
    for shape in sizes.shapes().values():
        if len(shape) == 1:
            total += 4 * shape[0]
            continue
        outputs, inputs = shape
        outputs += -outputs % PANEL
        if dtype == "int8":
            from unified.engine.backends.cpu.int8_pack import GROUP

            inputs += -inputs % GROUP
            total += outputs * inputs + 2 * outputs * inputs // GROUP
        else:
            total += _NUMBERS[dtype] * outputs * inputs
    return total
