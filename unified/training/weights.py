"""What is trained, and in which precision.

In bfloat16 a decoder computes with weights rounded to it, while what is trained lies beside in
float32 (`MasterWeights`); frozen weights exist in bfloat16 alone. Autocast instead keeps the
residual stream in float32 and casts it before every product: 2,350 ids a second where this does
3,050. Under FSDP2 the sharded parameters are the float32 ones and torch rounds them when it
gathers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unified.models.code_output import without_depth_decoder
from unified.training.fused_attention import bits_of, is_fused, run_kernel
from unified.training.trained_depth import adapt, adapt_depth, choose_in_published, has_own_depth

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unified.models.grafting.embedder import MediaEmbedder

__all__ = ["MasterWeights", "choose_trained", "merge_trained"]

_LARGE = 1 << 16  # numbers


def choose_trained(
    decoder: PreTrainedModel,
    what: str,
    first_new: int,
    lora: Mapping[str, Any],
    embedders: Mapping[str, MediaEmbedder] | None = None,
) -> None:
    """Freeze what is not trained. Connectors are trained, but for those that a published model
    holds frozen.

    Args:
        decoder: its depth decoder, if it has one, is trained in full, but for what `lora` says.
        what: full; new_rows; lora (with the new rows, if any); depth: the depth decoder alone; or
            connector: the connectors alone.
        first_new: the first row that is new to the language model that was extended.
        lora: rank, alpha, dropout, targets (peft's `target_modules`), depth: full or lora, what of
            the depth decoder is trained with the adapters of the others.
        embedders: by kind, what reads media as vectors.

    Raises:
        ValueError: there is nothing of the kind to train.
    """
    connectors = [
        embedder.connector
        for embedder in (embedders or {}).values()
        if what == "connector" or any(p.requires_grad for p in embedder.connector.parameters())
    ]
    if what != "full":
        _freeze(decoder, what, first_new, lora, connectors)
    if (graft := vars(decoder).get("unified_layer_graft")) is not None:
        connectors.append(graft)
    for connector in connectors:
        connector.requires_grad_(True)


def _freeze(
    decoder: PreTrainedModel,
    what: str,
    first_new: int,
    lora: Mapping[str, Any],
    connectors: Sequence[Any],
) -> None:
    """`choose_trained`, of the decoder."""
    if what == "connector":
        if not connectors:
            raise ValueError(
                "train is connector, but the model reads nothing through one; train: full, new_rows"
                " or lora, or begin with a model that `unified extend --see` made"
            )
        decoder.requires_grad_(False)
        return
    if has_own_depth(decoder):
        choose_in_published(decoder, what, lora)
        return
    with without_depth_decoder(decoder) as depth:
        if what != "depth":
            _choose_in_decoder(decoder, what, first_new, lora)
        elif depth is None:
            raise ValueError(
                "train is depth, but the decoder has no depth decoder; train: full, new_rows or"
                " lora, or begin with a model whose codes are of a depth decoder"
            )
        else:
            decoder.requires_grad_(False)
    if what == "lora" and lora.get("depth") == "lora":
        if depth is None:
            raise ValueError(
                "lora.depth is lora, but the decoder has no depth decoder; leave it out"
            )
        adapt_depth(depth, lora)


def _choose_in_decoder(
    decoder: PreTrainedModel, what: str, first_new: int, lora: Mapping[str, Any]
) -> None:
    """`choose_trained`, of a decoder without its depth decoder: new_rows or lora."""
    from unified.models.extend_published import FIRST_NEW
    from unified.training.new_rows import NewRows, split_rows

    vocabulary = len(decoder.get_input_embeddings().weight)  # type: ignore[arg-type]
    # Of a published model whose head was extended: its ids and embeddings were there before.
    first_new = min(first_new, getattr(decoder.config, FIRST_NEW, first_new))
    if first_new < vocabulary:
        split_rows(decoder, first_new)
    elif what == "new_rows":
        raise ValueError(
            f"there are no new rows to train: all {vocabulary} rows are the model's own; train:"
            " full or lora, or begin with a model that `unified extend` made"
        )
    else:
        decoder.requires_grad_(False)
    if what == "lora":
        from unified.models.code_head import inner_model

        inner = inner_model(decoder)
        # Not into the codec that a whole checkpoint holds beside its language model. The old rows
        # of NewRows, were it the head, have none.
        adapted = decoder if inner is decoder.base_model else inner
        adapt(adapted, lora, ["table"] if first_new < vocabulary else None)
        for module in decoder.modules():  # peft froze all but its adapters
            if isinstance(module, NewRows):
                module.rows.requires_grad_(True)


def merge_trained(decoder: PreTrainedModel) -> None:
    """Undo `choose_trained`: what was learnt is added to the weights it stands beside."""
    from peft.tuners.lora import LoraLayer

    from unified.training.new_rows import merge_new_rows

    for name, module in list(decoder.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(decoder.get_submodule(parent), last, module.get_base_layer())
    merge_new_rows(decoder)


class MasterWeights:
    """The trained parameters by name, in float32, beside a module that may compute in bfloat16.

    In float32, and under FSDP2, they are the module's own.
    """

    def __init__(self, module: nn.Module, precision: str, sharded: bool = False) -> None:
        self._beside: list[tuple[nn.Parameter, nn.Parameter]] = []
        self.parameters: dict[str, nn.Parameter] = {}
        assert precision in ("bfloat16", "float32"), precision
        apart = precision == "bfloat16" and not sharded
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                if apart:
                    parameter.data = parameter.data.to(torch.bfloat16)
                continue
            if apart:
                master = nn.Parameter(parameter.detach().float().clone())
                parameter.data = parameter.data.to(torch.bfloat16)
                self._beside.append((parameter, master))
                self.parameters[name] = master
            else:
                parameter.data = parameter.data.float()
                self.parameters[name] = parameter

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Copy the master weights into the module, rounded to its dtype."""
        for parameter, master in self._beside:
            parameter.copy_(master)

    @torch.no_grad()
    def accumulate_grads(self) -> None:
        """Add the module's gradients to those of the master weights, in float32."""
        for parameter, master in self._beside:
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                _add(master.grad, parameter.grad)
            parameter.grad = None

    @contextmanager
    def swapped_for(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """The module computes with other weights (the moving average) inside the block."""
        if values is self.parameters:
            self.copy_to_model()
            yield
            return
        before = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._put(values)
        try:
            yield
        finally:
            self._put(before)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
        self.copy_to_model()


def _add(total: Tensor, grad: Tensor) -> None:
    """total += grad. torch alone would widen a large one in memory first."""
    if grad.numel() < _LARGE or not is_fused(grad) or not grad.is_contiguous():
        total.add_(grad)
        return
    from unified.training.kernels.elementwise import add

    run_kernel(add, total.view(-1).numpy(), bits_of(grad.view(-1)))
