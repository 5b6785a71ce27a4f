"""The language model of a `UnifiedModel`: opened once, one copy of its weights, moved as a whole.

Two forms of it exist. The CPU backend packs the weights while it reads them, a few rows at a time:
the packed copy is the only one in memory. `hf`, the object of transformers, is made when it is
first asked for; on the CPU its weights are views of the mapped files, pages of the system's cache
that become memory of the process where they are written to (training). Packed panels and the rows
of a matrix are two layouts, so that one memory cannot serve both.

Once `hf` exists its weights count: while they are those of the files, sampling stays with the
packed copy; when they have changed that copy is dropped. A small model is packed anew, a large one
is sampled by the object's own forward, which shares its weights.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified.engine.backends.base import Decoder
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified.engine.backends.depth_config import DepthConfig
from unified.models import hf_checkpoint as checkpoint
from unified.models.choose_backend import check_backend, check_on_cpu
from unified.models.grafting.graft_files import install_stored_layers
from unified.models.pretrained import Pretrained
from unified.models.published_decoders import (
    load_published_decoder,
    load_published_hf,
    published_decoder_of,
)
from unified.models.quantized import QUANTIZED, check_quantized, is_quantized, quantize_layers
from unified.models.stored_weights import check_dtype
from unified_base.foreign import foreign
from unified_base.text import quoted

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

__all__ = ["LanguageModel", "WeightState", "check_device", "check_weights_device"]

REPACKED_BYTES = 256 << 20
"""Weights of `hf` that have changed are packed anew for the CPU backend up to this size."""


def check_device(device: str | torch.device) -> str:
    """A device of torch by its name, such as "cpu", "cuda:1", "mps" or "meta".

    Raises ValueError for a name that torch does not know, and a device that this machine lacks.
    """
    if isinstance(device, str) and device == "cpu":
        return device  # torch takes seconds to import
    import torch

    try:
        checked = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"device is {quoted(device)}, expected a device of torch such as cpu, cuda, cuda:1, mps"
            " or meta"
        ) from None
    with foreign(f"device {checked} cannot be used here"):
        torch.empty(0, device=checked)
    return str(checked)


def check_weights_device(device: Any) -> None:
    """Raises ValueError as `check_device` does, and for "meta", which holds no weights. None
    passes: nobody chose one."""
    if device is not None and check_device(device) == "meta":
        raise ValueError("device is 'meta', expected one that holds weights, such as cpu or cuda")


class LanguageModel:
    """A causal language model as transformers' object and as a decoder for sampling.

    Any number of threads may ask for either; the same object comes to each. Moving it is for when
    nobody samples.

    directory: where its weights are stored; None for one that was made in this process.
    bidirectional: whether it reads spans whose positions see one another, which the compiled loops
    do not.
    before_another: called before the weights are packed anew, for whoever holds what was there.
    """

    def __init__(
        self,
        hf: PreTrainedModel | None = None,
        directory: Path | None = None,
        pretrained: Pretrained | None = None,
        depth: DepthConfig | None = None,
        layers: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            hf: an object of transformers; None: see `open`.
            directory: where its weights are stored.
            pretrained: what it was published as; None for a plain causal LM.
            depth: of the depth decoder beside it; None: it has none.
            layers: what is installed in its layers, as unified.json says; None: nothing.
        """
        assert hf is not None or directory is not None
        self.directory = directory
        self._pretrained = pretrained
        self._depth = depth
        self._layers = layers
        self.bidirectional = False
        self._hf = hf
        self._device, self._dtype, self._backend = "cpu", "auto", "auto"
        self._decoder: Decoder | None = None
        # Of the weights of `hf` that the decoder was packed of.
        self._packed: WeightState | None = None
        self._lock = threading.RLock()
        self.before_another: Callable[[], None] | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        pretrained: Pretrained | None = None,
        device: str = "cpu",
        dtype: str = "auto",
        read: bool = True,
        backend: str = "auto",
        depth: DepthConfig | None = None,
        layers: Mapping[str, Any] | None = None,
        bidirectional: bool = False,
    ) -> LanguageModel:
        """Open the weights in a folder; on "meta" they stay unread.

        Args:
            directory: of the checkpoint.
            pretrained: what it was published as; None for a plain causal LM.
            device: any device of torch.
            dtype: "float32", "bfloat16", "float16", or "auto": as they are stored; "int8" or
                "int4": quantized for sampling (`unified.models.quantized`).
            read: False leaves them unread until something is sampled, or `hf` is asked for.
            backend: what samples, see `unified.models.choose_backend`.
            depth: of the depth decoder beside it; None: it has none.
            layers: what is installed in its layers, as unified.json says; None: nothing.
            bidirectional: see the attribute.

        Raises:
            ValueError: an unknown device, dtype or backend, a device that is not there, a backend
                that this model cannot use, damaged files.
        """
        model = cls(directory=directory, pretrained=pretrained, depth=depth, layers=layers)
        model._device, model._dtype = check_device(device), check_dtype(dtype, ("auto", *QUANTIZED))
        model._backend, model.bidirectional = check_backend(backend), bidirectional
        check_quantized(dtype, model._device, backend)
        if backend == "cpu":
            check_on_cpu(model._device)
        if read:
            model._open()
        return model

    def _open(self) -> None:
        assert self.directory is not None
        self._hf = self._decoder = self._packed = None
        if self._device != "cpu" or self._layers is not None or self.bidirectional:
            self._hf = self._load_hf()
            return
        if self._pretrained is None:
            self._decoder = checkpoint.load_decoder(
                self.directory, self._dtype, self._backend, self._depth
            )
        else:
            self._decoder = load_published_decoder(
                self.directory, self._pretrained, self._dtype, self._backend, self._depth
            )
        # A backend that steps an object of transformers has it already.
        self._hf = getattr(self._decoder, "hf", None)

    def _load_hf(self) -> Any:
        assert self.directory is not None
        # What the CPU backend quantizes is its packed copy.
        packed = self._dtype == "int8" and self._device == "cpu" and self._packs()
        dtype = "auto" if packed else self._dtype
        if self._pretrained is not None:
            return load_published_hf(
                self.directory, self._pretrained, dtype, self._device, self._depth
            )
        hf = checkpoint.load_hf(self.directory, None, dtype, self._device, self._depth)
        if self._layers is not None:
            install_stored_layers(hf, self.directory, self._layers)
        return hf

    def _packs(self) -> bool:
        """Whether the CPU backend samples from the model while it is on the CPU."""
        if self._backend not in ("auto", "cpu") or self._dtype == "int4" or self._layers:
            return False
        if self.bidirectional:
            return False
        if self._pretrained is not None and self._pretrained.decoder != "causal":
            return self._pretrained.compiles
        if self._hf is not None:
            return LlamaCpuConfig.covers(self._hf.config.to_dict())
        assert self.directory is not None
        return LlamaCpuConfig.covers(checkpoint.read_config(self.directory))

    @property
    def hf(self) -> Any:
        """The object of transformers, of its published class and in the type of its weights."""
        with self._lock:
            if self._hf is None:
                hf = self._load_hf()
                self._packed = WeightState(hf)
                self._hf = hf
            return self._hf

    @property
    def device(self) -> str:
        """Where its weights are."""
        return self._device if self._hf is None else str(self._hf.device)

    def decoder(self) -> Decoder:
        """The decoder for sampling, which follows the weights of `hf`.

        Raises ValueError while the weights are on "meta".
        """
        with self._lock:
            if self._hf is None and self._decoder is None:
                self._open()
            if self._hf is None:
                assert self._decoder is not None
                return self._decoder
            if self._hf.device.type == "meta":
                raise ValueError(
                    "the model is on device meta, without its weights; move it first, as in"
                    ' model.to("cpu")'
                )
            if self._decoder is None or not self._follows(self._decoder, self._hf):
                self._decoder = self._packed = None  # before another copy is made
                if self.before_another is not None:
                    self.before_another()
                self._decoder = self._decoder_of(self._hf)
            return self._decoder

    def _follows(self, decoder: Decoder, hf: PreTrainedModel) -> bool:
        """Whether a decoder computes with the weights that the model has now."""
        stepping: Any = decoder
        if getattr(decoder, "hf", None) is not None:  # it shares them
            return stepping.hf is hf and bool(stepping.follows_weights())
        on_cpu = hf.device.type == "cpu"
        return on_cpu and self._packed is not None and self._packed == WeightState(hf)

    def _decoder_of(self, hf: PreTrainedModel) -> Decoder:
        packed = sum(tensor.nbytes for tensor in _tensors(hf)) <= REPACKED_BYTES
        packed = packed or self._dtype == "int8"  # which nothing else has
        packed = packed and self._dtype != "int4" and not self.bidirectional  # which torch steps
        if self._pretrained is None:
            decoder = checkpoint.decoder_of(hf, packed, self._backend, self._dtype)
        else:
            decoder = published_decoder_of(hf, self._pretrained, packed, self._backend, self._dtype)
        if getattr(decoder, "hf", None) is None:
            self._packed = WeightState(hf)
        return decoder

    def to(self, device: str | None = None, dtype: str | None = None) -> None:
        """Move the weights to a device, and give them a type; None leaves either as it is.

        To "meta" they are dropped, and read from the folder again on the way back: what was trained
        meanwhile is lost, unless it was saved.

        Raises:
            ValueError: an unknown device or dtype; one that is not there; the way back from "meta"
                of a model without a folder.
        """
        device = self.device if device is None else check_device(device)
        if dtype is not None:
            stored = self._rereads or (self.directory is not None and is_quantized(self._hf))
            check_dtype(dtype, ("auto", *QUANTIZED) if stored else QUANTIZED)
        check_quantized(dtype or self._dtype, device, self._backend)
        with self._lock:
            if self._hf is not None and is_quantized(self._hf):
                self._forget_quantized(device, dtype)
            if self._rereads and device != "meta":
                if self.directory is None:
                    raise ValueError(
                        "the model is on device meta and was not loaded from a folder: its weights"
                        " are nowhere; make or train it again"
                    )
                self._device, self._dtype = device, dtype or self._dtype
                self._open()
                return
            self._dtype = dtype or self._dtype
            self._device, self._decoder, self._packed = device, None, None
            if self._hf is None:  # to meta, before it was ever made
                self._hf = self._load_hf()
            elif self._dtype in QUANTIZED and self._quantizes_hf(device):
                self._hf = quantize_layers(self._hf, self._dtype, device)
            elif dtype not in (None, "auto", "int8"):
                import torch

                self._hf.to(getattr(torch, str(dtype)))
                if dtype == "float16":
                    checkpoint.check_finite(self._hf, "the model")
            self._hf = checkpoint.move(self._hf, device)

    def _quantizes_hf(self, device: str) -> bool:
        """Whether on a device the weights of `hf` itself are quantized, and are not yet."""
        packed = device == "cpu" and self._packs()
        return not packed and device != "meta" and not is_quantized(self._hf)

    def _forget_quantized(self, device: str, dtype: str | None) -> None:
        """Leave weights that torchao has quantized, where they cannot serve on a device in a type.

        Raises ValueError where there is no folder that they could be read from again.
        """
        kinds = {name.partition(":")[0] for name in (device, self.device)} - {"meta"}
        laid_out = self._dtype != "int4" or len(kinds) < 2  # either kind has a layout of its own
        if dtype in (None, self._dtype) and laid_out and not (device == "cpu" and self._packs()):
            return
        if self.directory is None:
            raise ValueError(
                f"the model's weights are {self._dtype} and were not loaded from a folder, so that"
                f" they cannot become {dtype or self._dtype} on device {device}; make it again"
            )
        self._hf = None  # read again

    @property
    def _rereads(self) -> bool:
        """Whether its weights are those of the folder, or nowhere."""
        return self._hf is None or self._hf.device.type == "meta"


