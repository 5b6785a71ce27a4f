"""What a depth decoder is: sizes, and which ids it has rows for.

A depth decoder writes the ids of one position, one after another: a small causal transformer whose
first input is the hidden state behind the position before, and whose others are the ids so far
(RQ-Transformer, arXiv:2203.01941; CSM and Moshi, arXiv:2410.00037). The first id of a position
comes of the decoder's own head, so that text, markers and codes compete there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from unified.vocabulary.block import Ranges
from unified_base.text import quoted

__all__ = ["DepthConfig"]

_MOST = 1 << 20


@dataclass(frozen=True)
class DepthConfig:
    """Sizes of a depth decoder: a transformer of the Llama family over the ids of a position.

    Attributes:
        input_size: width of the hidden states that it is conditioned on.
        hidden_size, num_layers, num_heads, num_kv_heads, head_dim, intermediate_size: its own.
        num_ids: the most ids of a position.
        ranges: the ids that it has rows for, sorted and disjoint: all that stand in positions of
            several.
        per_level: whether every depth has weights of its own in attention and MLP, as in Moshi.
        norm_eps, rope_theta: as in a Llama's config.json.
        inv_freq: head_dim / 2 angles in the place of those of rope_theta, where they are scaled;
            a checkpoint's own, which no declaration holds.
    """

    input_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    num_ids: int
    ranges: Ranges
    per_level: bool = False
    norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    inv_freq: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in (
            "input_size", "hidden_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
            "intermediate_size", "num_ids",
        ):  # fmt: skip
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= _MOST:
                raise ValueError(
                    f"a depth decoder's {name} is {quoted(value)}, expected 1 to {_MOST:,}"
                )
        if self.num_ids < 2:
            raise ValueError("a depth decoder is for positions of 2 ids and more, found num_ids 1")
        if self.head_dim % 2 or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"a depth decoder has {self.num_heads} heads of {self.head_dim} numbers and"
                f" {self.num_kv_heads} of keys; expected an even width, and heads that divide among"
                " those of keys"
            )
        if type(self.per_level) is not bool:
            raise ValueError(f"per_level is {quoted(self.per_level)}, expected true or false")
        for name in ("norm_eps", "rope_theta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"a depth decoder's {name} is {quoted(value)}, expected above 0")
        object.__setattr__(self, "ranges", _checked(self.ranges))
        if self.inv_freq is not None and len(self.inv_freq) != self.head_dim // 2:
            raise ValueError(
                f"a depth decoder has {len(self.inv_freq)} angles, expected {self.head_dim // 2}"
            )

    @property
    def angles(self) -> tuple[float, ...]:
        """head_dim / 2: how far each rotary pair turns from one input to the next."""
        if self.inv_freq is not None:
            return self.inv_freq
        return tuple(
            self.rope_theta ** -(pair / self.head_dim) for pair in range(0, self.head_dim, 2)
        )

    @property
    def num_rows(self) -> int:
        """Rows of its embedding and of its head."""
        return sum(stop - start for start, stop in self.ranges)

    @cached_property
    def rows(self) -> np.ndarray:
        """int64 (last id + 1,): the row of each id; -1 for those that have none."""
        rows = np.full(self.ranges[-1][1], -1, np.int64)
        first = 0
        for start, stop in self.ranges:
            rows[start:stop] = np.arange(first, first + stop - start)
            first += stop - start
        return rows

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of a depth decoder of these sizes, by its name."""
        D, C, F = self.hidden_size, self.head_dim, self.intermediate_size
        q_size, kv_size = self.num_heads * C, self.num_kv_heads * C
        own = (self.num_ids,) if self.per_level else ()  # matrices of each depth
        shapes: dict[str, tuple[int, ...]] = {
            "projection.weight": (D, self.input_size),
            "embed_tokens.weight": (self.num_rows, D),
            "norm.weight": (D,),
            "lm_head.weight": (self.num_rows, D),
        }
        for layer in range(self.num_layers):
            shapes |= {
                f"layers.{layer}.{name}.weight": shape
                for name, shape in (
                    ("input_layernorm", (D,)),
                    ("self_attn.q_proj", (*own, q_size, D)),
                    ("self_attn.k_proj", (*own, kv_size, D)),
                    ("self_attn.v_proj", (*own, kv_size, D)),
                    ("self_attn.o_proj", (*own, D, q_size)),
                    ("post_attention_layernorm", (D,)),
                    ("mlp.gate_proj", (*own, F, D)),
                    ("mlp.up_proj", (*own, F, D)),
                    ("mlp.down_proj", (*own, D, F)),
                )
            }
        return shapes

    def check(self, weights: Mapping[str, Any]) -> None:
        """Raises ValueError naming missing, unexpected or misshapen tensors."""
        expected = self.shapes()
        problems = [f"{name} is missing" for name in expected if name not in weights]
        problems += [f"{quoted(name)} is unexpected" for name in weights if name not in expected]
        problems += [
            f"{name} has shape {quoted(tuple(weights[name].shape))}, expected {shape}"
            for name, shape in expected.items()
            if name in weights and tuple(weights[name].shape) != shape
        ]
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise ValueError(
                f"weights do not fit the depth decoder's sizes: {'; '.join(problems[:3])}{more}"
            )

    def to_rows(self, ranges: Ranges) -> Ranges:
        """Ranges of ids as ranges of rows. Raises ValueError for an id without a row."""
        converted = []
        for start, stop in ranges:
            for first, last in self.ranges:
                if first <= start and stop <= last:
                    row = int(self.rows[start])
                    converted.append((row, row + stop - start))
                    break
            else:
                raise ValueError(
                    f"the depth decoder has no rows for ids {start} to {stop - 1}; it has those of"
                    f" {', '.join(f'{first} to {last - 1}' for first, last in self.ranges)}"
                )
        return tuple(converted)

    def to_json(self) -> dict[str, Any]:
        assert self.inv_freq is None
        entries = {**asdict(self), "ranges": [list(pair) for pair in self.ranges]}
        del entries["inv_freq"]
        return entries

    @classmethod
    def from_json(cls, obj: Any, where: str = "depth") -> DepthConfig:
        """Raises ValueError, naming the key, for anything but what `to_json` gives."""
        known = {field.name for field in fields(cls)} - {"inv_freq"}
        if not isinstance(obj, Mapping) or set(obj) != known:
            keys = sorted(obj) if isinstance(obj, Mapping) else obj
            raise ValueError(f"{where} has {quoted(keys)}, expected {', '.join(sorted(known))}")
        try:
            return cls(**obj)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _checked(ranges: Any) -> Ranges:
    """Sorted, disjoint ranges as tuples. ValueError for anything else."""
    try:
        pairs = tuple((int(start), int(stop)) for start, stop in ranges)
    except (TypeError, ValueError):
        raise ValueError(f"a depth decoder's ranges are {quoted(ranges)}, expected pairs") from None
    flat = [bound for pair in pairs for bound in pair]
    increasing = all(start < stop for start, stop in pairs) and flat == sorted(flat)
    if not flat or flat[0] < 0 or not increasing:
        raise ValueError(
            f"a depth decoder's ranges are {quoted(pairs)}, expected sorted, disjoint [start, stop)"
        )
    return pairs
