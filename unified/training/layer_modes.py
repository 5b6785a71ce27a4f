"""How a decoder's layers compute in training: plain or fused by us, or by torch.compile.

Which of them is faster depends on the machine, the compiler and the shape, so a run with `compile:
auto` measures both on its first micro-batch. The bits of both differ: the choice stands in every
checkpoint, and a run that is resumed does not measure again.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from unified.models.code_head import inner_model
from unified.training.fused_layer import can_fuse, fuse_layers, restore_layers
from unified.training.random_state import random_state, restore_random_state
from unified_base.training.dist import DistContext

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LayerModes"]

_WORTH_TRYING = 1200.0
"""Seconds that a run must be expected to take for torch.compile to be tried: it takes 20 to 90."""
_REPEATS = 2
_GAIN = 0.95
"""Of the time without, what torch.compile may take at most: less is noise, and it takes memory."""


class LayerModes:
    """The layers of a decoder in training.

    Args:
        decoder: with the weights that are trained, in the dtype that they have in a step.
        layers: its layers, as `layers_of` gives them before FSDP2 renames their classes.
        fusible: whether layers may be fused (attention inside documents, parameters not sharded).
        choice: `compile` of the configuration.

    Attributes:
        compiled: whether torch.compile does what the layers do; None: not decided yet.
    """

    def __init__(
        self,
        decoder: PreTrainedModel,
        layers: Sequence[nn.Module],
        fusible: bool,
        choice: bool | str,
    ) -> None:
        self._decoder, self._layers = decoder, layers
        inside = set(map(id, inner_model(decoder).modules()))
        # Those of a depth decoder read no documents.
        self._fused = [layer for layer in layers if id(layer) in inside]
        # Asked once, of the weights that the run begins with: a resumed run gets the same answer.
        self._fusible = fusible and can_fuse(decoder, self._fused)
        self.compiled: bool | None = None if choice == "auto" else bool(choice)
        self._use(bool(self.compiled))

    def restore(self, compiled: bool | None) -> None:
        """Take over what a checkpoint's run has chosen, where the configuration leaves it open."""
        if self.compiled is None and compiled is not None:
            self._decide(compiled)

    def choose(self, run: Callable[[], object], passes: int, dist: DistContext) -> str:
        """Decide for the faster one, the same in all processes; returns what is to be told.

        Args:
            run: a forward and backward pass of a micro-batch, which leaves nothing behind but
                gradients that the caller drops.
            passes: of such, that the whole run will make.
            dist: the processes; they run together.
        """
        random = random_state(dist.device)
        plain = self._seconds(run, dist, 0)
        compiled = None
        if plain * passes < _WORTH_TRYING:
            told = "compile: off; the run is too short to be worth it"
        elif not self._layers:
            told = "compile: off; the decoder does not say which of its modules are layers"
        elif not all(dist.gather(_can_compile(dist.device))):
            told = "compile: off; there is no C++ compiler"
        else:
            plain = self._seconds(run, dist, _REPEATS)
            self._use(True)
            run()  # compiles
            compiled = self._seconds(run, dist, _REPEATS)
            on = "on" if compiled < _GAIN * plain else "off"
            told = (
                f"compile: {on}; {1000 * compiled:,.0f} ms a micro-batch compiled,"
                f" {1000 * plain:,.0f} not (compile: auto)"
            )
        restore_random_state(random, dist.device)
        self._decide(compiled is not None and compiled < _GAIN * plain)
        return told

    def _decide(self, compiled: bool) -> None:
        self.compiled = compiled
        self._use(compiled)

    def _use(self, compiled: bool) -> None:
        restore_layers(self._decoder, self._layers)
        for layer in self._layers:
            if compiled and layer._compiled_call_impl is None:
                layer.compile()
            elif not compiled:
                layer._compiled_call_impl = None
        if self._fusible and not compiled:
            fuse_layers(self._decoder, self._fused)

    @staticmethod
    def _seconds(run: Callable[[], object], dist: DistContext, repeats: int) -> float:
        """The shortest of one run and some more, the mean of all processes."""
        seconds = []
        for _ in range(1 + repeats):
            began = time.perf_counter()
            run()
            if dist.device.type == "cuda":
                torch.cuda.synchronize(dist.device)
            seconds.append(time.perf_counter() - began)
        return dist.sum([min(seconds)])[0] / dist.world


def _can_compile(device: torch.device) -> bool:
    """Whether torch.compile has what it needs: on the CPU a C++ compiler."""
    if device.type != "cpu":
        return True
    names = (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    return any(name and shutil.which(name) for name in names)
