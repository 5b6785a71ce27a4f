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
rows, some outputs of a product, or one key/value head of one sequence.
"""

from __future__ import annotations

import numpy as np

from unified.engine.backends.cpu.attention import apply_rope, attend, exp
from unified.engine.backends.cpu.intrinsics import compiled, entry, wide_vectors
from unified.engine.backends.cpu.linear import (
    add_linear,
    linear_chunk,
    normed_inputs,
    plain_inputs,
    vector,
)
from unified.engine.backends.cpu.matmul import PANEL
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase

__all__ = ["LAYER", "chunk_size", "forward_layers", "num_phases"]

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
_PHASES = 9  # of a layer: of rows for products, QKV, attention, output, gated and down projection
_QUERIES = 8  # of a prompt that are multiplied with the same keys at once


def num_phases(layers: int) -> int:
    """Phases of `forward_layers`."""
    return _PHASES * layers


def chunk_size(outputs: int, threads: int) -> int:
    """Outputs in a chunk: enough to stream through, several chunks for each thread."""
    return min(256, max(PANEL, outputs // (2 * threads) // PANEL * PANEL))


@compiled
def _copy_columns(source: np.ndarray, count: int, target: np.ndarray, first: int) -> None:
    """target[:, first : first + count] = source[:, :count].

    Slices, here and elsewhere, because an index that might be negative keeps a loop from being
    vectorized.
    """
    for n in range(source.shape[0]):
        target_row, source_row = target[n, first : first + count], source[n]
        for o in range(count):
            target_row[o] = source_row[o]


@entry
def forward_layers(
    counters: np.ndarray, table: np.ndarray, dtype_like: np.ndarray, x: np.ndarray,
    buffer: np.ndarray, qkv: np.ndarray, attn_out: np.ndarray, gated: np.ndarray,
    cos_sin: np.ndarray, sequences: np.ndarray, keys: np.ndarray, values: np.ndarray,
    eps: np.float32, size: int,
) -> None:  # fmt: skip
    """Run all layers over N new ids, in place.

    Args:
        counters: `new_counters(num_phases(layers))`.
        table: int64 (layers, len(LAYER)), addresses of the weights.
        dtype_like: an empty array of the packed matrices' type (`products`).
        x: float32 (N, D), embeddings; hidden states of the last layer afterwards.
        buffer: workspace for the inputs of any product, at least N * words.
        qkv, attn_out, gated: float32 workspaces (N, H + 2G, C), (N, H, C) and (N, F).
        cos_sin: float32 (positions, 2, C/2), cosines and sines of the rotary angles.
        sequences: int64 (sequences, 4): index of the first new id, how many new ids, the cache
            slot, and how many ids the slot holds already.
        keys: float32 (layers, slots, G, L / PANEL, C, PANEL).
        values: float32 (layers, slots, G, C / PANEL, L, PANEL).
        eps: of RMSNorm.
        size: outputs in a chunk of a product.
    """
    wide_vectors()
    layers, N, D = table.shape[0], x.shape[0], x.shape[1]
    H, C, G, F = attn_out.shape[1], attn_out.shape[2], keys.shape[2], gated.shape[1]
    R, L = H // G, values.shape[4]
    block = max(1, _QUERIES // R)  # positions of a prompt that attend together
    qkv_flat = qkv.reshape(N, (H + 2 * G) * C)  # (N, H + 2G, C) -> (N, (H + 2G) C)
    attn_flat = attn_out.reshape(N, H * C)  # (N, H, C) -> (N, H C)
    # Workspaces of this thread alone.
    chunk_out, up_out = np.empty((N, size), np.float32), np.empty((N, size), np.float32)
    queries = np.empty((block * R, C), np.float32)
    attended = np.empty((block * R, values.shape[3] * PANEL), np.float32)
    scores = np.empty(block * R * L, np.float32)
    q_chunks, kv_chunks, f_chunks = -(-H * C // size), -(-G * C // size), -(-F // size)
    for layer in range(layers):
        weight, phase = table[layer], _PHASES * layer

        # Phase 1, QKV projections: x (N, D) -> RMSNorm -> qkv (N, H + 2G, C).
        norm = vector(weight[_NORM], D, x[0])
        inputs = normed_inputs(counters, phase, x, norm, eps, dtype_like, buffer)
        phase += 1
        chunks = q_chunks + 2 * kv_chunks
        chunk = claim_chunk(counters, phase)
        while chunk < chunks:
            # Chunks of Q first, then of K, then of V: 0, 1 and 2.
            chunk_of_part, part, outputs, first = chunk, 0, H * C, 0
            if chunk >= q_chunks:
                part, outputs = 1 + (chunk - q_chunks) // kv_chunks, G * C
                chunk_of_part = (chunk - q_chunks) % kv_chunks
                first = (H + G * (part - 1)) * C
            count = linear_chunk(
                inputs, weight[_Q + part], weight[_Q_BIAS + part], D, outputs, chunk_of_part,
                dtype_like, chunk_out,
            )  # fmt: skip
            _copy_columns(chunk_out, count, qkv_flat, first + chunk_of_part * size)
            finish_chunk(counters, phase, chunks)
            chunk = claim_chunk(counters, phase)
        wait_for_phase(counters, phase, chunks)

        # Phase 2, attention: qkv (N, H + 2G, C) -> attn_out (N, H, C), and new ids into the cache.
        # A chunk is one key/value head of one sequence.
        phase += 1
        chunks = sequences.shape[0] * G
        chunk = claim_chunk(counters, phase)
        while chunk < chunks:
            first, new, slot, past = sequences[chunk // G]
            g = chunk % G
            keys_g, values_g = keys[layer, slot, g], values[layer, slot, g]
            k_norm = vector(weight[_K_NORM], C, x[0])
            q_norm = vector(weight[_Q_NORM], C, x[0])
            for i in range(new):
                key, value = qkv[first + i, H + g], qkv[first + i, H + G + g]  # (C,) each
                position = past + i
                apply_rope(key, k_norm, eps, cos_sin[position])
                for c in range(C):
                    keys_g[position // PANEL, c, position % PANEL] = key[c]
                    values_g[c // PANEL, position, c % PANEL] = value[c]
            for i in range(0, new, block):
                count = min(block, new - i)
                # The R query heads of each position, one position after the other: (count R, C).
                for q in range(count * R):
                    queries[q] = qkv[first + i + q // R, g * R + q % R]
                    apply_rope(queries[q], q_norm, eps, cos_sin[past + i + q // R])
                attend(
                    queries[: count * R], past + i + 1, R, keys_g, values_g, scores,
                    attended[: count * R],
                )  # fmt: skip
                for q in range(count * R):
                    # The last panel may be wider than what is left of C.
                    attn_out[first + i + q // R, g * R + q % R] = attended[q, :C]
            finish_chunk(counters, phase, chunks)
            chunk = claim_chunk(counters, phase)
        wait_for_phase(counters, phase, chunks)

        # Phase 3, output projection: x (N, D) += attn_out (N, H C) @ W_o.T.
        phase += 1
        inputs = plain_inputs(counters, phase, attn_flat, dtype_like, buffer)
        phase += 1
        add_linear(counters, phase, inputs, weight[_OUT], H * C, dtype_like, chunk_out, x)

        # Phase 4, SwiGLU: x (N, D) -> RMSNorm -> gated (N, F) = silu(gate) * up.
        phase += 1
        norm = vector(weight[_NORM2], D, x[0])
        inputs = normed_inputs(counters, phase, x, norm, eps, dtype_like, buffer)
        phase += 1
        chunk = claim_chunk(counters, phase)
        while chunk < f_chunks:
            count = linear_chunk(inputs, weight[_GATE], 0, D, F, chunk, dtype_like, chunk_out)
            linear_chunk(inputs, weight[_UP], 0, D, F, chunk, dtype_like, up_out)
            for n in range(N):
                gate, up = chunk_out[n], up_out[n]
                gated_row = gated[n, chunk * size : chunk * size + count]
                for o in range(count):
                    gated_row[o] = gate[o] / (np.float32(1) + exp(-gate[o])) * up[o]
            finish_chunk(counters, phase, f_chunks)
            chunk = claim_chunk(counters, phase)
        wait_for_phase(counters, phase, f_chunks)

        # Phase 5, down projection: x (N, D) += gated (N, F) @ W_down.T.
        phase += 1
        inputs = plain_inputs(counters, phase, gated, dtype_like, buffer)
        phase += 1
        add_linear(counters, phase, inputs, weight[_DOWN], F, dtype_like, chunk_out, x)
