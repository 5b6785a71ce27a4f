"""The decoder of Moshi in compiled loops: a Llama over positions, one over the codes of a voice.

A position holds a text id, the codes of Moshi's voice, and those of the other voice. The main
transformer's head writes the text; the depth decoder reads the text and the hidden state, and
writes the codes of Moshi's voice one after another, each input being the sum of an embedding and a
projection of the hidden state. Nothing writes the other voice, which is given.

Ids: those of the text tokenizer; `<text>`; `<speaker.k>` and `<listener.k>`; `<pad>` and `<end>`,
which nothing embeds; then the codes of one codebook after another, Moshi's voice first.

Shape legend: `V` texts, `K` codebooks of a voice, `C` codes of each, `E` the width of the main
transformer, `D` of the depth decoder, `N` positions that are being filled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unified.engine.backends.base import Array, Ranges
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder, StoredWeight, widen
from unified.engine.backends.cpu.depth import CompiledDepth
from unified.engine.backends.cpu.settings import ARITHMETIC
from unified.engine.backends.cpu.stored import ToQuantize, Weight
from unified.engine.backends.depth_config import DepthConfig
from unified_base.text import quoted

__all__ = ["MARKERS", "MoshiDecoder", "MoshiSizes"]

MARKERS = 3
"""Ids between those of texts and codes, beside a marker for each level: `<text>`, `<pad>`,
`<end>`."""


@dataclass(frozen=True)
class MoshiSizes:
    """Sizes of a Moshi by its config.json.

    texts, num_codebooks, codebook_size: V, K and C. main: its Llama, whose only ids are texts.
    depth: its depth decoder, with rows for the codes that it writes.
    """

    texts: int
    num_codebooks: int
    codebook_size: int
    main: LlamaCpuConfig
    depth: DepthConfig

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> MoshiSizes:
        """Raises ValueError for sizes that are missing, or do not fit each other."""
        inner = dict(config.get("depth_decoder_config") or {})
        K, C = config.get("num_codebooks"), config.get("audio_vocab_size")
        own = inner.get("num_codebooks"), inner.get("audio_vocab_size")
        if type(K) is not int or type(C) is not int or K < 2 or C < 1 or own != (K, C):
            raise ValueError(
                f"config.json has {quoted(K)} codebooks of {quoted(C)} codes, and its"
                f" depth_decoder_config {quoted(own[0])} of {quoted(own[1])}; expected the same,"
                " and 2 codebooks or more"
            )
        main, depth = _llama(config), _llama({**inner, "vocab_size": C})
        window = config.get("sliding_window")
        if type(window) is int and window < main.max_position_embeddings:
            raise ValueError(
                f"config.json: sliding_window is {window}, expected at least its"
                f" {main.max_position_embeddings} positions: attention over a window alone is not"
                " supported"
            )
        first = _first(main.vocab_size, K)
        return cls(
            main.vocab_size, K, C, main,
            DepthConfig(
                input_size=main.hidden_size, hidden_size=depth.hidden_size,
                num_layers=depth.num_layers, num_heads=depth.num_heads,
                num_kv_heads=depth.num_kv_heads, head_dim=depth.head_dim,
                intermediate_size=depth.intermediate_size, num_ids=K, per_level=True,
                ranges=((first, first + K * C),), norm_eps=depth.norm_eps,
                inv_freq=(0.0,) * (depth.head_dim // 2),  # nothing turns
            ),
        )  # fmt: skip

    @property
    def first(self) -> int:
        """The id of the first code."""
        return _first(self.texts, self.num_codebooks)

    @property
    def vocab_size(self) -> int:
        return self.first + 2 * self.num_codebooks * self.codebook_size

    def row(self, id: int) -> tuple[int, int]:
        """The table of an id, -1 for texts and else its level, and its row there.

        Raises ValueError for `<pad>` and `<end>`.
        """
        level = id - self.texts - 1
        if id <= self.texts:
            return -1, id
        if level < 2 * self.num_codebooks:
            return level, self.codebook_size
        if id < self.first:
            raise ValueError(f"Moshi has no embedding for id {id}, which no position holds")
        return divmod(id - self.first, self.codebook_size)


class MoshiDepth(CompiledDepth):
    """Moshi's depth decoder: input j is the sum of the embedding of id j of a position and the
    hidden state's projection for j, and predicts id j + 1. There is no norm behind its layers."""

    def __init__(
        self, sizes: MoshiSizes, weights: Mapping[str, StoredWeight], decoder: LlamaCpuDecoder
    ) -> None:
        config, K = sizes.depth, sizes.num_codebooks
        D, E, prefix = config.hidden_size, config.input_size, "depth_decoder."
        projections = widen(weights[f"{prefix}input_projections.weight"])
        heads = weights[f"{prefix}lm_heads.weight"][:]
        dtype = heads.dtype
        own = _as_llama(weights, f"{prefix}layers.", "layers.")
        own |= {
            "projection.weight": np.zeros((D, E), dtype),  # `project` has those of all inputs
            "embed_tokens.weight": np.zeros((config.num_rows, D), dtype),  # `embed_at` has its own
            "norm.weight": np.ones(D, np.float32),  # which nothing reads
            "lm_head.weight": heads.reshape(-1, D),
        }
        super().__init__(config, own, E, os.environ.get(ARITHMETIC) != "float32", decoder.memory)
        self.sizes = sizes
        self._projections_ED = np.ascontiguousarray(projections.reshape(K * D, E).T)
        self._tables_of = [weights[f"{prefix}text_embed_tokens.weight"][:]]
        self._tables_of += [weights[f"{prefix}embed_tokens.{k}.weight"][:] for k in range(K - 1)]

    def project(self, hidden_states: Array) -> Array:
        """Projections (N, K, D) for all inputs."""
        projected: Array = hidden_states @ self._projections_ED
        return projected.reshape(len(hidden_states), self.sizes.num_codebooks, -1)

    def embed_at(self, number: int, ids: Sequence[int]) -> Array:
        """Embeddings (n, D) of the ids at one place of their positions.

        Raises ValueError for ids of another level.
        """
        placed = [self.sizes.row(id) for id in ids]
        if {level for level, _ in placed} != {number - 1}:
            raise ValueError(f"ids {list(ids)} are not those of place {number} of a position")
        return widen(self._tables_of[number][[row for _, row in placed]])

    def states_of(self, x: Array, sequences: np.ndarray, number: int) -> Array:
        """States (n, D) behind the layers, of one input (n, D) of each position."""
        last = np.arange(len(x))
        self.fill(x, sequences, last, number, ())
        return x  # which has become what the last layer gives


