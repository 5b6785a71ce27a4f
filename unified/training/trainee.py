"""The module that is trained: a decoder that turns passes into losses.

One forward for everything, so that FSDP2 sees a module like any other.

Legend: B rows, L places, D width, P positions with loss, M modalities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.grammar import MODALITIES
from unified.training import attention
from unified.training.loss import allowed_loss
from unified.training.new_rows import head_of
from unified.training.passes import Pass

__all__ = ["Outcome", "Trainee", "check_head", "layers_of", "recompute_activations"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """total: weighted sum of losses, with gradient. losses: float32 (P,), detached.
    output_norm: root mean square of what enters the last norm."""

    total: Tensor
    losses: Tensor
    output_norm: Tensor

    def by_modality(self, done: Pass) -> tuple[Tensor, Tensor]:
        """(sum of losses float64 (M,), counts float64 (M,))."""
        sums = torch.zeros(len(MODALITIES), dtype=torch.float64, device=self.losses.device)
        sums.index_add_(0, done.modality, self.losses.double())
        return sums, torch.bincount(done.modality, minlength=len(MODALITIES)).double()


class Trainee(nn.Module):
    """decoder: a causal LM of transformers; its head's product is ours, the rest its own.

    attention: "documents" (the CPU's), or an `attn_implementation` of transformers, which then sees
    documents by their places beginning anew.
    """

    def __init__(self, decoder: Any, attention_name: str | None, z_loss: float = 0.0) -> None:
        super().__init__()
        self.decoder = decoder
        self.z_loss = z_loss
        self._norm_input: Tensor | None = None
        chosen = attention_name or default_attention(decoder)
        if chosen == attention.NAME:
            attention.register()
        decoder.set_attn_implementation(chosen)
        self.by_documents = chosen == attention.NAME
        _last_norm(decoder).register_forward_pre_hook(self._see)

    def _see(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._norm_input = inputs[0].detach()

    def forward(self, taken: Pass) -> Outcome:
        how = {"document_spans": taken.spans} if self.by_documents else {}
        features_BLD = self.decoder.base_model(
            input_ids=taken.shown, position_ids=taken.places, use_cache=False, **how
        )[0]
        features_PD = features_BLD.flatten(0, 1)[taken.at]
        total, losses = allowed_loss(
            features_PD,
            head_of(self.decoder),
            taken.targets,
            taken.weights,
            taken.groups,
            self.z_loss,
        )
        assert self._norm_input is not None
        norm = self._norm_input.float().square().mean().sqrt()
        self._norm_input = None
        return Outcome(total, losses, norm)


def default_attention(decoder: Any) -> str:
    """ "documents" on the CPU, where the decoder's attention is plain; flash attention where it is
    installed; what transformers has by itself otherwise."""
    from transformers.utils import is_flash_attn_2_available

    config = decoder.config
    plain = not any(
        getattr(config, name, None)
        for name in ("sliding_window", "attn_logit_softcapping", "attention_chunk_size")
    )
    if next(decoder.parameters()).device.type == "cpu":
        return attention.NAME if plain else "eager"
    return "flash_attention_2" if is_flash_attn_2_available() else "sdpa"


def recompute_activations(decoder: Any) -> None:
    """Keep of every layer its input alone, and work the rest out again for its gradient."""
    # The name it has in transformers from 5.22 on; the other one warns there.
    enable = getattr(decoder, "activation_checkpointing_enable", None)
    (enable or decoder.gradient_checkpointing_enable)({"use_reentrant": False})


def layers_of(decoder: Any) -> list[nn.Module]:
    """The layers, of which FSDP2 gathers one at a time and of which compilation needs one."""
    names = set(decoder._no_split_modules or ())
    found = [module for module in decoder.modules() if type(module).__name__ in names]
    if not found:
        raise ValueError(f"{type(decoder).__name__} does not say which of its modules are layers")
    return found


def _last_norm(decoder: Any) -> nn.Module:
    """The norm behind the last layer."""
    for name in ("norm", "ln_f", "final_layer_norm", "final_layernorm"):
        found = getattr(decoder.base_model, name, None)
        if isinstance(found, nn.Module):
            return found
    return decoder.base_model


@torch.no_grad()
def check_head(decoder: Any) -> None:
    """Raises ValueError for a decoder whose logits are not its features times its head's rows."""
    head = head_of(decoder)
    device = next(decoder.parameters()).device
    ids = torch.arange(min(5, head.parts[-1].stop), device=device)[None]
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    was_training = decoder.training
    decoder.eval()
    features = decoder.base_model(input_ids=ids, use_cache=False)[0][0]
    expected = decoder(input_ids=ids, use_cache=False).logits[0].float()
    decoder.set_attn_implementation(before)
    decoder.train(was_training)
    found = torch.cat([nn.functional.linear(features, p.weight, p.bias) for p in head.parts], 1)
    found = found.float()
    if head.softcap is not None:
        found = head.softcap * torch.tanh(found / head.softcap)
    if not torch.allclose(found, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max())):
        raise ValueError(
            f"{type(decoder).__name__} does more to its logits than a product with its head's rows"
            " and a soft cap; such decoders cannot be trained yet"
        )
