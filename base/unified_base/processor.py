"""What the processor that loops are compiled for can do."""

from __future__ import annotations

__all__ = ["processor_has"]


def processor_has(feature: str) -> bool:
    """Whether loops are compiled for a processor with this feature, by LLVM's name for it.

    numba's answer and not the processor's: NUMBA_CPU_FEATURES may leave features out.
    """
    # Late: numba takes a third of a second, and few who import this package ask.
    from numba.core.registry import cpu_target

    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return f"+{feature}" in features.split(",")
