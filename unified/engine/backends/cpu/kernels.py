"""A decoder of the Llama family, compiled: all layers of a step in one call, shared by threads.

Legend: `N` new ids of all rows, `K` inputs and `O` outputs of a product, `L` cache length, `H`
query heads, `G` key/value heads, `R` = H/G, `C` head width, `D` width, `F` feed-forward width.

Weights are packed (`matmul`), float32 or bfloat16, and everything is computed in float32. A
step with one row or two is bound by reading weights: half the bytes, half the time, and the
widening is free.

Each thread takes chunks of a phase until none is left (see `threads`): some outputs of a
product, or one key/value head of one row.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from unified.engine.backends.cpu.attention import attend, exp, norm, turn
from unified.engine.backends.cpu.intrinsics import compiled, entry, pointer, wide_vectors
from unified.engine.backends.cpu.matmul import PANEL, product
from unified.engine.backends.cpu.threads import await_phase, finish, take

__all__ = ["LAYER", "chunk_size", "head", "phases", "step"]

# What the table of addresses holds of a layer, in this order; 0 where it has none.
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
_QUERIES = 8  # of a prompt that look at the same keys at once


def phases(layers: int) -> int:
    """How many phases `step` has."""
    return 5 * layers


def chunk_size(outputs: int, threads: int) -> int:
    """Outputs in a chunk: enough to stream through, several chunks for each thread."""
    return min(256, max(PANEL, outputs // (2 * threads) // PANEL * PANEL))


@compiled
def _copy(made: np.ndarray, count: int, out: np.ndarray, at: int) -> None:
    """out[:, at:at + count] = made[:, :count]. Slices, here and elsewhere, because an index that
    might be negative keeps a loop from being vectorized."""
    for n in range(made.shape[0]):
        line, found = out[n, at : at + count], made[n]
        for o in range(count):
            line[o] = found[o]


@compiled
def _vector(address: int, size: int, like: np.ndarray) -> np.ndarray:
    """(size,), or (0,) where the layer has none."""
    return carray(pointer(address, like), (size if address else 0,))


@compiled
def _part(
    x: np.ndarray, address: int, bias: int, outputs: int, chunk: int, like: np.ndarray,
    made: np.ndarray,
) -> int:  # fmt: skip
    """A chunk of outputs of the weight (outputs, K) at an address into `made` (N, size); how
    many they are."""
    wide_vectors()
    size = made.shape[1]
    first = chunk * size
    count = min(size, outputs - first)
    w = carray(pointer(address, like), (-(-outputs // PANEL), x.shape[1], PANEL))
    product(x, w, first // PANEL, -(-count // PANEL), made)
    if bias:
        added = carray(pointer(bias, made), (outputs,))[first : first + count]
        for n in range(x.shape[0]):
            for o in range(count):
                made[n, o] += added[o]
    return count


@entry
def step(
    progress: np.ndarray, table: np.ndarray, like: np.ndarray, x: np.ndarray, heads: np.ndarray,
    mixed: np.ndarray, wide: np.ndarray, turns: np.ndarray, rows: np.ndarray, keys: np.ndarray,
    values: np.ndarray, eps: np.float32, size: int,
) -> None:  # fmt: skip
    """All layers, for N new ids: x float32 (N, D), embeddings at first, is what they make at last.

    progress: `new_progress(phases(layers))`. table: int64 (layers, len(LAYER)), addresses. like: an
    empty array of the weights' type. heads (N, H + 2G, C), mixed (N, H, C), wide (N, F): room.
    turns: float32 (L, 2, C/2), cosines and sines. rows: int64 (rows, 4): the first of its new ids,
    how many, its place in the cache, and how many are there already. keys (layers, rows, G,
    L / PANEL, C, PANEL) and values (layers, rows, G, C / PANEL, L, PANEL): float32. size: outputs
    in a chunk.
    """
    wide_vectors()
    layers, N, D = table.shape[0], x.shape[0], x.shape[1]
    H, C, G, F = mixed.shape[1], mixed.shape[2], keys.shape[2], wide.shape[1]
    R, L = H // G, values.shape[4]
    together = max(1, _QUERIES // R)
    flat, mix = heads.reshape(N, (H + 2 * G) * C), mixed.reshape(N, H * C)
    normed = np.empty((N, D), np.float32)
    made, more = np.empty((N, size), np.float32), np.empty((N, size), np.float32)
    queries = np.empty((together * R, C), np.float32)
    found = np.empty((together * R, values.shape[3] * PANEL), np.float32)
    room = np.empty(together * R * L, np.float32)
    q_chunks, kv_chunks, f_chunks = -(-H * C // size), -(-G * C // size), -(-F // size)
    for layer in range(layers):
        weight, phase = table[layer], 5 * layer
        ready = False
        chunks = q_chunks + 2 * kv_chunks
        chunk = take(progress, phase)
        while chunk < chunks:
            if not ready:
                norm(x, _vector(weight[_NORM], D, x[0]), eps, normed)
                ready = True
            at, part, outputs, begin = chunk, 0, H * C, 0
            if chunk >= q_chunks:
                part, outputs = 1 + (chunk - q_chunks) // kv_chunks, G * C
                at = (chunk - q_chunks) % kv_chunks
                begin = (H + G * (part - 1)) * C
            count = _part(
                normed, weight[_Q + part], weight[_Q_BIAS + part], outputs, at, like, made
            )
            _copy(made, count, flat, begin + at * size)
            finish(progress, phase, chunks)
            chunk = take(progress, phase)
        await_phase(progress, phase, chunks)

        phase += 1
        chunks = rows.shape[0] * G
        chunk = take(progress, phase)
        while chunk < chunks:
            first, new, place, past = rows[chunk // G]
            g = chunk % G
            own_keys, own_values = keys[layer, place, g], values[layer, place, g]
            k_norm = _vector(weight[_K_NORM], C, x[0])
            q_norm = _vector(weight[_Q_NORM], C, x[0])
            for i in range(new):
                key, value, t = heads[first + i, H + g], heads[first + i, H + G + g], past + i
                turn(key, k_norm, eps, turns[t])
                for c in range(C):
                    own_keys[t // PANEL, c, t % PANEL] = key[c]
                    own_values[c // PANEL, t, c % PANEL] = value[c]
            for i in range(0, new, together):
                count = min(together, new - i)
                for q in range(count * R):
                    queries[q] = heads[first + i + q // R, g * R + q % R]
                    turn(queries[q], q_norm, eps, turns[past + i + q // R])
                some = queries[: count * R], past + i + 1, R, own_keys, own_values, room
                attend(*some, found[: count * R])
                for q in range(count * R):
                    mixed[first + i + q // R, g * R + q % R] = found[q, :C]
            finish(progress, phase, chunks)
            chunk = take(progress, phase)
        await_phase(progress, phase, chunks)

        phase += 1
        _into(progress, phase, mix, weight[_OUT], like, made, x)
        phase += 1
        ready = False
        chunk = take(progress, phase)
        while chunk < f_chunks:
            if not ready:
                norm(x, _vector(weight[_NORM2], D, x[0]), eps, normed)
                ready = True
            count = _part(normed, weight[_GATE], 0, F, chunk, like, made)
            _part(normed, weight[_UP], 0, F, chunk, like, more)
            for n in range(N):
                gate, up = made[n], more[n]
                gated = wide[n, chunk * size : chunk * size + count]
                for o in range(count):
                    gated[o] = gate[o] / (np.float32(1) + exp(-gate[o])) * up[o]
            finish(progress, phase, f_chunks)
            chunk = take(progress, phase)
        await_phase(progress, phase, f_chunks)
        phase += 1
        _into(progress, phase, wide, weight[_DOWN], like, made, x)


@compiled
def _into(
    progress: np.ndarray, phase: int, x: np.ndarray, address: int, like: np.ndarray,
    made: np.ndarray, total: np.ndarray,
) -> None:  # fmt: skip
    """A phase: total (N, D) += x (N, K) times the weight (D, K) at an address."""
    wide_vectors()
    size = made.shape[1]
    chunks = -(-total.shape[1] // size)
    chunk = take(progress, phase)
    while chunk < chunks:
        count = _part(x, address, 0, total.shape[1], chunk, like, made)
        for n in range(x.shape[0]):
            line, more = total[n, chunk * size : chunk * size + count], made[n]
            for o in range(count):
                line[o] += more[o]
        finish(progress, phase, chunks)
        chunk = take(progress, phase)
    await_phase(progress, phase, chunks)


@entry
def head(
    progress: np.ndarray, x: np.ndarray, w: np.ndarray, ranges: np.ndarray, out: np.ndarray,
    size: int,
) -> None:  # fmt: skip
    """A job of one phase: out (N, outputs of all ranges) = x (N, K) times those outputs of a packed
    weight (P, K, PANEL). ranges: int64 (ranges, 2), [start, stop) of each."""
    wide_vectors()
    made = np.empty((x.shape[0], size), np.float32)
    panels, chunks = size // PANEL, 0
    for start, stop in ranges:
        chunks += -(-(-(-stop // PANEL) - start // PANEL) // panels)
    chunk = take(progress, 0)
    while chunk < chunks:
        here, at = chunk, 0
        for start, stop in ranges:
            begin, end = start // PANEL, -(-stop // PANEL)
            own = -(-(end - begin) // panels)
            if here < own:
                first = begin + here * panels
                product(x, w, first, min(panels, end - first), made)
                low, high = max(start, first * PANEL), min(stop, (first + panels) * PANEL)
                for n in range(x.shape[0]):
                    line = out[n, at + low - start : at + high - start]
                    found = made[n, low - first * PANEL : high - first * PANEL]
                    for o in range(found.shape[0]):
                        line[o] = found[o]
                break
            here -= own
            at += stop - start
        finish(progress, 0, chunks)
        chunk = take(progress, 0)
    await_phase(progress, 0, chunks)