class MoshiPositions:
    """`PositionCodes` of `MoshiDepth`."""

    def __init__(self, depth: MoshiDepth, hidden_states: Array) -> None:
        """hidden_states: (N, E), before the positions."""
        N = len(hidden_states)
        self._depth, self._projected_NKD = depth, depth.project(hidden_states)
        self._states_ND = np.zeros((N, depth.config.hidden_size), np.float32)
        self._ids: list[list[int]] = [[] for _ in range(N)]
        self._read = np.zeros(N, np.int64)
        self._memory = depth.memory.get(N * depth.slot_words)
        size = depth.slot_words * self._memory.itemsize
        self._addresses = self._memory.ctypes.data + size * np.arange(N)

    def __del__(self) -> None:
        if hasattr(self, "_addresses") and np.isfinite(self._states_ND).all():
            self._depth.memory.put(self._memory)

    def append(self, rows: Sequence[int], ids: Sequence[int]) -> None:
        """See `PositionCodes.append`."""
        for row, id in zip(rows, ids):
            self._ids[row].append(id)

    def logits(self, rows: Sequence[int], ranges: Ranges) -> Array:
        """See `PositionCodes.logits`; of the codes of Moshi's voice."""
        head = self._depth.config.to_rows(ranges)
        while behind := [row for row in rows if self._read[row] < len(self._ids[row])]:
            number = min(int(self._read[row]) for row in behind)
            self._read_one([row for row in behind if self._read[row] == number], number)
        return self._depth.logits(self._states_ND[list(rows)], head)

    def _read_one(self, rows: list[int], number: int) -> None:
        """Read the input of this number of some rows."""
        x = self._depth.embed_at(number, [self._ids[row][number] for row in rows])
        x += self._projected_NKD[rows, number]
        sequences = np.empty((len(rows), 5), np.int64)
        sequences[:, 0], sequences[:, 1] = np.arange(len(rows)), 1
        sequences[:, 2], sequences[:, 3] = number, self._addresses[rows]
        sequences[:, 4] = self._depth.slot_ids
        self._states_ND[rows] = self._depth.states_of(x, sequences, number)
        self._read[rows] += 1


