"""What a run will take, estimated before it begins: ids, operations, memory of each device, hours.

Reads no weights. Figures are sums over the decoder's shape; what a device reaches of its peak is
the one guess, and stated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unified.engine.backends.depth_config import DepthConfig
from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.models.code_output import CodesOutput, codes_output
from unified.models.files import FILE_NAME, model_directory, read_words
from unified.models.hf_checkpoint import read_json
from unified.training.config import TrainConfig
from unified.training.loss import FEWEST
from unified.training.published_shape import count_published, published_entries
from unified.training.trainable import check_trainable
from unified.vocabulary.vocabulary import Vocabulary

__all__ = ["DEVICES", "Device", "Estimate", "Shape", "check_shape", "estimate_run", "shape_of"]


@dataclass(frozen=True)
class Device:
    """peak: bfloat16 operations a second, dense, as its maker states them. memory: bytes."""

    peak: float
    memory: float


DEVICES = {
    "a100-40gb": Device(312e12, 40e9),
    "a100": Device(312e12, 80e9),
    "h100": Device(989e12, 80e9),
    "h200": Device(989e12, 141e9),
    "b200": Device(2250e12, 180e9),
    "l40s": Device(362e12, 48e9),
    "rtx4090": Device(165e12, 24e9),
}
# torchtitan's Llama 8B, compiled, did 6,667 ids a second on an H100: 33% (arXiv:2410.06511).
SHARE = 0.33


@dataclass(frozen=True)
class Shape:
    """Of a decoder of the Llama family (and its mixtures of experts, of which `active` count).

    small: weights of a layer's norms and biases. old_rows: those that an extended language model
    had before, or text's. depth: of the depth decoder, if there is one. counted: (weights, those
    that the run trains) of a published model that has more than a decoder of this shape.
    """

    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    ffn_width: int
    vocabulary: int
    tied: bool
    small: int
    experts: int = 1
    active: int = 1
    old_rows: int = 0
    depth: DepthConfig | None = None
    counted: tuple[int, int] | None = None

    @property
    def depth_parameters(self) -> int:
        """Weights of the depth decoder."""
        return 0 if self.depth is None else sum(map(math.prod, self.depth.shapes().values()))

    @property
    def depth_working(self) -> int:
        """Weights that a position of several ids meets there, each as often as it has ids."""
        if self.depth is None:
            return 0
        rows = self.depth.num_rows * self.depth.hidden_size
        inside = self.depth_parameters - 2 * rows
        # Rows of one level alone make the logits of an id; matrices by level are met once.
        return rows + inside * (1 if self.depth.per_level else self.depth.num_ids)

    @property
    def attention(self) -> int:
        """Weights of one layer's attention."""
        return self.width * self.head_width * (2 * self.heads + 2 * self.kv_heads)

    @property
    def expert(self) -> int:
        """Weights of one expert, or of a layer's only feed-forward part."""
        return 3 * self.width * self.ffn_width

    @property
    def router(self) -> int:
        return self.width * self.experts if self.experts > 1 else 0

    @property
    def layer(self) -> int:
        return self.attention + self.experts * self.expert + self.router + self.small

    @property
    def rows(self) -> int:
        """Weights of the embedding and of a head of its own."""
        return self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def new_rows(self) -> int:
        """Weights of the rows for ids that are new."""
        return self.rows * (self.vocabulary - self.old_rows) // self.vocabulary

    @property
    def parameters(self) -> int:
        if self.counted is not None:
            return self.counted[0]
        return self.layers * self.layer + self.rows + self.width + self.depth_parameters

    @property
    def working(self) -> int:
        """Weights that each id meets: all but the embedding, experts at rest and norms."""
        inside = self.layers * (self.attention + self.active * self.expert + self.router)
        return inside + self.vocabulary * self.width


@dataclass(frozen=True)
class Estimate:
    """ids: of the run, one a position. operations: in all. memory: bytes by what they are for, of
    each device. seconds: on `devices` of these devices at `share` of their peak."""

    ids: int
    parameters: int
    trained: int
    operations: float
    memory: dict[str, float]
    devices: int
    device: str
    share: float
    seconds: float

    @property
    def fits(self) -> bool:
        return sum(self.memory.values()) < 0.95 * DEVICES[self.device].memory

    def to_json(self) -> dict[str, Any]:
        return {
            "ids": self.ids, "parameters": self.parameters, "trained": self.trained,
            "flops": self.operations, "memory_bytes": sum(self.memory.values()),
            "memory_by_use": self.memory, "device": self.device, "devices": self.devices,
            "share_of_peak": self.share, "hours": self.seconds / 3600, "fits": self.fits,
        }  # fmt: skip


