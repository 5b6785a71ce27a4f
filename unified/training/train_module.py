"""The module that is trained: a decoder that turns micro-batches into losses.

One forward for everything, so that FSDP2 sees a module like any other.

Legend: B sequences, L positions, D width, P positions with loss, M modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unified.engine.backends.both_ways import check_full_attention
from unified.formats.grammar import MODALITIES
from unified.models.code_head import code_head
from unified.models.grafting.layer_grafts import layer_graft_of
from unified.models.hf_checkpoint import has_encoder
from unified.training import bidirectional_attention, document_attention
from unified.training.decoder_positions import positions_of
from unified.training.depth_loss import depth_loss
from unified.training.embedded_batch import Vectorizer
from unified.training.loss import Head, HeadPart, allowed_loss
from unified.training.micro_batch import MicroBatch
from unified.training.positions import Positions
from unified.training.published_positions import is_published
from unified.training.routing import inside_documents, routing_of
from unified.vocabulary.block import Ranges

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LossOutput", "TrainModule", "check_head", "layers_of", "recompute_activations"]


@dataclass(frozen=True, eq=False)
class LossOutput:
    """total: weighted sum of losses, with gradient. losses: float32 (P,), detached.
    output_norm: root mean square of what enters the last norm, or leaves the decoder."""

    total: Tensor
    losses: Tensor
    output_norm: Tensor

    def by_modality(self, micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """(sum of losses float64 (M,), counts float64 (M,))."""
        sums = torch.zeros(len(MODALITIES), dtype=torch.float64, device=self.losses.device)
        sums.index_add_(0, micro_batch.modality, self.losses.double())
        return sums, torch.bincount(micro_batch.modality, minlength=len(MODALITIES)).double()


class TrainModule(nn.Module):
    """A decoder and its loss. We compute the product with the lm_head and the loss; everything else
    is the model's own forward.

    Args:
        decoder: a causal LM of transformers.
        attention_name: "documents" (on the CPU), or an `attn_implementation` of transformers, which
            then tells documents apart by their position ids; None: the first of `attentions` that
            does not leak between documents.
        z_loss: weight of the squared log-normaliser.
        router_loss: weight of what balances a mixture of experts, see `routing_of`.
        vectors: the connectors of what is read as vectors; None: there are none.
        bidirectional: whether spans of documents are seen both ways; attention is ours then.

    Raises:
        ValueError: no attention keeps the documents of a sequence apart, or `router_loss` is given
            for a decoder without routers.
    """

    def __init__(
        self,
        decoder: PreTrainedModel,
        attention_name: str | None,
        z_loss: float = 0.0,
        router_loss: float | None = None,
        vectors: Vectorizer | None = None,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.vectors = vectors
        self.z_loss = z_loss
        self.positions = positions_of(decoder)
        self.routing = routing_of(decoder, router_loss)
        self.balance: Tensor | None = None
        self._norm_input: Tensor | None = None
        document_attention.register()
        self.bidirectional = bidirectional
        inner: Any = self.positions.inner
        self.encodes = has_encoder({"model_type": decoder.config.model_type})
        if self.encodes:  # it takes documents apart
            chosen = str(inner.config._attn_implementation)
        else:
            chosen = _choose_attention(decoder, attention_name, self.positions, bidirectional)
            use_attention(inner, chosen)
        self.by_documents = chosen == document_attention.NAME
        # transformers looks for documents in a batch of one alone where flash attention is used.
        self.flat = "flash" in chosen
        norm = _last_norm(inner)
        if norm is not None:
            norm.register_forward_pre_hook(lambda _, inputs: self._see(inputs))
        else:
            inner.register_forward_hook(lambda _, __, outputs: self._see(outputs))
        self.train()

    @property
    def writes(self) -> Ranges | None:
        """The ids that the decoder can write; None: all. Others have no loss."""
        return self.positions.writes

    def figures(self) -> dict[str, Tensor]:
        """Of the last forward, for the log: how evenly a mixture's experts are used. 1: all alike;
        where a few get all, the experts over those that a position goes to."""
        return {} if self.balance is None else {"train/expert_balance": self.balance}

    def _see(self, tensors: tuple[Tensor, ...]) -> None:
        self._norm_input = tensors[0].detach()

    def forward(self, micro_batch: MicroBatch) -> LossOutput:
        """Losses of a micro-batch."""
        options: dict[str, Any] = {}
        if self.by_documents or self.bidirectional:
            options["document_spans"] = micro_batch.document_spans
        if self.bidirectional:
            options["seen_until"] = micro_batch.seen_until()
        if self.encodes:
            options["spans"] = micro_batch.spans
        input_ids, position_ids = micro_batch.input_ids, micro_batch.position_ids  # (B, L)
        if self.flat:
            input_ids, position_ids = input_ids.view(1, -1), position_ids.view(1, -1)
        routed = self.routing is not None and self.training
        if routed:
            options["output_router_logits"] = True
        outputs = self.positions.inner(
            **self._inputs(input_ids, position_ids, micro_batch),
            position_ids=position_ids,
            use_cache=False,
            **options,
        )
        total, losses = self._loss(outputs[0].flatten(0, 1), micro_batch)  # (B L, D)
        if self.vectors is not None and not micro_batch.embedded:
            total = total + self.vectors.none().to(total.device)
        if self.routing is not None and routed:
            inside_T = inside_documents(micro_batch.document_spans, input_ids.numel())
            balance = self.routing.balance(outputs.router_logits, inside_T)
            # As the other losses: by the weight that this part of the step has.
            total = total + self.routing.coefficient * balance * micro_batch.weights.sum()
            self.balance = balance.detach() / self.routing.top_k
        assert self._norm_input is not None
        norm = self._norm_input.float().square().mean().sqrt()
        self._norm_input = None
        return LossOutput(total, losses, norm)

    def _inputs(
        self, input_ids: Tensor, position_ids: Tensor, micro_batch: MicroBatch
    ) -> dict[str, Tensor]:
        """What the decoder reads: ids (B, L), or embeddings with vectors in their places."""
        inputs = self.positions.inputs(input_ids, micro_batch.deeper)
        if (media := vars(self.decoder).get("unified_pass_media")) is not None:
            groups = [group.at.flatten() for group in micro_batch.embedded]
            media.mark(torch.cat(groups) if groups else None, input_ids)
            media.media, media.latest = (), None
            graft = layer_graft_of(self.decoder)
            if self.vectors is not None and graft is not None and graft.looks_back:
                media.media, media.latest = self.vectors.seen(micro_batch.embedded, position_ids)
        if not micro_batch.embedded:
            return inputs
        assert self.vectors is not None
        embedded = inputs.get("inputs_embeds")
        if embedded is None:
            embedded = self.decoder.get_input_embeddings()(input_ids)
        return {"inputs_embeds": self.vectors.put_into(embedded, micro_batch.embedded)}

    def _loss(self, hidden_TD: Tensor, micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Of all ids, as `allowed_loss`: those of depth 1 and more by the depth decoder; without
        one by the decoder's head, as all others."""
        deeper, first = micro_batch.deeper, micro_batch.num_first
        labels, weights = micro_batch.labels, micro_batch.weights
        depth = self.positions.depth
        if depth is None:
            groups = micro_batch.groups + (() if deeper is None else deeper.groups)
            return self._head_loss(hidden_TD[micro_batch.predict_from], labels, weights, groups)
        total, losses = self._head_loss(
            hidden_TD[micro_batch.predict_from[:first]], labels[:first], weights[:first],
            micro_batch.groups,
        )  # fmt: skip
        of_depth, losses_of_depth = depth_loss(
            depth, hidden_TD, micro_batch.input_ids, deeper, labels[first:], weights[first:],
            self.z_loss,
        )  # fmt: skip
        return total + of_depth, torch.cat([losses, losses_of_depth])

    def _head_loss(
        self,
        hidden_PD: Tensor,
        labels: Tensor,
        weights: Tensor,
        groups: Sequence[tuple[Ranges, int]],
    ) -> tuple[Tensor, Tensor]:
        """As `allowed_loss`; positions that predict codes by the head that codes have, if any."""
        codes = code_head(self.decoder)
        own = self.positions.head()
        if codes is None:
            return allowed_loss(hidden_PD, own, labels, weights, groups, self.z_loss)
        total, losses = hidden_PD.new_zeros((), dtype=torch.float32), torch.zeros_like(weights)
        counts = torch.tensor([number for _, number in groups], device=labels.device)
        group_P = torch.repeat_interleave(counts)
        for of_codes in (False, True):
            chosen = [
                number
                for number, (ranges, _) in enumerate(groups)
                if (ranges[0][0] >= codes.first) == of_codes
            ]
            at = torch.isin(group_P, torch.tensor(chosen, device=labels.device)).nonzero()[:, 0]
            if not len(at):
                continue
            states = codes.hidden(hidden_PD[at]) if of_codes else hidden_PD[at]
            rows = HeadPart(codes.first, codes.head.weight, codes.head.bias)
            head = Head((rows,)) if of_codes else own
            of_these = [groups[number] for number in chosen]
            part, losses_at = allowed_loss(
                states, head, labels[at], weights[at], of_these, self.z_loss
            )
            total = total + part
            losses[at] = losses_at
        return total, losses


