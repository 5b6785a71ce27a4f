"""The module that is trained: a decoder that turns passes into losses.

One forward for everything, so that FSDP2 sees a module like any other.

Legend: B rows, L places, D width, P positions with loss, M modalities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unified.formats.grammar import MODALITIES
from unified.training import attention
from unified.training.loss import allowed_loss
from unified.training.new_rows import head_of
from unified.training.passes import Pass

__all__ = ["Outcome", "Trainee", "check_head", "layers_of", "recompute_activations"]


@dataclass(frozen=True, eq=False)
class Outcome:
    """total: weighted sum of losses, with gradient. losses: float32 (P,), detached.
    output_norm: root mean square of what enters the last norm, or leaves the decoder."""

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
    documents by their places beginning anew; None: the first of `attentions` that keeps them apart.

    Raises ValueError where none does.
    """

    def __init__(self, decoder: Any, attention_name: str | None, z_loss: float = 0.0) -> None:
        super().__init__()
        self.decoder = decoder
        self.z_loss = z_loss
        self._norm_input: Tensor | None = None
        attention.register()
        names = (attention_name,) if attention_name else attentions(decoder)
        chosen = next((name for name in names if keeps_apart(decoder, name)), None)
        if chosen is None:
            raise ValueError(
                f"{type(decoder).__name__} does not keep the documents of a row apart under"
                f" attention {' or '.join(names)}; such decoders cannot be trained yet"
            )
        decoder.set_attn_implementation(chosen)
        self.by_documents = chosen == attention.NAME
        # transformers looks for documents in a batch of one alone where flash attention is used.
        self.flat = "flash" in chosen
        norm = _last_norm(decoder)
        if norm is not None:
            norm.register_forward_pre_hook(lambda _, inputs: self._see(inputs))
        else:
            decoder.base_model.register_forward_hook(lambda _, __, outputs: self._see(outputs))

    def _see(self, found: Any) -> None:
        self._norm_input = found[0].detach()

    def forward(self, taken: Pass) -> Outcome:
        how = {"document_spans": taken.spans} if self.by_documents else {}
        shown, places = taken.shown, taken.places
        if self.flat:
            shown, places = shown.view(1, -1), places.view(1, -1)
        features_BLD = self.decoder.base_model(
            input_ids=shown, position_ids=places, use_cache=False, **how
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


def attentions(decoder: Any) -> tuple[str, ...]:
    """Ways of attention, the fastest first: "documents" on the CPU, where the decoder's attention
    is plain; flash attention where it is installed; what transformers has by itself otherwise."""
    from transformers.utils import is_flash_attn_2_available

    config = decoder.config
    plain = not any(
        getattr(config, name, None)
        for name in ("sliding_window", "attn_logit_softcapping", "attention_chunk_size")
    )
    if next(decoder.parameters()).device.type == "cpu":
        return (attention.NAME, "eager") if plain else ("eager",)
    return ("flash_attention_2", "sdpa") if is_flash_attn_2_available() else ("sdpa",)


@torch.no_grad()
def keeps_apart(decoder: Any, name: str) -> bool:
    """Whether two documents in one row are, under a way of attention, what each is alone.

    Some decoders add to attention what is not theirs to leave out (ALiBi), let states run on
    (Mamba), or do not tell transformers where documents begin.
    """
    device = next(decoder.parameters()).device
    sizes, rows = (6, 5), head_of(decoder).parts[-1].stop
    ids = torch.arange(3, 3 + sum(sizes), device=device)[None] % rows
    places = torch.cat([torch.arange(size, device=device) for size in sizes])[None]
    spans = torch.tensor([(0, sizes[0]), (sizes[0], sum(sizes))], dtype=torch.int32, device=device)
    before, was_training = decoder.config._attn_implementation, decoder.training
    decoder.eval()
    try:
        decoder.set_attn_implementation("eager")
        alone = [
            decoder.base_model(input_ids=part, use_cache=False)[0] for part in ids.split(sizes, 1)
        ]
        # Flash attention takes no float32; its documents are found as the others' are.
        decoder.set_attn_implementation("eager" if name.startswith("flash") else name)
        how = {"document_spans": spans} if name == attention.NAME else {}
        found = decoder.base_model(input_ids=ids, position_ids=places, use_cache=False, **how)[0]
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        decoder.set_attn_implementation(before)
        decoder.train(was_training)
    expected = torch.cat(alone, 1).float()
    return torch.allclose(found.float(), expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


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


def _last_norm(decoder: Any) -> nn.Module | None:
    """The norm behind the last layer, where it has one of the usual names."""
    for name in ("norm", "ln_f", "final_layer_norm", "final_layernorm"):
        found = getattr(decoder.base_model, name, None)
        if isinstance(found, nn.Module):
            return found
    return None


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
