"""One level of all positions in one call: the depth decoder's layers, its norm, and its head.

Shape legend: `N` positions, `T` new inputs of them, `D` width of the depth decoder; see `kernels`.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.intrinsics import called_only, entry
from unified.engine.backends.cpu.kernels import forward_layers, num_phases
from unified.engine.backends.cpu.linear import lm_head
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase
from unified.engine.backends.cpu.vectors import rms_norm

__all__ = ["fill_level", "num_level_phases"]


def num_level_phases(layers: int) -> int:
    """Phases of `fill_level`."""
    return num_phases(layers) + 3


@entry
def fill_level(
    counters: np.ndarray, table: np.ndarray, dtype_like: np.ndarray, x: np.ndarray,
    buffer: np.ndarray, qkv: np.ndarray, attn_out: np.ndarray, gated: np.ndarray,
    cos_sin: np.ndarray, sequences: np.ndarray, kv_like: np.ndarray, kv_heads: int,
    parts: np.ndarray, eps: np.float32, norm: np.ndarray, last: np.ndarray, states: np.ndarray,
    head: np.ndarray, head_parts: np.ndarray, ranges: np.ndarray, out: np.ndarray, threads: int,
) -> None:  # fmt: skip
    """Read T inputs of N positions, and compute logits of their next ids.

    Args:
        counters: `new_counters(num_level_phases(layers))`.
        table, dtype_like, x, qkv, attn_out, gated, cos_sin, sequences, kv_like, kv_heads, parts,
            eps, threads: see `forward_layers`; `parts` is (0,).
        buffer: for the inputs of any product, the head's among them.
        norm: float32 (D,), the weight of the last norm.
        last: int64 (N,), the row of x of each position's last input.
        states: float32 (N, D), written: those rows behind the norm.
        head, head_parts, ranges, out: see `lm_head`; without parts, no logits are computed.
    """
    called_only()  # by itself and level by level: the same bits
    forward_layers(
        counters, table, dtype_like, x, buffer, qkv, attn_out, gated, cos_sin, sequences, kv_like,
        kv_heads, parts, eps, 0, table.shape[0], threads,
    )  # fmt: skip
    phase = counters.shape[0] - 3
    chunk = claim_chunk(counters, phase)
    while chunk < 1:
        for n in range(last.shape[0]):
            row = last[n]
            rms_norm(x[row : row + 1], norm, eps, states[n : n + 1])
        finish_chunk(counters, phase, 1)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, 1)
    if head_parts.shape[0]:
        lm_head(counters[phase + 1 :], states, head, head_parts, ranges, buffer, out, threads)