class MoshiDecoder(LlamaCpuDecoder):
    """The main transformer with its depth decoder; see the module."""

    def __init__(self, sizes: MoshiSizes, weights: Mapping[str, StoredWeight]) -> None:
        """weights: by the names of transformers' MoshiForConditionalGeneration, but the codec's.

        Raises ValueError where they do not fit the sizes.
        """
        _check(sizes, weights)
        self.sizes = sizes
        main = _as_llama(weights, "decoder.model.layers.", "model.layers.")
        main["model.norm.weight"] = weights["decoder.model.norm.weight"]
        # To the Llama its ids are those that it writes: its head, in place of a table.
        main["model.embed_tokens.weight"] = weights["decoder.lm_head.weight"]
        super().__init__(sizes.main, main)
        self._depth_of_moshi = MoshiDepth(sizes, weights, self)
        self._tables_of = [weights[f"embed_tokens.{k}.weight"][:] for k in
                           range(2 * sizes.num_codebooks)]  # fmt: skip
        self._texts: Weight = weights["decoder.model.embed_tokens.weight"][:]
        self.vocab_size = sizes.vocab_size

    def embed(self, ids: Sequence[int]) -> Array:
        embedded = np.empty((len(ids), self.sizes.main.hidden_size), np.float32)
        for at, id in enumerate(ids):
            level, row = self.sizes.row(int(id))
            table = self._texts if level < 0 else self._tables_of[level]
            embedded[at] = widen(table[row : row + 1])[0]
        return embedded

    def begin_positions(self, hidden_states: Array) -> MoshiPositions:
        return MoshiPositions(self._depth_of_moshi, hidden_states)

    def logits(self, hidden_states: Array, ranges: Ranges) -> Array:
        self._check_texts(ranges)
        return super().logits(hidden_states, ranges)

    def logits_of_parts(
        self, hidden_states: Array, parts: Sequence[tuple[Sequence[int], Ranges]]
    ) -> list[Array]:
        for _, ranges in parts:
            self._check_texts(ranges)
        return super().logits_of_parts(hidden_states, parts)

    def _check_texts(self, ranges: Ranges) -> None:
        if ranges[-1][1] > self.sizes.texts:
            raise ValueError(
                f"Moshi's head has rows of ids 0 to {self.sizes.texts - 1} alone, texts: it does"
                f" not write id {ranges[-1][1] - 1} first in a position"
            )


def _first(texts: int, codebooks: int) -> int:
    return texts + 2 * codebooks + MARKERS


def _llama(config: Mapping[str, Any]) -> LlamaCpuConfig:
    """The sizes of one of the two transformers."""
    inner = config.get("ffn_dim")
    if type(inner) is not int or inner < 2 or inner % 2:
        raise ValueError(f"config.json: ffn_dim is {quoted(inner)}, expected an even number")
    kind = {"model_type": "llama", "intermediate_size": inner // 2, "tie_word_embeddings": True}
    return LlamaCpuConfig.from_hf({**config, **kind})


def _as_llama(
    weights: Mapping[str, StoredWeight], prefix: str, renamed: str
) -> dict[str, StoredWeight]:
    """Layers by the names of a Llama's; the gate is the first half of fc1, and 1-D or 2-D weights
    may have a dimension of levels before them."""
    layers: dict[str, StoredWeight] = {}
    for name, weight in weights.items():
        if not name.startswith(prefix):
            continue
        own = renamed + name.removeprefix(prefix)
        if own.endswith("mlp.fc1.weight"):
            both = weight[:]
            half = both.shape[-2] // 2
            layers[own.replace("fc1", "gate_proj")] = np.ascontiguousarray(both[..., :half, :])
            layers[own.replace("fc1", "up_proj")] = np.ascontiguousarray(both[..., half:, :])
        else:
            layers[own.replace(".linear.", ".").replace("fc2", "down_proj")] = weight
    return layers


def _check(sizes: MoshiSizes, weights: Mapping[str, StoredWeight]) -> None:
    """Raises ValueError naming tensors, beside those of the layers, that do not fit."""
    V, K, C = sizes.texts, sizes.num_codebooks, sizes.codebook_size
    E, D = sizes.main.hidden_size, sizes.depth.hidden_size
    shapes = {
        "decoder.model.embed_tokens.weight": (V + 1, E), "decoder.lm_head.weight": (V, E),
        "decoder.model.norm.weight": (E,), "depth_decoder.text_embed_tokens.weight": (V + 1, D),
        "depth_decoder.input_projections.weight": (K, D, E),
        "depth_decoder.lm_heads.weight": (K, C, D),
        **{f"embed_tokens.{k}.weight": (C + 1, E) for k in range(2 * K)},
        **{f"depth_decoder.embed_tokens.{k}.weight": (C + 1, D) for k in range(K - 1)},
    }  # fmt: skip
    for name, shape in shapes.items():
        weight = weights.get(name)
        if isinstance(weight, ToQuantize):
            raise ValueError("Moshi's weights cannot be quantized yet; take dtype auto")
        if weight is None or tuple(weight.shape) != shape:
            actual = "missing" if weight is None else f"of shape {tuple(weight.shape)}"
            raise ValueError(
                f"weights do not fit config.json: {name} is {actual}, expected {shape}"
            )
