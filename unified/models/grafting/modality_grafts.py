"""Modules inside layers that look at media: gated cross-attention, and adapters by modality.

Legend: B rows, T positions, D width, N latents of a medium.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unified.engine.backends.pass_media import PassMedia, SeenMedium, media_of
from unified.models.grafting.layer_grafts import LayerGraft, layers_of_model

__all__ = ["GatedCrossAttention", "ModalityAdapters"]


class _Before(nn.Module):
    """A layer behind a module that changes what enters it."""

    media: PassMedia

    def __init__(self, layer: nn.Module, before: nn.Module, media: PassMedia) -> None:
        super().__init__()
        self.layer, self.before = layer, before
        object.__setattr__(self, "media", media)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, hidden_states: Tensor, *arguments: Any, **options: Any) -> Any:
        return self.layer(self.before(hidden_states, self.media), *arguments, **options)


class _CrossAttention(nn.Module):
    """Flamingo's block: attention to the last medium and a feed-forward net, each behind tanh of a
    gate. Positions that no medium stands before leave it as they came."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.ff_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, bias=False, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )
        self.attention_gate, self.ff_gate = (nn.Parameter(torch.zeros(1)) for _ in range(2))

    def forward(self, x: Tensor, media: PassMedia) -> Tensor:
        if media.latest is None or media.latest.shape != x.shape[:2]:
            return x
        flat, latest = x.flatten(0, 1), media.latest.flatten()  # (B T, D)
        for number, medium in enumerate(media.media):
            at = (latest == number).nonzero()[:, 0]
            if medium.vectors is not None and len(at):
                flat = flat.index_copy(0, at, self._looking(flat[at], medium))
        return flat.view_as(x)

    def _looking(self, x: Tensor, medium: SeenMedium) -> Tensor:
        """Positions (T, D) behind a medium."""
        key, value = self._projected(medium, x.dtype)  # (A, N, C)
        weight = self.attention.in_proj_weight[: x.shape[-1]]
        query = self._by_head(nn.functional.linear(self.norm(x), weight))
        attended = nn.functional.scaled_dot_product_attention(query[None], key[None], value[None])
        merged = self.attention.out_proj(attended[0].transpose(0, 1).flatten(1))
        x = x + torch.tanh(self.attention_gate) * merged
        fed: Tensor = self.feed_forward(self.ff_norm(x))
        return x + torch.tanh(self.ff_gate) * fed

    def _projected(self, medium: SeenMedium, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of a medium; in sampling they are computed once."""
        known = medium.projected.get(id(self)) if torch.is_inference_mode_enabled() else None
        if known is not None:
            return known
        assert medium.vectors is not None
        _, *weights = self.attention.in_proj_weight.chunk(3)
        vectors = medium.vectors.to(weights[0].device, dtype)
        key, value = (self._by_head(nn.functional.linear(vectors, weight)) for weight in weights)
        if torch.is_inference_mode_enabled():
            medium.projected[id(self)] = key, value
        return key, value

    def _by_head(self, x: Tensor) -> Tensor:
        """(T, D) -> (A, T, C)."""
        return x.unflatten(-1, (self.attention.num_heads, -1)).transpose(0, 1)


class _Wrapping(LayerGraft):
    """A module before some layers."""

    looks_back = True
    every: int = 1
    modules_before: nn.ModuleList

    def install(self, hf: Any) -> None:
        media, layers = media_of(hf), layers_of_model(hf)
        for number, before in enumerate(self.modules_before):
            at = number * self.every
            layers[at] = _Before(layers[at], before, media)

    def remove(self, hf: Any) -> None:
        layers = layers_of_model(hf)
        for at, layer in enumerate(layers):
            if isinstance(layer, _Before):
                layers[at] = layer.layer


class GatedCrossAttention(_Wrapping):
    """Flamingo's gated cross-attention (arXiv:2204.14198) before every few layers.

    A position attends to the last medium before it. What the gates let through begins at nothing.
    every: of how many layers one has it. heads: of its attention.
    """

    name = "gated-cross-attention"
    attends = True
    defaults: ClassVar[Mapping[str, Any]] = {"every": 4, "heads": 8}

    def __init__(self, hf: Any, **options: Any) -> None:
        super().__init__(**options)
        width = int(hf.get_input_embeddings().weight.shape[1])
        heads = int(self.options["heads"])
        if width % heads:
            raise ValueError(f"heads of {self.name} is {heads}, expected a divisor of {width}")
        self.every = int(self.options["every"])
        count = -(-len(layers_of_model(hf)) // self.every)
        self.modules_before = nn.ModuleList(_CrossAttention(width, heads) for _ in range(count))


class _MixedAdapter(nn.Module):
    """Two bottlenecks, mixed by a router that reads whether the document has shown a medium yet."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, rank) for _ in range(2))
        ups = [nn.Linear(rank, width) for _ in range(2)]
        for up in ups:
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias)
        self.up = nn.ModuleList(ups)
        self.modality = nn.Parameter(torch.randn(2, width) * 0.02)  # of text, and with media
        self.router = nn.Linear(width, 2)

    def forward(self, x: Tensor, media: PassMedia) -> Tensor:
        mix = torch.softmax(self.router(self.modality), -1)[media.seen(x).long()]  # (B, T, 2)
        parts = [up(nn.functional.silu(down(x))) for down, up in zip(self.down, self.up)]
        return x + mix[..., :1] * parts[0] + mix[..., 1:] * parts[1]


class ModalityAdapters(_Wrapping):
    """LaVIN's mixture-of-modality adapters (arXiv:2305.15023), whose last products begin at zero.

    rank: of the bottlenecks.
    """

    name = "modality-adapters"
    defaults: ClassVar[Mapping[str, Any]] = {"rank": 8}

    def __init__(self, hf: Any, **options: Any) -> None:
        super().__init__(**options)
        width = int(hf.get_input_embeddings().weight.shape[1])
        rank = int(self.options["rank"])
        self.modules_before = nn.ModuleList(_MixedAdapter(width, rank) for _ in layers_of_model(hf))