def _choose_attention(
    decoder: PreTrainedModel, name: str | None, positions: Positions, bidirectional: bool
) -> str:
    """An `attn_implementation` under which documents stay apart; see `TrainModule`."""
    names = (name,) if name else attentions(decoder)
    if bidirectional:
        if name is not None:
            raise ValueError(
                f"attention is {name}, but the format reads spans both ways, which attention of our"
                " own computes; leave it out"
            )
        bidirectional_attention.register()
        check_full_attention(decoder.config.get_text_config(), type(decoder).__name__)
        names = (bidirectional_attention.NAME,)
    chosen = next((other for other in names if keeps_apart(decoder, other, positions)), None)
    if chosen is None:
        raise ValueError(
            f"{type(decoder).__name__} does not keep the documents of a sequence apart under"
            f" attention {' or '.join(names)}; such decoders cannot be trained yet"
        )
    return chosen


def attentions(decoder: PreTrainedModel) -> tuple[str, ...]:
    """Ways of attention, the fastest first: "documents" on the CPU, where the decoder's attention
    is plain; flash attention where it is installed; what transformers has by itself otherwise."""
    from transformers.utils import is_flash_attn_2_available

    config = decoder.config.get_text_config()
    plain = not any(
        getattr(config, name, None)
        for name in ("sliding_window", "attn_logit_softcapping", "attention_chunk_size")
    )
    if next(decoder.parameters()).device.type == "cpu":
        return (document_attention.NAME, "eager") if plain else ("eager",)
    return ("flash_attention_2", "sdpa") if is_flash_attn_2_available() else ("sdpa",)


