"""Which backend samples from a model: `cpu`, `torch_static` or `transformers`; `auto` chooses.

auto: `cpu` (compiled loops) for what it covers while the weights are on the CPU; `torch_static`
(batched, over pages) otherwise, on the CPU too, where it is not slower than `transformers`; and
`transformers` for models that neither can step. Nothing of torch is imported before one is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unified.engine.backends.base import Decoder
from unified.engine.backends.cpu.config import LlamaCpuConfig
from unified_base.foreign import one_line
from unified_base.text import quoted

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unified.engine.backends.stepped_model import SteppedModel

__all__ = [
    "BACKENDS", "check_backend", "check_on_cpu", "likely_backends", "torch_decoder",
    "uses_cpu_backend",
]  # fmt: skip

BACKENDS = ("auto", "cpu", "torch_static", "transformers")


def check_backend(backend: Any) -> str:
    """Raises ValueError for a backend that there is not."""
    if not isinstance(backend, str) or backend not in BACKENDS:
        raise ValueError(f"backend is {quoted(backend)}, expected one of {', '.join(BACKENDS)}")
    return backend


def check_on_cpu(device: str) -> None:
    """Raises ValueError where weights on a device are asked for with backend cpu."""
    if device not in ("cpu", "meta"):
        raise ValueError(
            f"backend cpu computes on the CPU and the model is on {device}; take backend auto,"
            " torch_static or transformers"
        )


def uses_cpu_backend(
    backend: str, config: Mapping[str, Any], device: str = "cpu", repack: bool = True
) -> bool:
    """Whether a decoder of this config.json goes to the compiled loops.

    Args:
        backend: of `BACKENDS`.
        config: the decoder's.
        device: where its weights are, such as "cuda:0".
        repack: whether `auto` may make a packed copy of the weights.

    Raises:
        ValueError: the cpu backend is asked for, and cannot be used.
    """
    on_cpu, covered = device == "cpu", LlamaCpuConfig.covers(config)
    if backend == "auto":
        return on_cpu and covered and repack
    if backend == "cpu":
        check_on_cpu(device)
    if backend == "cpu" and not covered:
        raise ValueError(
            f"backend cpu does not cover model_type {quoted(config.get('model_type'))} with these"
            " options; take backend auto, torch_static or transformers"
        )
    return backend == "cpu"


def likely_backends(config: Mapping[str, Any], compiled: bool) -> dict[str, str]:
    """What `auto` takes for a decoder on the CPU and elsewhere, without opening it.

    compiled: whether the compiled loops cover it. What a model's cache holds shows when it is
    opened; here its config.json is believed.
    """
    ropes = [config.get("rope_scaling"), config.get("rope_parameters")]
    kinds = [rope.get("rope_type") or rope.get("type") for rope in ropes if isinstance(rope, dict)]
    layers = config.get("layer_types") or []
    plain = (
        not any(kind in ("dynamic", "longrope") for kind in kinds)
        and all(layer in ("full_attention", "sliding_attention") for layer in layers)
        and any(config.get(name) for name in ("num_attention_heads", "n_head"))
    )
    general = "torch_static" if plain else "transformers"
    return {"cpu": "cpu" if compiled else general, "devices": general}


def torch_decoder(
    hf: PreTrainedModel, backend: str = "auto", stepped: SteppedModel | None = None
) -> Decoder:
    """A decoder that steps an object of transformers, and shares its weights.

    Args:
        hf: the object, on any device.
        backend: "auto", "torch_static" or "transformers".
        stepped: how it is stepped; None: plainly.

    Raises:
        ValueError: torch_static is asked for, and the model cannot use it. With "auto" a warning
            says so, and transformers is taken.
    """
    if backend != "transformers":
        from unified.engine.backends.torch_static.static_decoder import TorchStaticDecoder

        try:
            return TorchStaticDecoder(hf, stepped)
        except ValueError as error:
            if backend != "auto":
                raise ValueError(f"{one_line(error)}; take backend auto or transformers") from None
            warnings.warn(f"{one_line(error)}; backend transformers is taken", stacklevel=2)
    from unified.engine.backends.transformers import TransformersDecoder

    return TransformersDecoder(hf, stepped)
