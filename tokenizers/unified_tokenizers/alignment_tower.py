"""The text tower beside a tokenizer that is aligned by contrast: in training alone.

Small, since what it reads is short: words as they are counted in the training's texts, two layers
of a transformer, the mean of all places.

Legend: B batch, N places of a medium, L words of a text, D width of the space.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unified_tokenizers.alignment_texts import words_of
from unified_tokenizers.contrastive import contrastive_loss, unit

__all__ = ["TextTower"]

_LONGEST = 64
_PADDING, _UNKNOWN = 0, 1


class TextTower(nn.Module):
    """Texts to vectors, and how near media are to them.

    Args:
        words: those that are told apart; all others are one. The first 64 words of a text count.
        width: D.
    """

    def __init__(self, words: Sequence[str], width: int = 128) -> None:
        super().__init__()
        self.words, self.width = list(words), width
        self._number = {word: number for number, word in enumerate(self.words, start=2)}
        self.embedding = nn.Embedding(len(self.words) + 2, width, padding_idx=_PADDING)
        self.positions = nn.Parameter(0.02 * torch.randn(_LONGEST, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        # As CLIP's begins: the logarithm of 1 / 0.07 (arXiv:2103.00020).
        self.scale = nn.Parameter(torch.tensor(2.6592))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Vectors (B, D) of length one, of texts with at least one word each."""
        rows = [[self._number.get(w, _UNKNOWN) for w in words_of(t)[:_LONGEST]] for t in texts]
        longest = max(map(len, rows))
        ids_BL = torch.tensor([[*row, *[_PADDING] * (longest - len(row))] for row in rows])
        ids_BL = ids_BL.to(self.positions.device)
        padded_BL = ids_BL == _PADDING
        hidden_BLD = self.embedding(ids_BL) + self.positions[:longest]
        hidden_BLD = self.layers(hidden_BLD, src_key_padding_mask=padded_BL)
        hidden_BLD = hidden_BLD.masked_fill(padded_BL[..., None], 0)
        mean_BD = hidden_BLD.sum(1) / (~padded_BL).sum(1, keepdim=True)
        return unit(self.output(mean_BD))

    def loss(self, places_BND: Tensor, texts: Sequence[str], kind: str) -> Tensor:
        """The contrastive loss of media, by what their places say, and their texts."""
        media_BD = unit(places_BND.float().mean(1))
        return contrastive_loss(media_BD, self(texts), texts, self.scale, self.bias, kind)

    @torch.no_grad()
    def nearest(self, places_BND: Tensor, texts: Sequence[str]) -> list[int]:
        """Which of some texts each medium is nearest to: B numbers."""
        media_BD = unit(places_BND.float().mean(1))
        likeness = torch.cat([media_BD @ self(texts[i : i + 256]).T
                              for i in range(0, len(texts), 256)], dim=1)  # fmt: skip
        return likeness.argmax(1).tolist()
