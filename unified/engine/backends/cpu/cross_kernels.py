"""A decoder that attends to a text beside its own positions: all layers of a pass in one call.

A layer is that of `kernels` with a second attention, over the keys and values of a text that an
encoder has read. Which norm and which MLP it has, its weights say: an address of 0 stands for a
tensor that there is not.

Shape legend: see `kernels`; of the attention over the text `H2` heads of queries, `G2` of keys and
`C2` numbers a head, `S` ids of a text.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.heads import attend_heads, chunk_ends, turn_heads
from unified.engine.backends.cpu.intrinsics import entry, wide_vectors
from unified.engine.backends.cpu.layer_products import activated_rows, gated_rows, project_heads
from unified.engine.backends.cpu.linear import (
    add_linear,
    chunk_size,
    norm_row,
    normed_inputs,
    plain_inputs,
    vector,
)
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase

__all__ = ["CROSS_LAYER", "forward_cross_layers", "num_cross_phases"]

# The tensors of a layer in the order of the address table. Without the bias of a norm it is RMSNorm
# and not LayerNorm; without a gate the MLP is `up`, GELU and `down`, and not SwiGLU.
CROSS_LAYER = (
    "norm.weight", "norm.bias", "q.weight", "k.weight", "v.weight", "out.weight",
    "text_norm.weight", "text_norm.bias", "text_q.weight", "text_out.weight", "mlp_norm.weight",
    "mlp_norm.bias", "gate.weight", "up.weight", "down.weight",
)  # fmt: skip
(
    _NORM, _BIAS, _Q, _K, _V, _OUT, _TEXT_NORM, _TEXT_BIAS, _TEXT_Q, _TEXT_OUT, _MLP_NORM,
    _MLP_BIAS, _GATE, _UP, _DOWN,
) = range(len(CROSS_LAYER))  # fmt: skip
# Of a layer: six products, rows for each, turned heads, attention, its parts folded, and attention
# to the text.
_PHASES = 16


def num_cross_phases(layers: int) -> int:
    """Phases of `forward_cross_layers`."""
    return _PHASES * layers + 1


@entry
def forward_cross_layers(
    counters: np.ndarray, table: np.ndarray, dtype_like: np.ndarray, x: np.ndarray,
    buffer: np.ndarray, qkv: np.ndarray, attn_out: np.ndarray, text_q: np.ndarray,
    text_out: np.ndarray, inner: np.ndarray, cos_sin: np.ndarray, sequences: np.ndarray,
    kv_like: np.ndarray, kv_heads: int, texts: np.ndarray, text_like: np.ndarray, text_heads: int,
    parts: np.ndarray, eps: np.float32, norm: np.ndarray, bias: np.ndarray, states: np.ndarray,
    threads: int,
) -> None:  # fmt: skip
    """Run all layers over N new positions, and the last norm.

    Args:
        counters: `new_counters(num_cross_phases(layers))`.
        table: int64 (layers, len(CROSS_LAYER)), addresses of the weights.
        x: float32 (N, D), embeddings; outputs of the last layer afterwards.
        qkv, attn_out, text_q, text_out, inner: float32 workspaces (N, H + 2G, C), (N, H, C),
            (N, H2, C2) twice and (N, F).
        texts: int64 (N, 5), the text of each new position as a sequence: its index, 1, S - 1, the
            address of the text's keys and values, and the ids that these have room for.
        text_like: an empty array of their type.
        kv_heads, text_heads: G and G2.
        norm, bias: (D,), of the last norm; bias (0,) for RMSNorm.
        states: float32 (N, D), written: x behind it.
        dtype_like, buffer, cos_sin, sequences, kv_like, parts, eps, threads: see
            `kernels.forward_layers`.
    """
    wide_vectors()
    layers, N, D = table.shape[0], x.shape[0], x.shape[1]
    H, C, G, F = attn_out.shape[1], attn_out.shape[2], kv_heads, inner.shape[1]
    H2, C2, G2 = text_q.shape[1], text_q.shape[2], text_heads
    attn_flat = attn_out.reshape(N, H * C)  # (N, H, C) -> (N, H C)
    text_flat = text_out.reshape(N, H2 * C2)  # (N, H2, C2) -> (N, H2 C2)
    ends = chunk_ends(sequences, H, G, C, parts.shape[0] > 0)
    text_ends = chunk_ends(texts, H2, G2, C2, False)
    no_bias, no_parts = np.zeros(3, np.int64), np.empty(0, np.float32)
    none = vector(np.int64(0), 0, x[0])
    # Workspaces of this thread alone.
    heads_size = max(
        chunk_size(H * C, threads, N), chunk_size(G * C, threads, N),
        chunk_size(H2 * C2, threads, N),
    )  # fmt: skip
    d_size, f_size = chunk_size(D, threads, N), chunk_size(F, threads, N)
    space = np.empty(N * max(heads_size, d_size, f_size), np.float32)
    up_out = np.empty((N, f_size), np.float32)
    d_out = space[: N * d_size].reshape((N, d_size))
    f_out = space[: N * f_size].reshape((N, f_size))
    for layer in range(layers):
        weight, phase = table[layer], _PHASES * layer

        # Attention to the positions so far: x (N, D) -> norm -> qkv (N, H + 2G, C) -> (N, H, C).
        inputs = normed_inputs(
            counters, phase, x, vector(weight[_NORM], D, x[0]), vector(weight[_BIAS], D, x[0]), eps,
            dtype_like, buffer,
        )  # fmt: skip
        phase += 1
        project_heads(
            counters, phase, inputs, weight[_Q : _V + 1], no_bias, D, G, threads, dtype_like,
            space, qkv,
        )  # fmt: skip
        phase += 1
        turn_heads(
            counters, phase, qkv, none, none, eps, cos_sin, sequences, ends, layer, layers,
            kv_like, G,
        )  # fmt: skip
        phase += 1
        attend_heads(
            counters, phase, qkv, sequences, ends, layer, layers, kv_like, G, parts, attn_out
        )  # fmt: skip
        phase += 2
        inputs = plain_inputs(counters, phase, attn_flat, dtype_like, buffer)
        phase += 1
        add_linear(counters, phase, inputs, weight[_OUT], H * C, dtype_like, d_out, x)

        # Attention to the text: x (N, D) -> norm -> text_q (N, H2, C2) -> (N, H2, C2).
        phase += 1
        inputs = normed_inputs(
            counters, phase, x, vector(weight[_TEXT_NORM], D, x[0]),
            vector(weight[_TEXT_BIAS], D, x[0]), eps, dtype_like, buffer,
        )  # fmt: skip
        phase += 1
        project_heads(
            counters, phase, inputs, weight[_TEXT_Q : _TEXT_Q + 1], no_bias, D, 0, threads,
            dtype_like, space, text_q,
        )  # fmt: skip
        phase += 1
        attend_heads(
            counters, phase, text_q, texts, text_ends, layer, layers, text_like, G2, no_parts,
            text_out,
        )  # fmt: skip
        phase += 1
        inputs = plain_inputs(counters, phase, text_flat, dtype_like, buffer)
        phase += 1
        add_linear(counters, phase, inputs, weight[_TEXT_OUT], H2 * C2, dtype_like, d_out, x)

        # MLP: x (N, D) -> norm -> inner (N, F).
        phase += 1
        inputs = normed_inputs(
            counters, phase, x, vector(weight[_MLP_NORM], D, x[0]),
            vector(weight[_MLP_BIAS], D, x[0]), eps, dtype_like, buffer,
        )  # fmt: skip
        phase += 1
        if weight[_GATE]:
            gated_rows(
                counters, phase, inputs, weight[_GATE], weight[_UP], D, dtype_like, f_out, up_out,
                inner,
            )  # fmt: skip
        else:
            activated_rows(counters, phase, inputs, weight[_UP], D, dtype_like, f_out, inner)
        phase += 1
        inputs = plain_inputs(counters, phase, inner, dtype_like, buffer)
        phase += 1
        add_linear(counters, phase, inputs, weight[_DOWN], F, dtype_like, d_out, x)

    phase = _PHASES * layers
    chunk = claim_chunk(counters, phase)
    while chunk < 1:
        for n in range(N):
            norm_row(x[n : n + 1], norm, bias, eps, states[n : n + 1])
        finish_chunk(counters, phase, 1)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, 1)
