"""Layers of our tokenizers in numpy, for programs that sample and do nothing else.

torch takes 1.3 s to import and 400 MB of memory, a picture of 96 x 96 pixels takes 20 ms to decode.
The layers are those of `layers`, with weights as they are stored; results agree up to the rounding
of float32.

Legend: B batch, D width, H W grid, T frames, N places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "NumpyConvNeXt", "NumpyLinear", "NumpyMLP", "NumpyNorm", "TensorTable", "gelu"]

Floats = NDArray[np.float32]
# Numbers of a hidden layer that are computed at once: they stay in the cache of a core.
_AT_ONCE = 1 << 17
_EPS = np.float32(1e-5)  # torch's LayerNorm
# erf(x) = x P(x^2) / Q(x^2) for |x| <= 4, the lowest power first: fitted by reweighted least
# squares at 4,000 points, with a relative error of 2.5e-8; in float32 it is 3.5e-7 off at most.
_ERF_P = (1.12837914, 0.193529327, 0.053099647, 0.00388267149, 0.000284550839, 1.98689713e-06)
_ERF_Q = (1.0, 0.504843459, 0.11534348, 0.0152058959, 0.00118540882, 3.74205945e-05)


class TensorTable:
    """Stored tensors by name, each with the shape that its layer expects.

    Raises ValueError where a name is missing or a shape is another, and in `check_all_used` for
    names that no layer has asked for.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]) -> None:
        self.tensors = tensors
        self._used: set[str] = set()

    def get(self, name: str, *shape: int) -> np.ndarray:
        """The tensor of a name, which has this shape."""
        tensor = self.tensors.get(name)
        if tensor is None or tensor.shape != shape:
            stored = "is missing" if tensor is None else f"has shape {tensor.shape}"
            raise ValueError(f"{name} {stored}, expected shape {shape}")
        self._used.add(name)
        return tensor

    def check_all_used(self) -> None:
        if unused := sorted(self.tensors.keys() - self._used):
            raise ValueError(f"no layer has {unused[0]}")


class NumpyLinear:
    """x (..., I) to x @ W.T + b (..., O)."""

    def __init__(self, table: TensorTable, name: str, inputs: int, outputs: int) -> None:
        self.weight_IO = table.get(f"{name}.weight", outputs, inputs).T
        self.bias_O = table.get(f"{name}.bias", outputs)

    def __call__(self, x: Floats) -> Floats:
        out = x.reshape(-1, x.shape[-1]) @ self.weight_IO
        out += self.bias_O
        return out.reshape(*x.shape[:-1], -1)


class NumpyNorm:
    """LayerNorm on the last axis: (..., D) to same."""

    def __init__(self, table: TensorTable, name: str, width: int) -> None:
        self.weight_D = table.get(f"{name}.weight", width)
        self.bias_D = table.get(f"{name}.bias", width)

    def __call__(self, x: Floats) -> Floats:
        centred = x - x.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        centred *= self.weight_D / np.sqrt(variance + _EPS)
        centred += self.bias_D
        return centred


class NumpyMLP:
    """`layers.PixelMLP`: a residual MLP on the last axis, (..., D) to same."""

    def __init__(self, table: TensorTable, name: str, width: int, expansion: int = 2) -> None:
        self.norm = NumpyNorm(table, f"{name}.norm", width)
        self.up = NumpyLinear(table, f"{name}.up", width, expansion * width)
        self.down = NumpyLinear(table, f"{name}.down", expansion * width, width)
        self._rows = max(1, _AT_ONCE // (expansion * width))

    def __call__(self, x: Floats) -> Floats:
        rows_ND = x.reshape(-1, x.shape[-1])
        out_ND = np.empty_like(rows_ND)
        for part in _parts(len(rows_ND), self._rows):
            hidden = self.up(self.norm(rows_ND[part]))
            np.add(rows_ND[part], self.down(gelu(hidden)), out=out_ND[part])
        return out_ND.reshape(x.shape)


class NumpyConvNeXt:
    """`layers.ConvNeXt2d` on (B, H, W, D); `ConvNeXt1d` on (B, 1, T, D) with `frames`.

    kernel: places of a side, or of a row of frames. causal: frames see none that follow.
    """

    def __init__(
        self, table: TensorTable, name: str, width: int, kernel: int = 5, expansion: int = 2,
        *, frames: bool = False, causal: bool = False,
    ) -> None:  # fmt: skip
        shape = (width, 1, kernel) if frames else (width, 1, kernel, kernel)
        taps = table.get(f"{name}.spatial.weight", *shape)
        # (D, 1, [kernel,] kernel) -> (kernel or 1, kernel, D)
        self.taps_HWD = np.ascontiguousarray(
            taps.reshape(width, *(1, kernel) if frames else (kernel, kernel)).transpose(1, 2, 0)
        )
        self.bias_D = table.get(f"{name}.spatial.bias", width)
        half = kernel // 2
        self._above = 0 if frames else half
        self._before, self._after = (kernel - 1, 0) if causal else (half, half)
        self.mlp = NumpyMLP(table, f"{name}.mlp", width, expansion)

    def __call__(self, x_BHWD: Floats) -> Floats:
        _, height, width, _ = x_BHWD.shape
        around = ((0, 0), (self._above,) * 2, (self._before, self._after), (0, 0))
        padded = np.pad(x_BHWD, around)
        out = x_BHWD + self.bias_D
        # Some rows at a time: the sums and the products stay in the cache.
        rows = max(1, _AT_ONCE // max(1, width * x_BHWD.shape[3]))
        for picture, sums in zip(padded, out):
            for part in _parts(height, rows):
                stop = part.start + len(sums[part])
                for y, row_of_taps in enumerate(self.taps_HWD):
                    for x, tap_D in enumerate(row_of_taps):
                        sums[part] += picture[part.start + y : stop + y, x : x + width] * tap_D
        return self.mlp(out)


def gelu(x: Floats) -> Floats:
    """The exact GELU, x (1 + erf(x / sqrt 2)) / 2, in place of x."""
    scaled = np.clip(x * np.float32(0.5**0.5), -4, 4)
    square = scaled * scaled
    scaled *= _polynomial(_ERF_P, square)
    scaled /= _polynomial(_ERF_Q, square)
    scaled += np.float32(1)
    scaled *= np.float32(0.5)
    x *= scaled
    return x


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= x
        total += np.float32(coefficient)
    return total


def _parts(rows: int, at_once: int) -> Iterator[slice]:
    for start in range(0, rows, at_once):
        yield slice(start, min(rows, start + at_once))
