"""Sizes of a decoder with attention to a text, and the weights that it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified_base.text import quoted

__all__ = ["CrossCpuConfig"]


@dataclass(frozen=True)
class CrossCpuConfig:
    """A decoder of codes that attends to a text, as MusicGen's and Dia's do.

    Attributes:
        hidden_size, num_layers, num_heads, num_kv_heads, head_dim, intermediate_size: of it.
        text_size: width of the states that the encoder gives. text_heads, text_kv_heads,
            text_head_dim: of the attention to them.
        first: the id of the first row of the codes' tables. num_codebooks, codebook_rows: levels,
            and the rows of each one's table.
        max_positions: of text and codes together.
        norm_eps: of all norms. layer_norm: whether they are LayerNorm, and not RMSNorm.
        gated: whether the MLP is SwiGLU, and not GELU.
        inv_freq: head_dim / 2 angles of rotary positions; zeros: none.
        scaled: whether scores are divided by the root of a head's width.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    text_size: int
    text_heads: int
    text_kv_heads: int
    text_head_dim: int
    first: int
    num_codebooks: int
    codebook_rows: int
    max_positions: int
    norm_eps: float
    layer_norm: bool
    gated: bool
    inv_freq: tuple[float, ...]
    scaled: bool

    @property
    def vocab_size(self) -> int:
        return self.first + self.num_codebooks * self.codebook_rows

    @property
    def of_codes(self) -> LlamaCpuConfig:
        """A Llama with as large a cache as the positions of codes need."""
        return LlamaCpuConfig(
            hidden_size=self.hidden_size, num_layers=self.num_layers, num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads, head_dim=self.head_dim,
            intermediate_size=self.intermediate_size, vocab_size=self.vocab_size,
            max_position_embeddings=self.max_positions, norm_eps=self.norm_eps,
            inv_freq=self.inv_freq, qk_norm=False, tie_word_embeddings=False,
        )  # fmt: skip

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight by its name."""
        D, F, E = self.hidden_size, self.intermediate_size, self.text_size
        own, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        text = self.text_heads * self.text_head_dim
        rows = self.num_codebooks * self.codebook_rows
        norms = ("norm", "text_norm", "mlp_norm")
        layer: dict[str, tuple[int, ...]] = {f"{norm}.weight": (D,) for norm in norms}
        shapes: dict[str, tuple[int, ...]] = {
            "embed_tokens.weight": (rows, D),
            "lm_head.weight": (rows, D),
            # Keys, then values, of one layer after another.
            "text_kv.weight": (2 * self.num_layers * self.text_kv_heads * self.text_head_dim, E),
            "norm.weight": (D,),
        }
        if self.layer_norm:
            layer |= {f"{norm}.bias": (D,) for norm in norms}
            shapes["norm.bias"] = (D,)
        layer |= {
            "q.weight": (own, D), "k.weight": (keys, D), "v.weight": (keys, D),
            "out.weight": (D, own), "text_q.weight": (text, D), "text_out.weight": (D, text),
            "up.weight": (F, D), "down.weight": (D, F),
        }  # fmt: skip
        if self.gated:
            layer["gate.weight"] = (F, D)
        for i in range(self.num_layers):
            shapes |= {f"layers.{i}.{name}": shape for name, shape in layer.items()}
        return shapes

    def check(self, weights: Mapping[str, Any]) -> None:
        """Raise ValueError naming a tensor that is missing, unexpected or of another shape."""
        expected = self.shapes()
        for name in sorted({*expected, *weights}):
            if name not in weights or name not in expected:
                what = "missing" if name in expected else "unexpected"
                raise ValueError(f"weights do not fit config.json: {quoted(name)} is {what}")
            if tuple(weights[name].shape) != expected[name]:
                raise ValueError(
                    f"weights do not fit config.json: {name} has shape"
                    f" {quoted(tuple(weights[name].shape))}, expected {expected[name]}"
                )
