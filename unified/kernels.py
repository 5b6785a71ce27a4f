"""A decoder of the Llama family, compiled: all layers of a step in one call, shared by threads.

Legend: `N` new ids of all rows, `K` inputs and `O` outputs of a product, `L` cache length, `H`
query heads, `G` key/value heads, `R` = H/G, `C` head width, `D` width, `F` feed-forward width.

Weights are packed (`unified.tiles`), float32 or bfloat16, and everything is computed in float32. A
step with one row or two is bound by reading weights: half the bytes, half the time, and the
widening is free.

Each thread takes chunks of a phase until none is left (see `unified.team`): some outputs of a
product, or one key/value head of one row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import carray

from unified import instructions, team, tiles
from unified.instructions import bits, compiled, entry, pointer, prefetch, wide_vectors
from unified.team import await_phase, finish, take
from unified.tiles import PANEL, product

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
_AHEAD = 12  # keys, and values, that are asked for before their turn
_BLOCK = 64  # keys that stay near while all heads of a group look at them


def phases(layers: int) -> int:
    """How many phases `step` has."""
    return 5 * layers


def chunk_size(outputs: int, threads: int) -> int:
    """Outputs in a chunk: enough to stream through, several chunks for each thread."""
    return min(256, max(PANEL, outputs // (2 * threads) // PANEL * PANEL))


@compiled
def exp(x: np.float32) -> np.float32:
    """exp to 2 units in the last place, as loops over it are vectorized (Cephes' polynomial)."""
    # Not min and max: a NaN has to stay one.
    x = np.float32(-87) if x < np.float32(-87) else x
    x = np.float32(88) if x > np.float32(88) else x
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    x = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * x + np.float32(1.3981999507e-3)
    y = y * x + np.float32(8.3334519073e-3)
    y = y * x + np.float32(4.1665795894e-2)
    y = y * x + np.float32(1.6666665459e-1)
    y = y * x + np.float32(5.0000001201e-1)
    y = y * x * x + x + np.float32(1)
    return y * bits(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23))


@compiled
def norm(x: np.ndarray, weight: np.ndarray, eps: np.float32, out: np.ndarray) -> None:
    """RMSNorm of each line of x (N, D)."""
    wide_vectors()
    for n in range(x.shape[0]):
        total = np.float32(0)
        for d in range(x.shape[1]):
            total += x[n, d] * x[n, d]
        scale = np.float32(1) / np.sqrt(total / np.float32(x.shape[1]) + eps)
        for d in range(x.shape[1]):
            out[n, d] = x[n, d] * scale * weight[d]


@compiled
def _copy(made: np.ndarray, count: int, out: np.ndarray, at: int) -> None:
    """out[:, at:at + count] = made[:, :count]. Slices, here and elsewhere, because an index that
    might be negative keeps a loop from being vectorized."""
    for n in range(made.shape[0]):
        line, found = out[n, at : at + count], made[n]
        for o in range(count):
            line[o] = found[o]


@compiled
def _turn(head: np.ndarray, norm: np.ndarray, eps: np.float32, turn: np.ndarray) -> None:
    """Norm, if it has weights, and rotate one head (C,) in place. turn: (2, C/2), cos and sin."""
    wide_vectors()
    C = head.shape[0]
    if norm.shape[0]:
        total = np.float32(0)
        for c in range(C):
            total += head[c] * head[c]
        scale = np.float32(1) / np.sqrt(total / np.float32(C) + eps)
        for c in range(C):
            head[c] *= scale * norm[c]
    one, other, cos, sin = head[: C // 2], head[C // 2 :], turn[0], turn[1]
    for c in range(C // 2):
        a, b = one[c], other[c]
        one[c] = a * cos[c] - b * sin[c]
        other[c] = b * cos[c] + a * sin[c]


@compiled
def _attend(
    q: np.ndarray, keys: np.ndarray, values: np.ndarray, length: int,
    scores: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """out (R, C) = softmax(q (R, C) . keys (L, C) / sqrt(C)) @ values (L, C), of the first `length`
    of them. scores: room, (R, L)."""
    wide_vectors()
    R, C = q.shape
    scale = np.float32(1) / np.sqrt(np.float32(C))
    for begin in range(0, length, _BLOCK):
        end = min(begin + _BLOCK, length)
        for r in range(R):
            query, found = q[r], scores[r]
            for t in range(begin, end):
                key, total = keys[t], np.float32(0)
                if r == 0:
                    for c in range(0, C, 16):
                        prefetch(keys, np.int64((t + _AHEAD) * C + c))
                for c in range(C):
                    total += query[c] * key[c]
                found[t] = total * scale
    for r in range(R):
        found, made = scores[r], out[r]
        top = np.float32(-np.inf)
        for t in range(length):
            top = max(top, found[t])
        total = np.float32(0)
        for t in range(length):
            found[t] = exp(found[t] - top)
            total += found[t]
        for t in range(length):
            found[t] /= total
        for c in range(C):
            made[c] = 0
    for begin in range(0, length, _BLOCK):
        end = min(begin + _BLOCK, length)
        fours = end - (end - begin) % 4
        for r in range(R):
            p, made = scores[r], out[r]
            for t in range(begin, fours, 4):
                p0, p1, p2, p3 = p[t], p[t + 1], p[t + 2], p[t + 3]
                for c in range(0, 4 * C, 16):
                    prefetch(values, np.int64((t + _AHEAD) * C + c))
                v0, v1, v2, v3 = values[t], values[t + 1], values[t + 2], values[t + 3]
                for c in range(C):
                    made[c] += p0 * v0[c] + p1 * v1[c] + p2 * v2[c] + p3 * v3[c]
            for t in range(fours, end):
                last = values[t]
                for c in range(C):
                    made[c] += p[t] * last[c]


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
    how many, its place in the cache, and how many are there already. keys, values: float32
    (layers, rows, G, L, C). size: outputs in a chunk.
    """
    wide_vectors()
    layers, N, D = table.shape[0], x.shape[0], x.shape[1]
    H, C, G, F = mixed.shape[1], mixed.shape[2], keys.shape[2], wide.shape[1]
    R = H // G
    flat, mix = heads.reshape(N, (H + 2 * G) * C), mixed.reshape(N, H * C)
    normed = np.empty((N, D), np.float32)
    made, more = np.empty((N, size), np.float32), np.empty((N, size), np.float32)
    scores = np.empty((R, keys.shape[3]), np.float32)
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
            finish(progress, phase)
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
                key, value = heads[first + i, H + g], heads[first + i, H + G + g]
                _turn(key, k_norm, eps, turns[past + i])
                own_keys[past + i] = key
                own_values[past + i] = value
            for i in range(new):
                queries = heads[first + i, g * R : (g + 1) * R]
                for query in queries:
                    _turn(query, q_norm, eps, turns[past + i])
                found = mixed[first + i, g * R : (g + 1) * R]
                _attend(queries, own_keys, own_values, past + i + 1, scores, found)
            finish(progress, phase)
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
            finish(progress, phase)
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
        finish(progress, phase)
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
        finish(progress, 0)
        chunk = take(progress, 0)
    await_phase(progress, 0, chunks)


def _forget_stale() -> None:
    """numba asks whether this file has changed since it was compiled, and no other."""
    sources = (instructions, team, tiles)
    newest = max(Path(str(source.__file__)).stat().st_mtime for source in sources)
    for index in Path(step.stats.cache_path).glob(f"{__name__.rpartition('.')[2]}.*.nbi"):
        if index.stat().st_mtime < newest:
            index.unlink(missing_ok=True)


_forget_stale()
