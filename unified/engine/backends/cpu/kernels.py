"""A decoder of the Llama family, compiled: all layers of one forward pass in one call.

Shape legend, here and in the files beside it:

    N   new ids of all sequences, side by side; no padding between sequences
    D   hidden_size
    H   query heads                 G   key/value heads         R   H / G, queries of a key head
    C   head_dim                    F   intermediate_size       V   vocabulary
    L   length of a cache slot      K   inputs of a product     O   outputs of a product
    P   panels: a packed weight (O, K) is stored as (P, K, PANEL), P = ceil(O / PANEL)

Weights are packed (`matmul.pack`), float32 or bfloat16; everything is computed in float32. A pass
with one or two sequences is bound by reading weights: half the bytes take half the time, and
widening bfloat16 to float32 costs nothing.

A pass is a row of phases (`threads`), five for each layer: QKV projections, attention, output
projection, gated projections, down projection. In each phase threads claim chunks until none is
left: some outputs of a product, or one key/value head of one sequence.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from unified.engine.backends.cpu.attention import apply_rope, attend, exp, rms_norm
from unified.engine.backends.cpu.intrinsics import compiled, entry, pointer, wide_vectors
from unified.engine.backends.cpu.matmul import PANEL, matmul
from unified.engine.backends.cpu.threads import claim_chunk, finish_chunk, wait_for_phase

__all__ = ["LAYER", "chunk_size", "forward_layers", "lm_head", "num_phases"]

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
_QUERIES = 8  # of a prompt that are multiplied with the same keys at once


def num_phases(layers: int) -> int:
    """Phases of `forward_layers`."""
    return 5 * layers


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


@compiled
def _vector(address: int, size: int, dtype_like: np.ndarray) -> np.ndarray:
    """The vector (size,) at an address; (0,) where the address is 0."""
    return carray(pointer(address, dtype_like), (size if address else 0,))


@compiled
def _keys_of_head(address: int, L: int, C: int, head: int, dtype_like: np.ndarray) -> np.ndarray:
    """Keys (L / PANEL, C, PANEL) of a head in those of a slot; heads count through all layers."""
    start = address + 4 * head * L * C
    return carray(pointer(start, dtype_like), (L // PANEL, C, PANEL))


@compiled
def _values_of_head(
    address: int, L: int, panels: int, head: int, dtype_like: np.ndarray
) -> np.ndarray:
    """Values (C / PANEL, L, PANEL) of a head in those of a slot, in as many panels."""
    start = address + 4 * head * L * panels * PANEL
    return carray(pointer(start, dtype_like), (panels, L, PANEL))


@compiled
def _linear_chunk(
    x: np.ndarray, weight: int, bias: int, outputs: int, chunk: int, dtype_like: np.ndarray,
    out: np.ndarray,
) -> int:  # fmt: skip
    """Compute one chunk of x (N, K) @ weight.T + bias into `out` (N, chunk size).

    weight, bias: addresses of a packed weight of `outputs` outputs and of its bias, 0 for none.
    Returns the number of outputs in the chunk: the last one may be smaller.
    """
    wide_vectors()
    size = out.shape[1]
    first = chunk * size
    count = min(size, outputs - first)
    panels = carray(pointer(weight, dtype_like), (-(-outputs // PANEL), x.shape[1], PANEL))
    matmul(x, panels, first // PANEL, -(-count // PANEL), out)  # (N, K) -> (N, size)
    if bias:
        bias_chunk = carray(pointer(bias, out), (outputs,))[first : first + count]
        for n in range(x.shape[0]):
            for o in range(count):
                out[n, o] += bias_chunk[o]
    return count


@entry
def forward_layers(
    counters: np.ndarray, table: np.ndarray, dtype_like: np.ndarray, x: np.ndarray,
    qkv: np.ndarray, attn_out: np.ndarray, gated: np.ndarray, cos_sin: np.ndarray,
    sequences: np.ndarray, kv_heads: int, eps: np.float32, size: int,
) -> None:  # fmt: skip
    """Run all layers over N new ids, in place.

    Args:
        counters: `new_counters(num_phases(layers))`.
        table: int64 (layers, len(LAYER)), addresses of the weights.
        dtype_like: an empty array of the matrices' type, float32 or uint16 (bfloat16).
        x: float32 (N, D), embeddings; hidden states of the last layer afterwards.
        qkv, attn_out, gated: float32 workspaces (N, H + 2G, C), (N, H, C) and (N, F).
        cos_sin: float32 (positions, 2, C/2), cosines and sines of the rotary angles.
        sequences: int64 (sequences, 5): index of the first new id, how many new ids, how many ids
            the KV slot holds already, the address of its memory, and its length L. The memory is
            float32: keys (layers, G, L / PANEL, C, PANEL), then values (layers, G, C / PANEL, L,
            PANEL).
        kv_heads: G.
        eps: of RMSNorm.
        size: outputs in a chunk of a product.
    """
    wide_vectors()
    layers, N, D = table.shape[0], x.shape[0], x.shape[1]
    H, C, G, F = attn_out.shape[1], attn_out.shape[2], kv_heads, gated.shape[1]
    R, head_panels, most_ids = H // G, -(-C // PANEL), 0
    for _, new, past, _, _ in sequences:
        most_ids = max(most_ids, -(-(past + new) // PANEL) * PANEL)
    block = max(1, _QUERIES // R)  # positions of a prompt that attend together
    qkv_flat = qkv.reshape(N, (H + 2 * G) * C)  # (N, H + 2G, C) -> (N, (H + 2G) C)
    attn_flat = attn_out.reshape(N, H * C)  # (N, H, C) -> (N, H C)
    # Workspaces of this thread alone.
    normed = np.empty((N, D), np.float32)
    chunk_out, up_out = np.empty((N, size), np.float32), np.empty((N, size), np.float32)
    queries = np.empty((block * R, C), np.float32)
    attended = np.empty((block * R, head_panels * PANEL), np.float32)
    scores = np.empty(block * R * most_ids, np.float32)
    q_chunks, kv_chunks, f_chunks = -(-H * C // size), -(-G * C // size), -(-F // size)
    for layer in range(layers):
        weight, phase = table[layer], 5 * layer

        # Phase 1, QKV projections: x (N, D) -> RMSNorm -> qkv (N, H + 2G, C).
        normed_ready = False
        chunks = q_chunks + 2 * kv_chunks
        chunk = claim_chunk(counters, phase)
        while chunk < chunks:
            if not normed_ready:
                rms_norm(x, _vector(weight[_NORM], D, x[0]), eps, normed)
                normed_ready = True
            # Chunks of Q first, then of K, then of V: 0, 1 and 2.
            chunk_of_part, part, outputs, first = chunk, 0, H * C, 0
            if chunk >= q_chunks:
                part, outputs = 1 + (chunk - q_chunks) // kv_chunks, G * C
                chunk_of_part = (chunk - q_chunks) % kv_chunks
                first = (H + G * (part - 1)) * C
            count = _linear_chunk(
                normed, weight[_Q + part], weight[_Q_BIAS + part], outputs, chunk_of_part,
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
            first, new, past, address, L = sequences[chunk // G]
            g = chunk % G
            keys_g = _keys_of_head(address, L, C, layer * G + g, x)
            # The values follow the keys of all heads of all layers.
            address += 4 * layers * G * L * C
            values_g = _values_of_head(address, L, head_panels, layer * G + g, x)
            k_norm = _vector(weight[_K_NORM], C, x[0])
            q_norm = _vector(weight[_Q_NORM], C, x[0])
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
        _add_linear(counters, phase, attn_flat, weight[_OUT], dtype_like, chunk_out, x)

        # Phase 4, SwiGLU: x (N, D) -> RMSNorm -> gated (N, F) = silu(gate) * up.
        phase += 1
        normed_ready = False
        chunk = claim_chunk(counters, phase)
        while chunk < f_chunks:
            if not normed_ready:
                rms_norm(x, _vector(weight[_NORM2], D, x[0]), eps, normed)
                normed_ready = True
            count = _linear_chunk(normed, weight[_GATE], 0, F, chunk, dtype_like, chunk_out)
            _linear_chunk(normed, weight[_UP], 0, F, chunk, dtype_like, up_out)
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
        _add_linear(counters, phase, gated, weight[_DOWN], dtype_like, chunk_out, x)


@compiled
def _add_linear(
    counters: np.ndarray, phase: int, x: np.ndarray, weight: int, dtype_like: np.ndarray,
    chunk_out: np.ndarray, residual: np.ndarray,
) -> None:  # fmt: skip
    """One phase: residual (N, D) += x (N, K) @ weight.T, the packed weight (D, K) at an address."""
    wide_vectors()
    size = chunk_out.shape[1]
    chunks = -(-residual.shape[1] // size)
    chunk = claim_chunk(counters, phase)
    while chunk < chunks:
        count = _linear_chunk(x, weight, 0, residual.shape[1], chunk, dtype_like, chunk_out)
        for n in range(x.shape[0]):
            residual_row = residual[n, chunk * size : chunk * size + count]
            added = chunk_out[n]
            for o in range(count):
                residual_row[o] += added[o]
        finish_chunk(counters, phase, chunks)
        chunk = claim_chunk(counters, phase)
    wait_for_phase(counters, phase, chunks)


@entry
def lm_head(
    counters: np.ndarray, x: np.ndarray, weight: np.ndarray, ranges: np.ndarray, out: np.ndarray,
    size: int,
) -> None:  # fmt: skip
    """Logits of some ids alone, as a job of one phase.

    Args:
        counters: `new_counters(1)`.
        x: float32 (N, D), hidden states.
        weight: (P, D, PANEL), the packed head.
        ranges: int64 (ranges, 2), [start, stop) of the ids of each range.
        out: float32 (N, ids of all ranges), written.
        size: outputs in a chunk.
    """
    wide_vectors()
    chunk_out = np.empty((x.shape[0], size), np.float32)
    panels_in_chunk, chunks = size // PANEL, 0
    for start, stop in ranges:
        # From the panel that holds `start` to the one that holds the last id.
        chunks += -(-(-(-stop // PANEL) - start // PANEL) // panels_in_chunk)
    chunk = claim_chunk(counters, 0)
    while chunk < chunks:
        chunk_of_range, column = chunk, 0
        for start, stop in ranges:
            first_panel, end_panel = start // PANEL, -(-stop // PANEL)
            chunks_of_range = -(-(end_panel - first_panel) // panels_in_chunk)
            if chunk_of_range < chunks_of_range:
                panel = first_panel + chunk_of_range * panels_in_chunk
                count = min(panels_in_chunk, end_panel - panel)
                matmul(x, weight, panel, count, chunk_out)  # (N, D) -> (N, size)
                # Of the panels' ids, those inside the range.
                low, high = max(start, panel * PANEL), min(stop, (panel + count) * PANEL)
                for n in range(x.shape[0]):
                    out_row = out[n, column + low - start : column + high - start]
                    logits = chunk_out[n, low - panel * PANEL : high - panel * PANEL]
                    for o in range(logits.shape[0]):
                        out_row[o] = logits[o]
                break
            chunk_of_range -= chunks_of_range
            column += stop - start
        finish_chunk(counters, 0, chunks)
        chunk = claim_chunk(counters, 0)
    wait_for_phase(counters, 0, chunks)
