"""Memory that sampling from a model takes, from its config.json alone: no weights are read.

The model is made by transformers on the device "meta", where tensors have shapes and no memory, so
that every architecture that it has is counted as it is. What is stated: weights by their type, the
KV cache for a position, the workspace of a pass, and what of it fits into a device's memory. A
position holds an id, or several codes: what writes those behind the first is counted, too.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unified.engine.backends.cpu.config import PANEL, LlamaCpuConfig
from unified.engine.backends.depth_config import DepthConfig
from unified.models.code_output import attach_depth_decoder
from unified.models.pass_sizes import (
    PassSizes,
    depth_cache_bytes,
    plain_sizes,
    published_sizes,
)
from unified.models.pretrained import pretrained_models
from unified.models.quantized import INT4_GROUP, INT4_INPUTS, INT4_OUTPUTS, quantized_layers
from unified_base.foreign import foreign
from unified_base.meta_device import on_meta_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PREFILL_IDS", "Fit", "SamplingMemory", "packed_bytes", "sampling_memory"]

PREFILL_IDS = 512
"""New positions of a pass, at most: longer prompts are read in parts."""
_NUMBERS = {"float32": 4, "bfloat16": 2}
_COMPUTED = {"float32": "float32", "bfloat16": "bfloat16", "int8": "bfloat16", "int4": "bfloat16"}
_USABLE = 0.95  # of a device's memory; the rest is the runtime's, and lost between blocks
_LOGITS = 3 * 4  # bytes for an id of the vocabulary: logits, masked, sorted


@dataclass(frozen=True)
class Fit:
    """What fits beside the weights.

    rows: sequences of as many positions as asked. longest: positions of one sequence alone, no more
    than the model has. Both 0 where the weights do not fit.
    """

    rows: int
    longest: int


@dataclass(frozen=True)
class SamplingMemory:
    """Bytes that a model takes for sampling.

    Attributes:
        parameters: numbers in its weights, media tokenizers inside its checkpoint among them.
        weights: bytes by type, as torch has them on a device; of int8 and int4 the layers alone
            are quantized, embeddings, heads and a depth decoder stay bfloat16.
        packed: bytes by type as the CPU backend packs them; empty where it does not cover the
            model.
        cache: bytes of keys and values of a position, by the cache's type; with a text encoder
            those of an id of text too, as if there were as many.
        hidden: numbers for each new position of a pass, beside weights and cache.
        vocabulary: ids that have logits.
        positions: the most of a sequence.
        ids_of_a_position: the most that one holds.
        depth_cache: bytes of keys and values in a depth decoder, by their type, for each row of a
            pass whose position is being filled.
    """

    parameters: int
    weights: Mapping[str, int]
    packed: Mapping[str, int]
    cache: Mapping[str, int]
    hidden: int
    vocabulary: int
    positions: int
    ids_of_a_position: int = 1
    depth_cache: Mapping[str, int] = field(default_factory=dict)

    def workspace(self, dtype: str) -> int:
        """Bytes of a pass over PREFILL_IDS new positions, with weights of a type."""
        return PREFILL_IDS * self.hidden * _NUMBERS[_COMPUTED[dtype]]

    @property
    def logits(self) -> int:
        """Bytes of the logits of a row of a pass."""
        return _LOGITS * self.vocabulary

    def fit(self, dtype: str, memory: float, positions: int = 2048) -> Fit:
        """What of sequences of so many positions fits into a device of `memory` bytes.

        dtype: of `weights`; the cache is bfloat16, beside float32 weights float32.
        """
        cache = self.cache[_COMPUTED[dtype]]
        left = _USABLE * memory - self.weights[dtype] - self.workspace(dtype)
        row = self.logits + self.depth_cache.get(_COMPUTED[dtype], 0)
        rows = int(left // (cache * positions + row))
        longest = int((left - row) // cache)
        return Fit(max(0, rows), max(0, min(longest, self.positions)))

    def to_json(self, memories: tuple[float, ...], positions: int = 2048) -> dict[str, Any]:
        """All of it, with what fits into devices of so many bytes."""
        return {
            "parameters": self.parameters, "weights": dict(self.weights),
            "packed_weights": dict(self.packed),
            "cache_per_1000_positions": {name: 1000 * size for name, size in self.cache.items()},
            "ids_of_a_position": self.ids_of_a_position,
            "depth_cache_of_a_row": dict(self.depth_cache),
            "workspace": {dtype: self.workspace(dtype) for dtype in self.weights},
            "logits_of_a_row": self.logits,
            "positions": self.positions,
            "fits": [
                {
                    "memory": memory, "dtype": dtype, "positions": positions,
                    "rows": self.fit(dtype, memory, positions).rows,
                    "longest": self.fit(dtype, memory, positions).longest,
                }
                for memory in memories
                for dtype in self.weights
            ],
        }  # fmt: skip


def sampling_memory(
    config: Mapping[str, Any],
    where: str,
    depth: DepthConfig | None = None,
    ids_of_a_position: int = 1,
) -> SamplingMemory:
    """What sampling takes from a model of this config.json.

    where: the file, for errors. depth: of the depth decoder beside it, as unified.json declares it.
    ids_of_a_position: the most that its format puts into one.

    Raises ValueError for one that transformers has no causal language model for.
    """
    hf = _meta_model(config, where)
    if depth is not None:
        attach_depth_decoder(hf, depth)
    own = published_sizes(hf, where)
    sizes = own or plain_sizes(hf, where)
    depth = depth or sizes.depth
    depth_cache = {}
    if depth is not None:
        depth_cache = {name: depth_cache_bytes(depth, size) for name, size in _NUMBERS.items()}
    return SamplingMemory(
        parameters=sum(p.numel() for p in hf.parameters()),
        weights=_weights(hf),
        packed=_packed(hf, sizes, depth),
        cache={name: sizes.cache_numbers * size for name, size in _NUMBERS.items()},
        hidden=sizes.hidden,
        vocabulary=sizes.vocabulary,
        positions=sizes.positions,
        ids_of_a_position=max(ids_of_a_position, sizes.ids_of_a_position),
        depth_cache=depth_cache,
    )


def _meta_model(config: Mapping[str, Any], where: str) -> Any:
    import transformers

    kind = config.get("model_type")
    classes = [
        published.hf_class
        for published in pretrained_models().values()
        if published.model_type == kind and published.hf_class
    ]
    with foreign(f"{where} is not of a model that transformers can make"), on_meta_device():
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


def _packed(hf: PreTrainedModel, sizes: PassSizes, depth: DepthConfig | None) -> dict[str, int]:
    """Bytes of weights by type as the CPU backend packs them; none where it does not cover them."""
    backbone = sizes.backbone
    types = ("float32", "bfloat16", "int8")
    if sizes.packed is not None:
        return {
            dtype: sum(_packed_tensor(shape, dtype) for shape in sizes.packed)
            + _NUMBERS[_COMPUTED[dtype]] * sizes.unpacked
            for dtype in types
        }
    if backbone is None:
        text: dict[str, Any] = hf.config.get_text_config().to_dict() if sizes.is_plain else {}
        inner = {
            published.model_type
            for published in pretrained_models().values()
            if published.decoder in ("llama", "janus")
        }
        if hf.config.model_type in inner:  # a Llama by another name
            text |= {"model_type": "llama", "hidden_act": "silu"}
        if not LlamaCpuConfig.covers(text):
            return {}
        backbone = LlamaCpuConfig.from_hf(text)
    packed = {dtype: packed_bytes(backbone, dtype) for dtype in types}
    for dtype in packed:
        stored = _NUMBERS[_COMPUTED[dtype]]
        packed[dtype] += stored * sizes.unpacked
        if depth is not None:
            # Its embeddings are read by rows, in the type that they are stored in.
            rows = depth.num_rows * depth.hidden_size
            shapes = [s for n, s in depth.shapes().items() if n != "embed_tokens.weight"]
            packed[dtype] += stored * rows + sum(_packed_tensor(s, dtype) for s in shapes)
    return packed


def packed_bytes(sizes: LlamaCpuConfig, dtype: str) -> int:
    """Bytes of a decoder's weights as the CPU backend packs them, of one of its types."""
    return sum(_packed_tensor(shape, dtype) for shape in sizes.shapes().values())


def _packed_tensor(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of a tensor: a norm's, a matrix (outputs, inputs), or one of each depth."""
    if len(shape) == 1:
        return 4 * shape[0]
    *depths, outputs, inputs = shape
    outputs += -outputs % PANEL
    if dtype != "int8":
        return _NUMBERS[dtype] * math.prod(depths) * outputs * inputs
    from unified.engine.backends.cpu.int8_pack import GROUP

    inputs += -inputs % GROUP
    return math.prod(depths) * (outputs * inputs + 2 * outputs * inputs // GROUP)
