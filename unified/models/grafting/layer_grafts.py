"""Modules inside a language model's layers, for what is seen: they begin as if they were not there.

Each is installed into the layers of a causal LM of transformers whose layers have `self_attn` and
`mlp` as Llama's do, and taken out again; the model's own weights stay its own.

Legend: B rows, T positions, D width, N prompts or latents, A heads, C width of a head.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unified.engine.backends.pass_media import PassMedia, media_of

__all__ = [
    "AdaptionPrompts", "LayerGraft", "VisualExpert", "attach_layer_graft", "layer_graft_of",
    "layers_of_model", "without_layer_graft",
]  # fmt: skip


def layers_of_model(hf: Any) -> nn.ModuleList:
    """The layers of a causal LM. Raises ValueError where they are not like Llama's."""
    base: Any = hf.base_model
    inner = getattr(base, "language_model", base)
    layers = getattr(inner, "layers", None)
    if not isinstance(layers, nn.ModuleList) or not all(
        hasattr(layer, "self_attn") and hasattr(layer, "mlp") for layer in layers
    ):
        raise ValueError(
            f"the layers of {type(hf).__name__} are not like Llama's (self_attn, mlp): nothing can"
            " be put into them"
        )
    return layers


class LayerGraft(nn.Module, ABC):
    """Modules for some layers of a language model.

    Attributes:
        name: by which it is asked for and saved.
        options: what it was made with.
        looks_back: whether it must know of a pass which media the sequences have seen before,
            and not only which of its positions hold vectors.
        attends: whether it attends to the vectors of a medium, which then stand at no position of
            the sequence but the medium's one.
    """

    looks_back: ClassVar[bool] = False
    attends: ClassVar[bool] = False

    name: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = {**self.defaults, **options}

    @abstractmethod
    def install(self, hf: Any) -> None:
        """Put the modules into the layers of the model that they were made for."""

    @abstractmethod
    def remove(self, hf: Any) -> None:
        """Take them out again: the model is what it was."""


_GRAFT = "unified_layer_graft"


def layer_graft_of(hf: Any) -> LayerGraft | None:
    """What is installed in the layers of a model; None where nothing is."""
    graft: LayerGraft | None = vars(hf).get(_GRAFT)
    return graft


def attach_layer_graft(hf: Any, graft: LayerGraft) -> None:
    """Install modules into the layers of a model, in the type and place of its weights."""
    weight = next(hf.parameters())
    graft.to(weight.device, weight.dtype)
    graft.install(hf)
    vars(hf)[_GRAFT] = graft


@contextmanager
def without_layer_graft(hf: Any) -> Iterator[LayerGraft | None]:
    """A model as it is without what is installed in its layers, inside the block: to save it."""
    graft = layer_graft_of(hf)
    if graft is not None:
        graft.remove(hf)
    try:
        yield graft
    finally:
        if graft is not None:
            graft.install(hf)


class _ExpertLinear(nn.Module):
    """A product whose positions of media have weights of their own."""

    media: PassMedia

    def __init__(self, base: nn.Linear, expert: nn.Linear, media: PassMedia) -> None:
        super().__init__()
        self.base, self.expert = base, expert
        object.__setattr__(self, "media", media)

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = self.base(x)
        mask = self.media.mask
        if mask is None or mask.shape != x.shape[:-1]:
            return product
        of_media = self.expert(x[mask])
        return product.index_put((mask,), of_media.to(product.dtype))


_PRODUCTS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


