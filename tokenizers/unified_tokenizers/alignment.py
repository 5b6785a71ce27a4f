"""Alignment of a tokenizer's codes with texts: heads that name what was coded, in training alone.

Codes learnt for their pictures' sake alone say little of what a picture shows: the same thing a few
pixels further on has other codes. Here the encoder and the first codebooks are held to the text
beside a medium as well, in one of three ways:

- `words`: which words the text has, from all places together. Each word is a class of one softmax,
  its share of the target by its weight (SuperClass, arXiv:2411.03313).
- `ctc`: the text's characters in order, from every frame (arXiv:2006.11477 calls it so for speech;
  supervised codes of speech: CosyVoice, arXiv:2407.05407).
- `contrastive`: which text of a batch is its own, by a text tower beside that is trained with it
  (VILA-U, arXiv:2409.04429; UniTok, arXiv:2502.20321). What was learnt names what no word was
  counted for: classes in any words.

For its first steps (`alone`) nothing is quantized or decoded and the encoder learns to name alone;
afterwards it is held to it beside the losses of reconstruction.

Legend: B batch, N places (h w of a picture, T frames), D width, W words or characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unified_base.config import parse_config
from unified_tokenizers.alignment_texts import symbols_of, weighed_words, words_of
from unified_tokenizers.alignment_tower import TextTower
from unified_tokenizers.contrastive import ContrastiveLoss
from unified_tokenizers.layers import PixelMLP

__all__ = ["Alignment", "AlignmentSettings"]

_HEAD_WIDTH = 256
_MOST_TEXTS = 512


@dataclass(frozen=True)
class AlignmentSettings:
    """How codes are aligned.

    Attributes:
        kind: `words`, `ctc` or `contrastive`.
        weight: of the loss, beside those of reconstruction.
        groups: the first groups of the quantizer that are held to it; the others are free.
        alone: the first steps, in which the encoder learns from this loss and nothing else.
        decoded: the share of a batch that is decoded and held to the losses of reconstruction; all
            of it is held to this loss. Less than 1 gives more naming for the same time: a decoder
            takes as long as an encoder.
        vocabulary: the commonest words of the training texts that are told apart, at most; not for
            `ctc`.
        pattern: a regular expression that finds the text in what stands beside a medium.
        loss: of `contrastive`: `softmax` or `sigmoid`, see `contrastive`.
    """

    kind: Literal["words", "ctc", "contrastive"] = "words"
    weight: float = 0.5
    groups: int = 1
    alone: int = 0
    decoded: float = 1.0
    vocabulary: int = 1024
    pattern: str | None = None
    loss: ContrastiveLoss = "softmax"

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 10**9:
            raise ValueError(f"weight is {self.weight:g}, expected more than 0")
        if not 0 < self.decoded <= 1:
            raise ValueError(f"decoded is {self.decoded:g}, expected more than 0 and at most 1")
        for name in ("groups", "vocabulary"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")
        if self.alone < 0:
            raise ValueError(f"alone is {self.alone}, expected 0 steps or more")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern {self.pattern!r}: {error}") from None

    @classmethod
    def parse(cls, entries: Any) -> AlignmentSettings:
        """From plain entries. Raises ValueError for unknown ones and values out of bounds."""
        return parse_config(cls, entries, "alignment")


class Alignment(nn.Module):
    """Heads on the encoder's output and on the values of the first groups, and their loss.

    Args:
        settings: of the run.
        texts: of the training media; they give the words or characters.
        encoder_width: D of the encoder's output.
        group_width: of a group's values.

    Raises:
        ValueError: no text has a word.
    """

    def __init__(
        self,
        settings: AlignmentSettings,
        texts: Sequence[str | None],
        encoder_width: int,
        group_width: int,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.tower: TextTower | None = None
        if settings.kind == "contrastive":
            self.tower = TextTower(list(weighed_words(texts, settings.vocabulary)))
            self.entries, outputs = self.tower.words, self.tower.width
            known = {text for text in texts if text is not None and words_of(text)}
            self.classes = sorted(known)[:_MOST_TEXTS]
        elif settings.kind == "words":
            weights = weighed_words(texts, settings.vocabulary)
            self.entries, outputs = list(weights), len(weights)
            self.register_buffer("weights", torch.tensor([*weights.values()]), persistent=False)
        else:
            self.entries = symbols_of(texts)
            outputs = len(self.entries) + 1  # the first is CTC's blank
        if not self.entries:
            raise ValueError(
                f"alignment: none of {len(texts):,} media has a text with"
                f" {'characters' if settings.kind == 'ctc' else 'words'} beside it"
                + (f" that {settings.pattern!r} finds" if settings.pattern else "")
                + "; expected .txt files, or documents, of the same name"
            )
        self._number = {entry: number for number, entry in enumerate(self.entries)}
        self._values = settings.groups * group_width
        self.of_features = nn.Sequential(nn.LayerNorm(encoder_width), _head(encoder_width, outputs))
        self.of_values = _head(self._values, outputs)

    weights: Tensor

    @property
    def figure(self) -> str:
        """What the mean of `errors` is called in the log."""
        names = {"words": "words", "ctc": "symbols", "contrastive": "texts"}
        return f"{names[self.settings.kind]}_missed"

    @torch.no_grad()
    def name(self, values: Tensor, classes: Sequence[str]) -> list[int]:
        """Which of some classes, in words, each medium's values are nearest to: B numbers.

        `contrastive`: by its text tower. `words`: whose words are the likeliest, on the average;
        those that were not counted tell nothing.

        Raises ValueError for `ctc`, which spells, and a class without a word that is known.
        """
        logits_BNW = self.of_values(values[..., : self._values].flatten(1, -2)).float()
        if self.tower is not None:
            return self.tower.nearest(logits_BNW, classes)
        if self.settings.kind == "ctc":
            raise ValueError("alignment ctc spells texts and names no classes; train contrastive")
        words = [[self._number[w] for w in words_of(c) if w in self._number] for c in classes]
        if [] in words:
            raise ValueError(f"class {classes[words.index([])]!r} has no word of the alignment's")
        log_BW = logits_BNW.mean(1).log_softmax(-1)
        scores = torch.stack([log_BW[:, numbers].mean(1) for numbers in words], dim=1)
        return scores.argmax(1).tolist()

    def forward(
        self, features: Tensor, values: Tensor | None, texts: Sequence[str | None]
    ) -> Tensor:
        """The loss, a scalar: the mean of both heads'. Media without a text count nothing.

        Args:
            features: the encoder's output, (B, ..., D).
            values: the quantizer's, (B, ..., dims), before which nothing is quantized: None.
            texts: B of them.
        """
        losses = [self._loss(self.of_features(features.flatten(1, -2)), texts)]
        if values is not None:
            mine = values[..., : self._values].flatten(1, -2)
            losses.append(self._loss(self.of_values(mine), texts))
        return torch.stack(losses).mean()

    def _loss(self, logits_BNW: Tensor, texts: Sequence[str | None]) -> Tensor:
        if self.tower is not None:
            rows = [row for row, text in enumerate(texts) if words_of(text)]
            if len(rows) < 2:  # there is nothing to tell a single text from
                return logits_BNW.float().sum() * 0
            own = [text for text in texts if words_of(text) and text is not None]
            return self.tower.loss(logits_BNW[rows], own, self.settings.loss)
        if self.settings.kind == "words":
            target_BW = self._targets(texts).to(logits_BNW)
            log_BW = logits_BNW.float().mean(1).log_softmax(-1)
            count = (target_BW.sum(1) > 0).sum().clamp_min(1)
            return -(target_BW * log_BW).sum() / count
        rows = [row for row, text in enumerate(texts) if self._numbers(text)]
        numbers = [self._numbers(texts[row]) for row in rows]
        if not rows:
            return logits_BNW.float().sum() * 0
        log_NBW = logits_BNW[rows].float().log_softmax(-1).transpose(0, 1)
        lengths = torch.tensor([len(some) for some in numbers])
        frames = torch.full_like(lengths, len(log_NBW))
        flat = torch.tensor([number for some in numbers for number in some])
        # A text that is too long for its frames has no way to be spelt: it counts nothing.
        loss_B = F.ctc_loss(log_NBW, flat, frames, lengths, reduction="none", zero_infinity=True)
        # By character: a long sentence counts as much as a short one.
        return (loss_B / lengths.to(loss_B)).mean()

    def _targets(self, texts: Sequence[str | None]) -> Tensor:
        """Each text's words as shares of one: (B, W), zeros where it has none."""
        target_BW = torch.zeros(len(texts), len(self.entries))
        for row, text in enumerate(texts):
            for word in words_of(text):
                if (number := self._number.get(word)) is not None:
                    target_BW[row, number] = self.weights[number]
        return target_BW / target_BW.sum(1, keepdim=True).clamp_min(1e-12)

    def _numbers(self, text: str | None) -> list[int]:
        """A text's characters as CTC counts them; those that no training text has are left out."""
        return [self._number[c] + 1 for c in text or "" if c in self._number]

    @torch.no_grad()
    def errors(
        self, values: Tensor, texts: Sequence[str | None], encoded: bool = False
    ) -> list[float]:
        """What the values alone say of each text that there is, 0 for nothing wrong.

        encoded: they are the encoder's output, before a quantizer.

        `words`: the share of the text's words that are not among the likeliest, as many as it has.
        `ctc`: edits to the text from what the likeliest characters spell, over its length.
        `contrastive`: whether another text is nearer, among the first 512 of training and its own.
        """
        if encoded:
            logits_BNW = self.of_features(values.flatten(1, -2)).float()
        else:
            logits_BNW = self.of_values(values[..., : self._values].flatten(1, -2)).float()
        if self.tower is not None:
            own = [(row, text) for row, text in enumerate(texts) if text and words_of(text)]
            classes = sorted({*self.classes, *(text for _, text in own)})
            nearest = self.tower.nearest(logits_BNW, classes)
            return [float(classes[nearest[row]] != text) for row, text in own]
        errors = []
        for logits_NW, text in zip(logits_BNW, texts):
            if self.settings.kind == "words":
                wanted = {self._number[word] for word in words_of(text) if word in self._number}
                if wanted:
                    likeliest = logits_NW.mean(0).topk(len(wanted)).indices.tolist()
                    errors.append(1 - len(wanted & set(likeliest)) / len(wanted))
            elif numbers := self._numbers(text):
                best = logits_NW.argmax(-1).unique_consecutive().tolist()
                errors.append(_edits([n for n in best if n], numbers) / len(numbers))
        return errors


def _head(inputs: int, outputs: int) -> nn.Sequential:
    """Places (B, N, inputs) to logits (B, N, outputs), each by itself."""
    width = _HEAD_WIDTH
    return nn.Sequential(
        nn.Linear(inputs, width), PixelMLP(width), nn.LayerNorm(width), nn.Linear(width, outputs)
    )


def _edits(spelt: Sequence[int], wanted: Sequence[int]) -> int:
    """Levenshtein's distance."""
    row = list(range(len(wanted) + 1))
    for at, number in enumerate(spelt, start=1):
        diagonal, row[0] = row[0], at
        for to, other in enumerate(wanted, start=1):
            diagonal, row[to] = (
                row[to],
                min(row[to] + 1, row[to - 1] + 1, diagonal + (number != other)),
            )
    return row[-1]