def shape_of(config: TrainConfig) -> Shape:
    """The shape of the decoder that a configuration trains.

    Raises ValueError where it begins with a model that is not on this machine and states no shape,
    or cannot be trained.
    """
    check_trainable(config.init_from)
    if config.init_from is not None and config.model is None:
        folder = Path(config.init_from)
        if config.init_from == "pocket":
            folder = model_directory("pocket")
        if (folder / "config.json").exists():
            vocabulary, *_ = read_words(folder)
            stored = read_json(folder / "config.json")
            shape = {**(stored.get("text_config") or {}), **stored}
            others, depth = published_entries(stored)
            read = _read({**shape, **others, "old_rows": vocabulary.text_rows}, str(folder))
            counts = count_published(stored, config)
            return replace(read, depth=depth or _stored_depth(folder), counted=counts)
        if config.shape is None:
            raise ValueError(
                f"{config.init_from} is not on this machine, so its shape is not known; make it"
                " first, or state `shape` in the configuration"
            )
        return _read(config.shape, "shape")
    from transformers import Qwen3Config

    assert config.model is not None
    sizes: dict[str, tuple[Sequence[int], str]] = {}
    for modality in ("image", "audio"):
        folder_name = getattr(config, f"{modality}_tokenizer")
        if folder_name is not None:
            from unified_tokenizers import load_tokenizer

            sizes[modality] = (load_tokenizer(folder_name).codebook_sizes, "")
    vocabulary = Vocabulary.build(
        config.text_vocab_size, config.text_vocab_size, load_format(config.format).markers,
        config.max_grid, others=sizes,
    )  # fmt: skip
    entries = {**Qwen3Config().to_dict(), **config.model, "vocab_size": vocabulary.size}
    if not sizes:
        return _read(entries, "model")
    grammar = Grammar.load(config.format, vocabulary)
    declared = codes_output(grammar, Qwen3Config(**config.model), config.codes, config.depth)
    return replace(_read(entries, "model"), depth=None if declared is None else declared.depth)


def _stored_depth(folder: Path) -> DepthConfig | None:
    """The depth decoder that a model's folder declares."""
    declared = read_json(folder / FILE_NAME).get("codes") if (folder / FILE_NAME).exists() else None
    return None if declared is None else CodesOutput.from_json(declared).depth


def check_shape(config: TrainConfig, actual: Mapping[str, Any]) -> None:
    """Raises ValueError where a configuration states a shape that its decoder has not."""
    for name, value in (config.shape or {}).items():
        if name in actual and actual[name] != value:
            raise ValueError(
                f"shape says {name} {value}, the decoder in {config.init_from} has {actual[name]}"
            )


