"""Mixtures of experts in training: the loss that keeps their routers balanced.

Left alone, a router sends ever more to the experts that learnt first. Here, as in the models' own
training, the loss has a part that is least where every expert gets as much as any other
(Switch Transformer, arXiv:2101.03961, equations 4 to 6; all layers together as in Mixtral).

Legend: T positions, E experts, N documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Routing", "inside_documents", "routing_of"]

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True)
class Routing:
    """How a decoder's routers are balanced.

    coefficient: weight of the loss. num_experts: of a layer. top_k: of them a position goes to.
    """

    coefficient: float
    num_experts: int
    top_k: int

    def balance(self, logits: tuple[Tensor, ...] | None, inside_T: Tensor) -> Tensor:
        """`top_k` where all experts get as much, up to `num_experts` where some get all.

        Args:
            logits: of each layer with experts, (T, E).
            inside_T: bool (T,), which positions are no padding.

        Raises:
            ValueError: there are none; something took the place of the model's own layers.
        """
        from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

        if not logits:
            raise ValueError(
                "the decoder's layers tell nothing of their routers, so that these cannot be"
                " balanced; train with compile: false, or with router_loss: 0"
            )
        # Of nothing but padding, whose loss counts nothing, the mean would be no number.
        inside_T = inside_T | ~inside_T.any()
        flat = tuple(layer.reshape(-1, self.num_experts) for layer in logits)
        compute: Any = load_balancing_loss_func  # its types take one layer alone
        loss: Tensor = compute(flat, self.num_experts, self.top_k, inside_T)
        return loss


def routing_of(decoder: PreTrainedModel, router_loss: float | None) -> Routing | None:
    """How a decoder's routers are balanced; None where it has none, or nothing is asked.

    Args:
        decoder: a causal LM of transformers.
        router_loss: weight of the loss; None: what the decoder's configuration says.

    Raises:
        ValueError: a weight for a decoder that has no routers, or does not say what they chose.
    """
    config = decoder.config.get_text_config()
    recorded = getattr(decoder.base_model, "_can_record_outputs", None) or {}
    own = getattr(config, "router_aux_loss_coef", None)
    if own is None or "router_logits" not in recorded:
        if router_loss:
            raise ValueError(
                f"router_loss is {router_loss:g}, but {type(decoder).__name__} is no mixture of"
                " experts whose routers are balanced by a loss; leave it out"
            )
        return None
    coefficient = own if router_loss is None else router_loss
    if not coefficient:
        return None
    experts = next(int(getattr(config, name)) for name in _EXPERTS if hasattr(config, name))
    return Routing(float(coefficient), experts, int(config.num_experts_per_tok))


def inside_documents(document_spans: Tensor, positions: int) -> Tensor:
    """Which positions lie in a document: bool (T,).

    document_spans: int (N, 2), where each begins and ends; empty ones are none.
    """
    steps = torch.zeros(positions + 1, dtype=torch.int64, device=document_spans.device)
    ones = torch.ones(len(document_spans), dtype=torch.int64, device=document_spans.device)
    steps.index_add_(0, document_spans[:, 0].long(), ones)
    steps.index_add_(0, document_spans[:, 1].long(), -ones)
    return steps[:-1].cumsum(0) > 0