def use_attention(inner: Any, name: str) -> None:
    """Let a model attend by an `attn_implementation`, and leave what is no part of it: CSM's config
    is that of its backbone, of its depth decoder and of its codec."""
    from transformers import PreTrainedModel

    alone = not any(isinstance(m, PreTrainedModel) for m in inner.modules() if m is not inner)
    inner.set_attn_implementation({"": name} if alone else name)


@torch.no_grad()
def keeps_apart(decoder: PreTrainedModel, name: str, positions: Positions | None = None) -> bool:
    """True if attention `name` does not leak between documents packed in one sequence.

    Some decoders add to attention what is not theirs to leave out (ALiBi), let states run on
    (Mamba), or do not tell transformers where documents begin.
    """
    positions = positions or positions_of(decoder)
    device, sizes = next(decoder.parameters()).device, (6, 5)
    ids = positions.trial_ids(sum(sizes)).to(device)[None]
    position_ids = torch.cat([torch.arange(size, device=device) for size in sizes])[None]
    spans = torch.tensor([(0, sizes[0]), (sizes[0], sum(sizes))], dtype=torch.int32, device=device)
    inner: Any = positions.inner

    def run(ids: Tensor, **options: Any) -> Tensor:
        hidden: Tensor = inner(**positions.inputs(ids, None), use_cache=False, **options)[0]
        return hidden

    before, was_training = inner.config._attn_implementation, decoder.training
    decoder.eval()
    try:
        use_attention(inner, "eager")
        alone = [run(part) for part in ids.split(sizes, 1)]
        # Flash attention takes no float32; its documents are found as the others' are.
        use_attention(inner, "eager" if name.startswith("flash") else name)
        options: dict[str, Any] = {}
        if name in (document_attention.NAME, bidirectional_attention.NAME):
            options = {"document_spans": spans}
        if name == bidirectional_attention.NAME:
            options["seen_until"] = torch.arange(1, sum(sizes) + 1, device=device)
        packed = run(ids, position_ids=position_ids, **options)
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        use_attention(inner, before)
        decoder.train(was_training)
    expected = torch.cat(alone, 1).float()
    return torch.allclose(packed.float(), expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


def recompute_activations(decoder: PreTrainedModel) -> None:
    """Keep of every layer its input alone, and compute the rest again for its gradient."""
    # The name it has in transformers from 5.22 on; the other one warns there.
    enable = getattr(decoder, "activation_checkpointing_enable", None)
    (enable or decoder.gradient_checkpointing_enable)({"use_reentrant": False})


def layers_of(decoder: PreTrainedModel, needed: bool = True) -> list[nn.Module]:
    """The layers, of which FSDP2 gathers one at a time and of which compilation needs one.

    Raises ValueError where the decoder does not say which they are, if they are `needed`.
    """
    names = set(decoder._no_split_modules or ())
    layers = [module for module in decoder.modules() if type(module).__name__ in names]
    if needed and not layers:
        raise ValueError(f"{type(decoder).__name__} does not say which of its modules are layers")
    return layers


def _last_norm(inner: nn.Module) -> nn.Module | None:
    """The norm behind the last layer, where it has one of the usual names."""
    for name in ("norm", "ln_f", "final_layer_norm", "final_layernorm"):
        norm = getattr(inner, name, None)
        if isinstance(norm, nn.Module):
            return norm
    return None


@torch.no_grad()
def check_head(decoder: PreTrainedModel) -> None:
    """Raises ValueError for a decoder whose logits are not hidden states times its head's rows."""
    encodes = has_encoder({"model_type": decoder.config.model_type})
    if encodes or is_published(decoder):  # whose heads are known
        return
    positions = positions_of(decoder)
    head = positions.head()
    inner: Any = positions.inner
    device = next(decoder.parameters()).device
    ids = torch.arange(min(5, head.parts[-1].stop), device=device)[None]
    before = inner.config._attn_implementation
    use_attention(inner, "eager")
    was_training = decoder.training
    decoder.eval()
    hidden = inner(input_ids=ids, use_cache=False)[0][0]
    expected = decoder(input_ids=ids, use_cache=False).logits[0].float()
    use_attention(inner, before)
    decoder.train(was_training)
    logits = torch.cat([nn.functional.linear(hidden, p.weight, p.bias) for p in head.parts], 1)
    logits = logits.float()
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    # Ids that the model rules out in its own forward (Chameleon's codes) have the least number.
    expected = torch.where(expected > torch.finfo(decoder.dtype).min / 2, expected, logits)
    if not torch.allclose(logits, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max())):
        raise ValueError(
            f"{type(decoder).__name__} does more to its logits than a product with its head's rows"
            " and a soft cap; such decoders cannot be trained yet"
        )
