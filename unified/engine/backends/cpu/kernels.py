"""A decoder of the Llama family, compiled: all layers of one forward pass in one call.

Shape legend, here and in the files beside it:

    N   new ids of all sequences, side by side; no padding between sequences
    D   hidden_size
    H   query heads                 G   key/value heads         R   H / G, queries of a key head
    C   head_dim                    F   intermediate_size       V   vocabulary
    L   length of a cache slot      K   inputs of a product     O   outputs of a product
    P   panels: a packed weight (O, K) is stored as (P, lines, PANEL), P = ceil(O / PANEL)

Weights are packed, and multiplied as their type wants it (`products`); everything else is computed
in float32. A pass with one or two sequences is bound by reading weights: half the bytes take half
the time.

A pass is a row of phases (`threads`), five for each layer: QKV projections, attention, output
projection, gated projections, down projection; before each but attention, the rows that it
multiplies are made ready (`linear`). In each phase threads claim chunks until none is left: some
rows, some outputs of a product, or some queries of a key/value head (`heads`).
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.heads import attend_heads, chunk_ends, turn_heads
from unified.engine.backends.cpu.intrinsics import entry, wide_vectors
from unified.engine.backends.cpu.layer_products import gated_rows, project_heads
from unified.engine.backends.cpu.linear import (
    add_linear,
    chunk_size,
    normed_inputs,
    plain_inputs,
    vector,
)

__all__ = ["LAYER", "forward_layers", "num_phases"]

# The tensors of a layer in the order of the address table; address 0 where a model has none.
LAYER = (
    "input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.k_proj.weight",
    "self_attn.v_proj.weight", "self_attn.q_proj.bias", "self_attn.k_proj.bias",
    "self_attn.v_proj.bias", "self_attn.q_norm.weight", "self_attn.k_norm.weight",
    "self_attn.o_proj.weight", "post_attention_layernorm.weight", "mlp.gate_proj.weight",
    "mlp.up_proj.weight", "mlp.down_proj.weight",
)  # fmt: skip
_NORM, _Q, _K, _V, _Q_BIAS, _K_BIAS, _V_BIAS, _Q_NORM, _K_NORM, _OUT, _NORM2, _GATE, _UP, _DOWN = (
    range(len(LAYER))
)
# Of a layer: four products, rows for each, turned heads, attention, and its parts folded.
_PHASES = 11


def num_phases(layers: int) -> int:
    """Phases of `forward_layers`."""
    return _PHASES * layers


@entry
def forward_layers(
    counters: np.ndarray, table: np.ndarray, dtype_like: np.ndarray, x: np.ndarray,
    buffer: np.ndarray, qkv: np.ndarray, attn_out: np.ndarray, gated: np.ndarray,
    cos_sin: np.ndarray, sequences: np.ndarray, kv_like: np.ndarray, kv_heads: int,
    parts: np.ndarray, eps: np.float32, first_layer: int, stop_layer: int, threads: int,
) -> None:  # fmt: skip
    """Run layers [first_layer, stop_layer) over N new ids, in place.

    Args:
        counters: `new_counters(num_phases(layers))` of as many layers as run.
        table: int64 (layers, len(LAYER)), addresses of the weights.
        dtype_like: an empty array of the packed matrices' type (`products`).
        x: float32 (N, D), embeddings, or what the layer before the first left; hidden states of the
            last layer that runs afterwards.
        buffer: workspace for the inputs of any product, at least N * words.
        qkv, attn_out, gated: float32 workspaces (N, H + 2G, C), (N, H, C) and (N, F).
        cos_sin: float32 (positions, 2, C/2), cosines and sines of the rotary angles.
        sequences: int64 (sequences, 5): index of the first new id, how many new ids, how many ids
            the KV slot holds already, the address of its memory (`kv`), and its length L.
        kv_like: an empty array of the cache's type.
        kv_heads: G.
        parts: float32 workspace of `part_numbers`.
        eps: of RMSNorm.
        threads: that share the work.
    """
    wide_vectors()
    layers, N, D = table.shape[0], x.shape[0], x.shape[1]
    H, C, G, F = attn_out.shape[1], attn_out.shape[2], kv_heads, gated.shape[1]
    attn_flat = attn_out.reshape(N, H * C)  # (N, H, C) -> (N, H C)
    ends = chunk_ends(sequences, H, G, C, parts.shape[0] > 0)
    # Workspaces of this thread alone.
    q_size, kv_size = chunk_size(H * C, threads, N), chunk_size(G * C, threads, N)
    d_size, f_size = chunk_size(D, threads, N), chunk_size(F, threads, N)
    chunk_space = np.empty(N * max(q_size, kv_size, d_size, f_size), np.float32)
    up_out = np.empty((N, f_size), np.float32)
    d_out = chunk_space[: N * d_size].reshape((N, d_size))
    f_out = chunk_space[: N * f_size].reshape((N, f_size))
    no_bias = vector(np.int64(0), 0, x[0])
    for layer in range(first_layer, stop_layer):
        weight, phase = table[layer], _PHASES * (layer - first_layer)

        # Phase 1, QKV projections: x (N, D) -> RMSNorm -> qkv (N, H + 2G, C).
        norm = vector(weight[_NORM], D, x[0])
        inputs = normed_inputs(counters, phase, x, norm, no_bias, eps, dtype_like, buffer)
        phase += 1
        project_heads(
            counters, phase, inputs, weight[_Q : _V + 1], weight[_Q_BIAS : _V_BIAS + 1], D, G,
            threads, dtype_like, chunk_space, qkv,
        )  # fmt: skip

        # Phase 2, attention: qkv (N, H + 2G, C) -> attn_out (N, H, C), and new ids into the cache.
        phase += 1
        q_norm, k_norm = vector(weight[_Q_NORM], C, x[0]), vector(weight[_K_NORM], C, x[0])
        turn_heads(
            counters, phase, qkv, q_norm, k_norm, eps, cos_sin, sequences, ends, layer, layers,
            kv_like, G,
        )  # fmt: skip
        phase += 1
        attend_heads(
            counters, phase, qkv, sequences, ends, layer, layers, kv_like, G, parts, attn_out
        )  # fmt: skip
        phase += 1

        # Phase 3, output projection: x (N, D) += attn_out (N, H C) @ W_o.T.
        phase += 1
        inputs = plain_inputs(counters, phase, attn_flat, dtype_like, buffer)
        phase += 1
        add_linear(counters, phase, inputs, weight[_OUT], H * C, dtype_like, d_out, x)

        # Phase 4, SwiGLU: x (N, D) -> RMSNorm -> gated (N, F) = silu(gate) * up.
        phase += 1
        norm = vector(weight[_NORM2], D, x[0])
        inputs = normed_inputs(counters, phase, x, norm, no_bias, eps, dtype_like, buffer)
        phase += 1
        gated_rows(
            counters, phase, inputs, weight[_GATE], weight[_UP], D, dtype_like, f_out, up_out,
            gated,
        )  # fmt: skip

        # Phase 5, down projection: x (N, D) += gated (N, F) @ W_down.T.
        phase += 1
        inputs = plain_inputs(counters, phase, gated, dtype_like, buffer)
        phase += 1
        add_linear(counters, phase, inputs, weight[_DOWN], F, dtype_like, d_out, x)
