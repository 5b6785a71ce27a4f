"""How a language model's authors sample text: its generation_config.json, as `Sampling` has it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["text_settings"]

_NAMES = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
# What transformers' `generate` takes for those that a sampling configuration leaves out.
_OF_TRANSFORMERS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}


def text_settings(hf: PreTrainedModel) -> tuple[Sampling, str | None]:
    """The sampling defaults of a language model of transformers, and a note where they cannot be.

    Where its generation_config says `do_sample` these are its temperature, top-k, top-p, min-p and
    repetition penalty, as `generate` has them; else the likeliest is taken, with its penalty.
    """
    config = getattr(hf, "generation_config", None)
    stated = {name: getattr(config, name, None) for name in _NAMES}
    values = {name: value for name, value in stated.items() if value is not None}
    if getattr(config, "do_sample", None):
        values = {**_OF_TRANSFORMERS, **values}
    else:
        values = {name: values[name] for name in ("repetition_penalty",) if name in values}
    if values.get("top_k") == 0:  # of all, as transformers writes it
        values["top_k"] = None
    base = Sampling()
    try:
        return replace(base, text=replace(SpanSampling(), **values)), None
    except ValueError as error:
        return base, f"generation_config.json is not used for sampling: {error}"