def _read(entries: Mapping[str, Any], where: str) -> Shape:
    try:
        heads = int(entries["num_attention_heads"])
        kv_heads = int(entries.get("num_key_value_heads") or heads)
        width = int(entries["hidden_size"])
        head_width = int(entries.get("head_dim") or width // heads)
        ffn_width = int(entries.get("moe_intermediate_size") or entries["intermediate_size"])
        small = 2 * width
        kind = str(entries.get("model_type"))
        if kind.startswith(("qwen3", "gemma3")):  # norms of queries and keys
            small += 2 * head_width
        if kind.startswith(("gemma2", "gemma3")):  # norms behind both parts, too
            small += 2 * width
        if entries.get("attention_bias") or kind.startswith("qwen2"):
            small += (heads + 2 * kv_heads) * head_width
        if entries.get("attention_bias"):
            small += width
        if entries.get("mlp_bias"):
            small += 2 * ffn_width + width
        return Shape(
            width=width,
            layers=int(entries["num_hidden_layers"]),
            heads=heads,
            kv_heads=kv_heads,
            head_width=head_width,
            ffn_width=ffn_width,
            vocabulary=int(entries["vocab_size"]),
            tied=bool(entries.get("tie_word_embeddings", True)),
            small=small,
            experts=int(entries.get("num_local_experts") or entries.get("num_experts") or 1),
            active=int(entries.get("num_experts_per_tok") or 1),
            old_rows=int(entries.get("old_rows") or 0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} is not the shape of a Llama-like decoder, the only kind that can be"
            f" estimated: {error}"
        ) from None


def estimate_run(
    config: TrainConfig, shape: Shape, device: str = "h100", devices: int = 1, share: float = SHARE
) -> Estimate:
    """What a run takes on some devices. Raises ValueError for an unknown device."""
    if device not in DEVICES:
        raise ValueError(f"there is no device {device!r}, expected one of {', '.join(DEVICES)}")
    if devices < 1 or not 0 < share <= 1:
        raise ValueError(f"{devices} devices at a share of {share}; expected 1 or more, and 0 to 1")
    # Documents of preference pairs are no longer than a sequence; what they are is not known here.
    sequences = (
        config.global_batch_size if config.preferences is None else 2 * config.preferences.pairs
    )
    ids = config.steps * sequences * config.seq_len
    trained = {
        "full": shape.parameters, "depth": shape.depth_parameters, "connector": 0,
    }.get(config.train, shape.new_rows + shape.depth_parameters)  # fmt: skip
    if shape.counted is not None:
        trained = shape.counted[1]
    elif config.train == "lora" and config.lora.depth == "lora" and shape.depth is not None:
        trained += _depth_lora(shape.depth, config.lora.rank) - shape.depth_parameters
    if config.train == "lora" and shape.counted is None:
        trained += _lora(shape, config.lora.rank)
    # Forward 2, gradients of inputs 2, of weights 2 where they are trained; attention over half of
    # a sequence at most; a layer's forward again where its activations are recomputed.
    weights_share, attended = (6, 3) if config.train == "full" else (4, 3)
    if config.train == "depth":
        weights_share, attended = 2, 1
    attention = 2 * config.seq_len * shape.heads * shape.head_width * shape.layers
    forward = 2 * shape.working + attention
    again = forward * config.activation_checkpointing
    if config.preferences is not None:  # log-probabilities first, and once the reference's
        again += 2 * forward
    inside = weights_share * shape.working + attended * attention + again
    # As if every position held several ids: how many do is the documents' to say.
    operations = float(ids) * (inside + 6 * config.depth_fraction * shape.depth_working)
    memory = _memory(config, shape, trained, devices)
    seconds = operations / (DEVICES[device].peak * share * devices)
    return Estimate(
        ids, shape.parameters, trained, operations, memory, devices, device, share, seconds
    )


def _lora(shape: Shape, rank: int) -> int:
    """Adapters of every linear layer: rank times the sum of its sides."""
    d, h, g, f = (
        shape.width, shape.heads * shape.head_width, shape.kv_heads * shape.head_width,
        shape.ffn_width,
    )  # fmt: skip
    sides = 2 * (d + h) + 2 * (d + g) + 3 * (d + f)
    return rank * sides * shape.layers


def _depth_lora(depth: DepthConfig, rank: int) -> int:
    """Adapters of a depth decoder's linear layers, the projection of its input too."""
    d, h, g, f = (
        depth.hidden_size, depth.num_heads * depth.head_dim, depth.num_kv_heads * depth.head_dim,
        depth.intermediate_size,
    )  # fmt: skip
    sides = depth.num_layers * (2 * (d + h) + 2 * (d + g) + 3 * (d + f))
    return rank * (sides + depth.input_size + d)


def _memory(config: TrainConfig, shape: Shape, trained: int, devices: int) -> dict[str, float]:
    """Bytes of one device by what they are for."""
    small = 4 if config.precision == "float32" else 2  # all of DEVICES multiply bfloat16
    optimizer = trained * (8 + (4 if config.ema_decay else 0))
    positions = config.micro_batch_size * config.seq_len
    if config.parallel == "fsdp" and devices > 1:
        gathered = small * (2 * shape.layer + shape.rows)
        memory = {
            "weights": 4.0 * shape.parameters / devices + gathered,
            "gradients": 4.0 * trained / devices + small * (shape.layer + shape.rows),
            "optimizer": optimizer / devices,
        }
    else:
        apart = 4 * trained if small == 2 else 0
        memory = {
            "weights": float(small * shape.parameters + apart),
            "gradients": float((4 + (small if small == 2 else 0)) * trained),
            "optimizer": float(optimizer),
        }
    # What a layer keeps for its gradient: its input, two norms' outputs, queries, keys, values, the
    # attention's output twice, both halves of the feed-forward part and their product.
    per_position = small * (
        4 * shape.width
        + (2 * shape.heads + 2 * shape.kv_heads) * shape.head_width
        + 3 * shape.active * shape.ffn_width
    )
    if config.activation_checkpointing:
        activations = positions * (small * shape.width * shape.layers + per_position)
    else:
        activations = positions * per_position * shape.layers
    memory["activations"] = float(activations)
    memory["logits"] = float(6 * FEWEST * shape.vocabulary + 4 * shape.vocabulary * shape.width)
    return memory
