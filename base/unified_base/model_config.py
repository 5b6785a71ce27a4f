"""The config.json of strangers' checkpoints, judged before a library builds anything of it.

Libraries believe it: a width of 10^12 is allocated, 10^9 layers are built one by one, a kernel that
it names is fetched and run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from unified_base.config import parse_config
from unified_base.text import quoted

__all__ = ["ATTENTION", "check_model_config"]

ATTENTION = (
    "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4"
)  # fmt: skip
"""Names of attention that need no code from elsewhere; which one runs is never the checkpoint's to
say."""
_LARGEST = 2**31 - 1
# What is built one by one in a loop of Python's.
_COUNTS = re.compile(
    r"(layers?|depths?|heads?|experts?|blocks?|stages?|codebooks?|quantizers?|groups?|filters?"
    r"|ratios?|strides?)$"
)
_MOST = 8192
_MOST_EXPERTS = 65_536
_MOST_LABELS = 200_000
_IMPLEMENTATION = re.compile(r"_?(attn|experts)_implementation(_internal)?$")
# Entries that have code of a checkpoint's or of a third party's run, where they are believed.
_CODE = ("kernel_config", "use_kernels", "custom_pipelines", "custom_generate")
_Whole = int | tuple[int, ...] | None
_Real = float | None


@dataclass(frozen=True)
class _Known:
    """Entries that many kinds of models share. Lists: one number for each layer."""

    model_type: str | None = None
    architectures: tuple[str, ...] | None = None
    hidden_size: int | None = None
    intermediate_size: _Whole = None
    num_hidden_layers: int | None = None
    num_attention_heads: _Whole = None
    num_key_value_heads: _Whole = None
    head_dim: int | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    sliding_window: int | None = None
    rms_norm_eps: _Real = None
    layer_norm_eps: _Real = None
    rope_theta: _Real = None
    partial_rotary_factor: _Real = None
    hidden_act: str | None = None
    layer_types: tuple[str, ...] | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    use_sliding_window: bool | None = None
    tie_word_embeddings: bool | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    vocabulary_map: dict[str, int] | None = None
    text_config: dict[str, Any] | None = None
    vision_config: dict[str, Any] | None = None
    vq_config: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                     "num_key_value_heads", "head_dim", "vocab_size",
                     "max_position_embeddings"):  # fmt: skip
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and number < 1:
                    raise ValueError(f"{name} is {quoted(value)}, expected at least 1")
        for name in ("rms_norm_eps", "layer_norm_eps", "rope_theta", "partial_rotary_factor"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}, expected 0 or more")
        for name in ("rope_scaling", "rope_parameters"):
            _check_rope(getattr(self, name), name)


def _check_rope(entries: Any, path: str) -> None:
    """Rotary positions, of all layers or by the kind of layer."""
    for key, value in (entries or {}).items():
        if isinstance(value, dict):
            _check_rope(value, f"{path}.{quoted(key, 40)}")
        elif key in ("rope_theta", "factor") and value is not None:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value < math.inf:
                raise ValueError(f"{path}: {key} is {quoted(value)}, expected more than 0")


_NAMES = tuple(field.name for field in fields(_Known))
_NESTED = ("text_config", "vision_config", "vq_config")


def check_model_config(entries: Mapping[str, Any], where: str) -> None:
    """Raises ValueError, naming the key, for what no config.json may say. `where` is for errors.

    Sizes are whole numbers of at most 31 bits, what is built one by one at most 8,192; attention is
    one of `ATTENTION`; weights are not quantised; no code is named. Entries that are not known here
    are the library's to judge.
    """
    _look(entries, where, ())
    parse_config(_Known, {name: entries[name] for name in _NAMES if name in entries}, where)
    for name in _NESTED:
        inner = entries.get(name)
        if isinstance(inner, dict):
            known = {key: inner[key] for key in _NAMES if key in inner}
            parse_config(_Known, known, f"{where}, {name}")


def _look(value: Any, where: str, path: tuple[str, ...]) -> None:
    name = path[-1] if path else ""
    if isinstance(value, dict):
        for key, entry in value.items():
            _look(entry, where, (*path, key))
    elif isinstance(value, list):
        for entry in value:
            _look(entry, where, path)
    if isinstance(value, bool):
        pass
    elif isinstance(value, int | float):
        _check_number(value, name, f"{where}: {_said(path)} is {quoted(value, 40)}")
    elif isinstance(value, str) and len(value) > 1 << 20:
        raise ValueError(f"{where}: {_said(path)} is a text of {len(value):,} characters")
    if _IMPLEMENTATION.match(name):
        names = value.values() if isinstance(value, dict) else [value]
        for chosen in names:
            if chosen is not None and (not isinstance(chosen, str) or chosen not in ATTENTION):
                raise ValueError(
                    f"{where}: {_said(path)} is {quoted(chosen)}, expected one of"
                    f" {', '.join(ATTENTION)}; code that a checkpoint names is never fetched"
                )
    if name == "quantization_config" and value is not None:
        raise ValueError(
            f"{where}: {_said(path)} says that the weights are quantised; take the checkpoint that"
            " they were made from"
        )
    if name in _CODE and value not in (None, False):
        raise ValueError(
            f"{where}: {_said(path)} is {quoted(value)}; code that a checkpoint names is never run"
        )


def _check_number(value: float, name: str, problem: str) -> None:
    if isinstance(value, float) and (math.isnan(value) or abs(value) > 1e38):
        if name.startswith("time_step") or math.isinf(value):
            return  # bounds of state-space models are open; see Mamba 2
        raise ValueError(f"{problem}, expected a number of float32")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ValueError(f"{problem}, expected at most {_LARGEST:,}")
    if name == "num_labels" and value > _MOST_LABELS:
        raise ValueError(f"{problem}, expected at most {_MOST_LABELS:,}")
    most = _MOST_EXPERTS if name.endswith("experts") else _MOST
    if _COUNTS.search(name) and value > most:
        raise ValueError(f"{problem}, expected at most {most:,}")


def _said(path: tuple[str, ...]) -> str:
    return ".".join(quoted(part, 40).strip("'\"") for part in path)
