"""Where a repetition penalty may be: in text, and in what a model declares it for.

A penalty on codes of sound makes most models worse: one code stands for many sounds on end. Orpheus
was trained to be sampled with one. So a model's own sampling parameters, or a task's, must have it
before a user may change it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling, every_level
from unified.formats.spec import Format
from unified_base.arguments import several

__all__ = ["check_all_penalties", "check_penalties"]


def check_all_penalties(
    sampling: Sampling | Sequence[Sampling], declared: Iterable[Sampling], format: Format
) -> None:
    """`check_penalties` for one or several, of a format's kinds of spans."""
    kinds = {kind: span.modality for kind, span in format.spans.items()}
    own = tuple(declared)
    each = (sampling,) if isinstance(sampling, Sampling) else sampling
    for parameters in several("sampling", each, Sampling):
        check_penalties(parameters, own, kinds)


def check_penalties(
    sampling: Sampling, declared: Iterable[Sampling], kinds: Mapping[str, str]
) -> None:
    """Refuse repetition penalties that the model does not declare.

    Args:
        sampling: what a request is sampled with.
        declared: the model's own parameters, with and without those of its tasks.
        kinds: of spans that the format has, with their modality.

    Raises:
        ValueError: a kind of span other than text has a penalty, and none of `declared` gives it
            one.
    """
    own = tuple(declared)
    for kind, modality in {"audio": "audio", **kinds}.items():
        penalty = _penalty(sampling.of(kind, modality))
        if modality == "text" or penalty == 1:
            continue
        if modality == "image":
            raise ValueError(
                f"{kind}.repetition_penalty is {penalty:g}, expected 1: pictures are drawn without"
            )
        if all(_penalty(each.of(kind, modality)) == 1 for each in own):
            raise ValueError(
                f"{kind}.repetition_penalty is {penalty:g}, expected 1: neither the model nor its"
                " task declares a penalty for this kind; leave it out, or declare it under sampling"
                " in the model's tasks.yaml"
            )


def _penalty(sampling: SpanSampling) -> float:
    """That of any level that has one; 1: none has."""
    penalties = (own.repetition_penalty for own in every_level(sampling))
    return next((penalty for penalty in penalties if penalty != 1), 1.0)