class VisualExpert(LayerGraft):
    """CogVLM's visual expert (arXiv:2311.03079): QKV and FFN of their own for positions of media.

    They begin as copies of the model's; a pass without media is the model's own, bit for bit.
    """

    name = "visual-expert"

    def __init__(self, hf: Any, **options: Any) -> None:
        super().__init__(**options)
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {name: copy.deepcopy(linear) for name, _, linear in _products(layer)}
            ).requires_grad_(True)
            for layer in layers_of_model(hf)
        )

    def install(self, hf: Any) -> None:
        media = media_of(hf)
        for layer, experts in zip(layers_of_model(hf), self.layers):
            for name, parent, linear in list(_products(layer)):
                expert: Any = experts[name]  # type: ignore[index]
                setattr(parent, name, _ExpertLinear(linear, expert, media))

    def remove(self, hf: Any) -> None:
        layer: Any
        for layer in layers_of_model(hf):
            for parent in (layer.self_attn, layer.mlp):
                for name, module in list(parent.named_children()):
                    if isinstance(module, _ExpertLinear):
                        setattr(parent, name, module.base)


def _products(layer: Any) -> Iterator[tuple[str, Any, nn.Linear]]:
    for part, names in _PRODUCTS.items():
        parent = getattr(layer, part)
        for name in names:
            linear = getattr(parent, name, None)
            if not isinstance(linear, nn.Linear):
                raise ValueError(
                    f"a layer has no product {part}.{name}, as Llama's layers do: the visual expert"
                    " cannot stand beside it"
                )
            yield name, parent, linear


class _PromptedAttention(nn.Module):
    """Attention, and attention to prompts of its own times a gate that begins at zero."""

    def __init__(self, base: Any, prompts: nn.Parameter, gate: nn.Parameter) -> None:
        super().__init__()
        self.base = base
        self.prompts, self.gate = prompts, gate

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)

    def forward(self, hidden_states: Tensor, *arguments: Any, **options: Any) -> Any:
        outputs = self.base(hidden_states, *arguments, **options)
        attended, *rest = outputs
        return (attended + self.gate * self._to_prompts(hidden_states), *rest)

    def _to_prompts(self, hidden_states: Tensor) -> Tensor:
        """Attention of each position to the prompts, (B, T, D); they have no positions."""
        base, width = self.base, self.base.head_dim
        prompts = self.prompts.to(hidden_states.dtype)
        query = (
            base.q_proj(hidden_states).unflatten(-1, (-1, width)).transpose(1, 2)
        )  # (B, A, T, C)
        key, value = (
            product(prompts).unflatten(-1, (-1, width)).transpose(0, 1)[None]  # (1, A', N, C)
            for product in (base.k_proj, base.v_proj)
        )
        repeats = query.shape[1] // key.shape[1]
        key, value = (t.repeat_interleave(repeats, 1) for t in (key, value))
        weights = torch.softmax(query @ key.transpose(-1, -2) * width**-0.5, -1)
        merged = (weights @ value).transpose(1, 2).flatten(-2)  # (B, T, A * C)
        projected: Tensor = base.o_proj(merged)
        return projected


class AdaptionPrompts(LayerGraft):
    """LLaMA-Adapter V2's prompts in the last layers (arXiv:2304.15010), behind zero gates.

    prompts: N of each layer. layers: how many of the last have them.
    """

    name = "adaption-prompts"
    defaults: ClassVar[Mapping[str, Any]] = {"prompts": 10, "layers": 30}

    def __init__(self, hf: Any, **options: Any) -> None:
        super().__init__(**options)
        layers = layers_of_model(hf)
        count = min(int(self.options["layers"]), len(layers))
        width = int(hf.get_input_embeddings().weight.shape[1])
        number = int(self.options["prompts"])
        self.prompts = nn.ParameterList(torch.randn(number, width) * 0.02 for _ in range(count))
        self.gates = nn.ParameterList(torch.zeros(1) for _ in range(count))

    def _own(self, hf: Any) -> Sequence[Any]:
        return list(layers_of_model(hf))[-len(self.prompts) :]

    def install(self, hf: Any) -> None:
        for layer, prompts, gate in zip(self._own(hf), self.prompts, self.gates):
            layer.self_attn = _PromptedAttention(layer.self_attn, prompts, gate)

    def remove(self, hf: Any) -> None:
        for layer in self._own(hf):
            if isinstance(layer.self_attn, _PromptedAttention):
                layer.self_attn = layer.self_attn.base