def _tensors(hf: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers; what is shared comes once."""
    yield from hf.parameters()
    yield from hf.buffers()


class WeightState:
    """Tells whether the weights of a model on the CPU have changed since it was made.

    It holds torch's version counters, which everything counts that changes a tensor in place, and
    the number in the middle of every row, for what is written past the counters (`tensor.data`,
    numpy). What changes some numbers of a row through `tensor.data` alone may go unnoticed.
    """

    def __init__(self, hf: nn.Module) -> None:
        import torch

        self._versions: list[tuple[Any, ...]] = []
        self._samples: list[Any] = []
        for tensor in _tensors(hf):
            # Tensors of inference mode have no version.
            version = None if tensor.is_inference() else tensor._version
            self._versions.append(
                (tensor.data_ptr(), version, tensor.dtype, tensor.device, tensor.shape)
            )
            numbers = tensor.detach()
            if numbers.dim() > 1 and numbers.shape[-1]:
                numbers = numbers[..., numbers.shape[-1] // 2]
            # Bits, since NaN is unequal to itself.
            flat = numbers.reshape(-1).clone(memory_format=torch.contiguous_format)
            self._samples.append(flat.view(torch.uint8))

    def __eq__(self, other: object) -> bool:
        import torch

        if not isinstance(other, WeightState):
            return NotImplemented
        return self._versions == other._versions and all(
            torch.equal(mine, theirs) for mine, theirs in zip(self._samples, other._samples)
        )

    __hash__ = None  # type: ignore[assignment]
