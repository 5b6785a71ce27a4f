"""Connectors with queries of their own: a fixed number of vectors for a medium of any grid.

The modules are transformers' own, so that published weights fit.

Legend: B media, F features, E their width, Q queries, W width of the queries, D the decoder's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unified.models.grafting.connectors import Connector, Grid

__all__ = ["QFormerConnector", "ResamplerConnector"]


class _QueryConnector(Connector):
    """A fixed number of vectors of a medium; with `each` 1, of each of its frames or tiles."""

    count: ClassVar[str]

    def grid(self, grid: Grid) -> Grid:
        count = int(self.options[self.count])
        return (grid[0], count) if self._apart(grid) else (count,)

    def _apart(self, grid: Grid) -> bool:
        return bool(self.options["each"]) and len(grid) == 3

    def forward(self, features: Tensor, grid: Grid) -> Tensor:
        self.check(features)
        if not self._apart(grid):
            return self.vectors(features)
        several = len(features), grid[0]
        vectors = self.vectors(features.reshape(-1, grid[1] * grid[2], features.shape[-1]))
        return vectors.unflatten(0, several).flatten(1, 2)

    @abstractmethod
    def vectors(self, features: Tensor) -> Tensor:
        """(B, Q, D) of features (B, F, E), of all of them."""


class QFormerConnector(_QueryConnector):
    """BLIP-2's Q-Former (arXiv:2301.12597) and the product behind it.

    queries: Q vectors come of a medium. layers, heads, width: of the transformer; every second
    layer attends to the features. each: 1 for Q vectors of each frame or tile.
    """

    count = "queries"

    name = "qformer"
    defaults: ClassVar[Mapping[str, Any]] = {
        "queries": 32, "layers": 12, "heads": 12, "width": 768, "each": 0,
    }  # fmt: skip

    def __init__(self, input_width: int, output_width: int, **options: Any) -> None:
        from transformers import Blip2QFormerConfig, Blip2QFormerModel

        super().__init__(input_width, output_width, **options)
        own = self.options
        _check_heads(self.name, own["width"], own["heads"])
        config = Blip2QFormerConfig(
            hidden_size=own["width"], num_hidden_layers=own["layers"],
            num_attention_heads=own["heads"], intermediate_size=4 * own["width"],
            encoder_hidden_size=input_width,
        )  # fmt: skip
        self.query_tokens = nn.Parameter(torch.randn(1, own["queries"], own["width"]) * 0.02)
        self.qformer = Blip2QFormerModel(config)
        self.language_projection = nn.Linear(own["width"], output_width)

    def vectors(self, features: Tensor) -> Tensor:
        queries = self.query_tokens.expand(len(features), -1, -1)  # (B, Q, W)
        states = self.qformer(query_embeds=queries, encoder_hidden_states=features)[0]
        projected: Tensor = self.language_projection(states)
        return projected


class ResamplerConnector(_QueryConnector):
    """Flamingo's Perceiver resampler (arXiv:2204.14198), as IDEFICS has it, and a product behind.

    latents: Q vectors come of a medium. depth, heads, head_width: of its blocks. each: 1 for Q
    vectors of each frame or tile.
    """

    count = "latents"

    name = "resampler"
    defaults: ClassVar[Mapping[str, Any]] = {
        "latents": 64, "depth": 6, "heads": 16, "head_width": 96, "each": 0,
    }  # fmt: skip

    def __init__(self, input_width: int, output_width: int, **options: Any) -> None:
        from transformers import IdeficsConfig
        from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

        super().__init__(input_width, output_width, **options)
        own = self.options
        config = IdeficsConfig(vision_config={"embed_dim": input_width})
        self.resampler = IdeficsPerceiverResampler(
            config, input_width, own["depth"], own["heads"], own["head_width"], own["latents"]
        )
        self.linear = nn.Linear(input_width, output_width)

    def vectors(self, features: Tensor) -> Tensor:
        projected: Tensor = self.linear(self.resampler(features))
        return projected


def _check_heads(name: str, width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(
            f"connector {name} has width {width} and {heads} heads, expected a multiple of them"
        )
