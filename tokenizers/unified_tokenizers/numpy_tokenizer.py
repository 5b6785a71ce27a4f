"""Our tokenizers computed with numpy, until their torch module is asked for.

Sampling needs nothing but `encode_arrays` and `decode_arrays`; torch takes 1.3 s to import and
400 MB. Everything else of the contract is there and made of the module when it is first used. Once
somebody has the module itself, or has moved it, its weights count and it computes everything.

Legend: B batch, K codebooks.
"""

from __future__ import annotations

import hashlib
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from unified_base.blas import one_blas_thread
from unified_base.files import open_regular
from unified_base.safetensors_files import check_weights, read_header
from unified_tokenizers.arrays import decode_by_tensors, encode_by_tensors
from unified_tokenizers.numpy_layers import TensorTable
from unified_tokenizers.numpy_quantizer import NumpyQuantizer
from unified_tokenizers.saved_config import check_sizes, parse_saved, read_entries, settings_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from unified_tokenizers.base import Codes

__all__ = ["NumpyTokenizer"]

# Of a safetensors header: how a type's numbers lie in the file. bfloat16 is widened.
_STORED = {
    "F32": "<f4", "BF16": "<u2", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?",
}  # fmt: skip
_making = threading.Lock()


class NumpyTokenizer(ABC):
    """What both of our tokenizers share: files, fingerprint, and the torch module behind them.

    Attributes:
        config: as that of the module.
    """

    modality: ClassVar[str]
    config_class: ClassVar[type[Any]]
    presets: ClassVar[Mapping[str, dict[str, Any]]]
    module_class: ClassVar[tuple[str, str]]
    """Module and class of the same tokenizer in torch."""
    cannot_decode: ClassVar[str | None] = None
    quantizer: NumpyQuantizer

    def __init__(self, config: Any, tensors: Mapping[str, np.ndarray]) -> None:
        """
        Args:
            config: of `config_class`.
            tensors: all weights by the names that the module has them by, floats as float32.

        Raises:
            ValueError: parts that only torch computes, or weights of other names or shapes.
        """
        self.config = config
        self._tensors = dict(tensors)
        self._module: Any = None
        self._handed_out = False  # the module, so that its weights may change
        self._digest: str | None = None
        table = TensorTable(self._tensors)
        self._build(table)
        table.check_all_used()

    @abstractmethod
    def _build(self, table: TensorTable) -> None:
        """Make the layers. ValueError as `__init__`."""

    @abstractmethod
    def _encode(self, media: np.ndarray) -> np.ndarray:
        """`encode_arrays` of media that were checked."""

    @abstractmethod
    def _decode(self, codes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """`decode_arrays` with numpy."""

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what the module's `save_pretrained` wrote.

        Raises ValueError as the module does, and where only the module can compute it: whoever
        gets one opens the module instead (`loading_arrays.load_array_tokenizer`).
        """
        path = Path(folder)
        entries = read_entries(path / "config.json", "tokenizer")
        if entries.pop("modality", None) != cls.modality:
            raise ValueError(f"the tokenizer in {path} is for no {cls.modality}")
        where = str(path / "config.json")
        config = parse_saved(cls.config_class, cls.presets, entries, where)
        check_sizes(asdict(config), check_weights(path, "model.safetensors"), where)
        return cls(config, _read_tensors(path / "model.safetensors"))

    # The contract.

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""
        sizes: tuple[int, ...] = self.config.quantizer.codebook_sizes
        return sizes

    @property
    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex characters) of the configuration and of every weight."""
        if self._handed_out:
            return str(self.module.fingerprint)
        if self._digest is None:
            digest = hashlib.sha256(settings_text(self.config).encode())
            for name, tensor in sorted(self._tensors.items()):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)
            self._digest = digest.hexdigest()[:16]
        return self._digest

    def encode_arrays(self, media: np.ndarray) -> np.ndarray:
        """Media (B, ...) to codes int64 (B, K, *grid); see `arrays.ArrayTokenizer`."""
        if self._handed_out or not self.quantizer.can_encode:
            return encode_by_tensors(self._made(), media)
        with one_blas_thread():
            return self._encode(media)

    def decode_arrays(self, codes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
        """Codes to media float32 of exactly `size`; see `arrays.ArrayTokenizer`."""
        if self._handed_out:
            return decode_by_tensors(self._made(), codes, size)
        with one_blas_thread():
            return self._decode(codes, size)

    def encode(self, media: Tensor) -> Codes:
        """Media to codes, as the module does it."""
        codes: Codes = self._made().encode(media)
        return codes

    def decode(self, codes: Codes) -> Tensor:
        """Codes to media, as the module does it."""
        media: Tensor = self._made().decode(codes)
        return media

    def code_vectors(self) -> tuple[Tensor, ...]:
        """The vector of every code, as the decoder gets it: K tensors (C, D), each of mean 0."""
        vectors: tuple[Tensor, ...] = self._made().code_vectors()
        return vectors

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self._made().device
        return device

    def to(
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """See `base.MediaTokenizer.to`. Anywhere but on the CPU in float32 the module computes."""
        if self._handed_out or device not in (None, "cpu") or dtype is not None:
            self.module.to(device, dtype)
        return self

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and model.safetensors, so that the fingerprint comes back."""
        save: Any = import_module("unified_tokenizers.saved")
        save.save_exactly(self._made(), folder)

    # The module.

    @property
    def module(self) -> Any:
        """The same tokenizer as a module of torch, made once. From now on it computes everything,
        since its weights may be changed."""
        module = self._made()
        self._handed_out = True
        return module

    def _made(self) -> Any:
        with _making:
            if self._module is None:
                import torch

                home, kind = self.module_class
                module = getattr(import_module(f"unified_tokenizers.{home}"), kind)(self.config)
                module.load_state_dict(
                    {name: torch.from_numpy(tensor) for name, tensor in self._tensors.items()}
                )
                self._module = module.eval()
            return self._module


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file, floating-point ones as float32."""
    header = read_header(path)
    with open_regular(path, "weights") as file:
        data = memoryview(file.read())
    tensors = {}
    for name, entry in header.items():
        if entry.dtype not in _STORED or entry.stop > len(data):
            raise ValueError(f"{path}: {name} is {entry.dtype}, expected {', '.join(_STORED)}")
        stored = np.frombuffer(data[entry.start : entry.stop], np.dtype(_STORED[entry.dtype]))
        if entry.dtype == "BF16":  # the upper halves of float32
            bits = stored.astype(np.uint32)
            bits <<= 16
            numbers: np.ndarray = bits.view(np.float32)
        else:
            numbers = stored.astype(np.float32 if entry.dtype[0] == "F" else stored.dtype)
        tensors[name] = numbers.reshape(entry.shape)
    return tensors
