"""A model with a text encoder and a decoder of parallel heads, as its modules in transformers.

What is the same in MusicGen and in Dia stands here: layers that attend to their own positions and
to a text, one table and one head for each level. `encoder_decoder` runs the modules in torch, one
by one: what transformers' own forward adds for other uses (masks of the whole, caches of two kinds)
costs more than a small model's sums. `compiled_cross` packs their weights for the CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Attend", "Attention", "CrossLayer", "CrossModel", "CrossShape", "TextEncoder"]

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention of queries, keys, values (B, c, H, C) of new positions to all before: (B, c, H*C)."""


@dataclass(frozen=True)
class Attention:
    """Modules of queries, keys, values and outputs."""

    q: nn.Module
    k: nn.Module
    v: nn.Module
    out: nn.Module


@dataclass(frozen=True)
class CrossLayer:
    """Modules of a layer: each part with the norm before it. gated: whether the first half of
    `up` is a gate of the second (SwiGLU), and not all of it activated."""

    norm: nn.Module
    own: Attention
    text_norm: nn.Module
    text: Attention
    mlp_norm: nn.Module
    up: nn.Module
    activation: Callable[[Tensor], Tensor]
    down: nn.Module
    gated: bool

    def mlp(self, x: Tensor) -> Tensor:
        """Its last part, without the norm."""
        h = self.up(x)
        if not self.gated:
            return self._down(self.activation(h))
        gate, up = h.chunk(2, dim=-1)
        return self._down(up * self.activation(gate))

    def _down(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.down(x)
        return outputs


@dataclass(frozen=True)
class TextEncoder:
    """module: of transformers. project: of its states to the decoder's width; None: as they are.
    end: the id that every text ends with; None: with none."""

    module: Any
    project: nn.Module | None = None
    end: int | None = None

    def ids(self, text: list[int]) -> list[int]:
        """What the encoder reads of a text's ids."""
        return text if self.end is None else [*text, self.end]

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Texts int64 (B, S), padded on the right where the mask is 0, to states (B, S, E)."""
        states: Tensor = self.module(input_ids=ids, attention_mask=mask).last_hidden_state
        return states if self.project is None else self.project(states)


@dataclass(frozen=True)
class CrossShape:
    """num_layers, width of the decoder; heads of queries, of keys, and their width, of codes and of
    text."""

    num_layers: int
    width: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_text_heads: int
    num_text_kv_heads: int
    text_head_dim: int

    @property
    def numbers_of_a_position(self) -> int:
        """Keys and values of an id of text and a position of codes."""
        numbers = self.num_kv_heads * self.head_dim + self.num_text_kv_heads * self.text_head_dim
        return 2 * self.num_layers * numbers

    def bytes_of(self, max_ids: int, dtype: torch.dtype) -> int:
        """Of keys and values of a slot of so many ids of text and as many positions."""
        return self.numbers_of_a_position * max_ids * dtype.itemsize


class CrossModel(ABC):
    """What a model of transformers computes, layer by layer.

    hf: the model, in evaluation mode. encoder: of texts. first: the id of the first row of the
    codes' tables. num_codebooks, rows: levels, and rows of each table. max_positions: of text and
    codes together.
    shape: of the decoder. layers: its modules. norm: behind the last of them. scale: of attention;
    None: one over the root of a head's width. eps: of all norms. covered: whether the compiled
    loops compute what its options say, too.
    """

    scale: float | None = None

    def __init__(
        self,
        hf: Any,
        encoder: TextEncoder,
        shape: CrossShape,
        first: int,
        num_codebooks: int,
        rows: int,
        max_positions: int,
    ) -> None:
        self.hf, self.encoder, self.shape = hf.eval(), encoder, shape
        self.first, self.num_codebooks, self.rows = first, num_codebooks, rows
        self.max_positions = max_positions
        self.vocab_size = first + num_codebooks * rows
        self.offsets = first + rows * torch.arange(num_codebooks)
        self.layers: list[CrossLayer] = []
        self.norm: nn.Module = nn.Identity()
        self.eps, self.covered = 1e-5, False

    @abstractmethod
    def tables(self) -> Sequence[Tensor]:
        """Embeddings (rows, D) of each level."""

    @abstractmethod
    def heads(self) -> Sequence[Tensor]:
        """Heads (rows, D) of each level; of fewer rows where the last ones are never written."""

    def position_table(self) -> Tensor | None:
        """What is added to embeddings at each position, (positions, D); None: nothing."""
        return None

    def angles(self) -> Tensor | None:
        """The angles (C/2,) of rotary positions; None: it has none."""
        return None

    def embed(self, rows: Tensor, positions: Tensor) -> Tensor:
        """Embeddings (B, c, D) of rows of the tables, int64 (B, c, K), at positions (B, c)."""
        tables = self.tables()
        x = nn.functional.embedding(rows[..., 0], tables[0])
        for level in range(1, self.num_codebooks):
            x = x + nn.functional.embedding(rows[..., level], tables[level])
        added = self.position_table()
        return x if added is None else x + added[positions]

    def rotations(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines (B, c, C/2) at positions (B, c)."""
        angles = self.angles()
        if angles is None:
            return None
        turns = positions[..., None].float() * angles.to(positions.device)
        return turns.cos().to(dtype), turns.sin().to(dtype)

    def cross(self, layer: int, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, S, H, C) of a layer's attention to the text."""
        text = self.layers[layer].text
        shape = (*states.shape[:2], -1, self.shape.text_head_dim)
        return text.k(states).view(shape), text.v(states).view(shape)

    def run(
        self,
        layer: int,
        x: Tensor,
        rotations: tuple[Tensor, Tensor] | None,
        attend: Attend,
        attend_text: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """A layer's outputs (B, c, D). attend_text: of queries (B, c, H, C) alone."""
        part = self.layers[layer]
        shape = (*x.shape[:2], -1, self.shape.head_dim)
        h = part.norm(x)
        q, k, v = (product(h).view(shape) for product in (part.own.q, part.own.k, part.own.v))
        if rotations is not None:
            q, k = _turned(q, *rotations), _turned(k, *rotations)
        x = x + part.own.out(attend(q, k, v))
        q = part.text.q(part.text_norm(x)).view(*x.shape[:2], -1, self.shape.text_head_dim)
        x = x + part.text.out(attend_text(q))
        return x + part.mlp(part.mlp_norm(x))

    def finish(self, x: Tensor) -> Tensor:
        """What the head reads, of the last layer's outputs."""
        states: Tensor = self.norm(x)
        return states

    def logits(self, states: Tensor, level: int, start: int, stop: int) -> Tensor:
        """Logits (N, stop - start) of rows of a level; -inf for those without a row in its head."""
        weight = self.heads()[level][start:stop]
        logits = nn.functional.linear(states, weight)
        if (missing := stop - start - len(weight)) > 0:
            logits = nn.functional.pad(logits, (0, missing), value=-torch.inf)
        return logits


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions of queries or keys (B, c, H, C). cos, sin: (B, c, C/2)."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos[:, :, None], sin[:, :, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
