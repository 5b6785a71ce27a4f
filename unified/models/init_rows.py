"""How the new rows of a language model begin, chosen by name.

Legend: N old rows, D width, C codes.

`mean-covariance`
    Drawn from the normal distribution with the mean of the old rows and 1e-5 times their covariance
    (Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021). At the mean m
    of N old rows a new one's exp(h m) is at most the mean of the old ones' (Jensen), whatever the
    state h: n new rows take at most the share n / (N + n) of the probability, and what is left
    keeps its proportions. The little noise tells the rows apart, so that their gradients can part
    them. A row at zero has no such bound: where all old logits lie far below 0, as GPT-2's do, rows
    with logit 0 take everything.
`zero`
    Nothing. For input rows that something else fills in; see above for what it does to a head.
`normal`
    Drawn with mean 0 and the spread that config.initializer_range says: what rows begin with that
    were never trained.
`codebook`
    Each code's row is its codebook vector under a fixed random map whose rows or columns are
    orthonormal, so that near codes have near rows, moved to the mean of the old rows and stretched
    to their spread. Ids that are no codes (markers, sizes) begin as `mean-covariance`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unified.vocabulary.block import Block

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from unified_tokenizers.base import MediaTokenizer

__all__ = ["NAMES", "Moments", "check_name", "codebook_rows", "fill_rows", "new_rows"]

NAMES = ("mean-covariance", "zero", "normal", "codebook")
_NOISE = 1e-5  # Hewitt's factor of the covariance
_CHUNK = 8192  # rows that are widened to float32 at a time
_MAP_SEED = 20_210


def check_name(name: str) -> None:
    """Raises ValueError for an unknown way to begin."""
    if name not in NAMES:
        raise ValueError(f"initialise is {name!r}, expected one of {', '.join(NAMES)}")


class Moments:
    """Mean and covariance of rows, to draw others like them.

    mean: float64 (D,). covariance: float64 (D, D), with N as divisor.
    """

    def __init__(self, rows: Tensor) -> None:
        """rows: (N, D) of any floating type and device; never widened all at once."""
        chunks = rows.detach().split(_CHUNK)
        width = rows.shape[1]
        self.mean = torch.zeros(width, dtype=torch.float64)
        for chunk in chunks:
            self.mean += chunk.sum(0, dtype=torch.float64).cpu()
        self.mean /= len(rows)
        self.covariance = torch.zeros(width, width, dtype=torch.float64)
        for chunk in chunks:
            apart = chunk.float().cpu() - self.mean.float()
            self.covariance += (apart.T @ apart).double()
        self.covariance /= len(rows)

    def draw(self, number: int, share: float) -> Iterable[Tensor]:
        """Rows float32 (number, D) in chunks, by torch's global generator.

        share: of the covariance that they have.
        """
        # Of fewer old rows than D the covariance is singular: no Cholesky factor, but a root.
        values, vectors = torch.linalg.eigh(self.covariance)
        root = ((share * values.clamp(min=0)).sqrt()[:, None] * vectors.T).float()
        for start in range(0, number, _CHUNK):
            noise = torch.randn(min(_CHUNK, number - start), len(self.mean))
            yield self.mean.float() + noise @ root


def codebook_rows(vectors: Tensor, level: int, like: Moments) -> Tensor:
    """Codebook vectors (C, d) of a level as rows float32 (C, D); see the top of the file.

    The map depends on nothing but the two widths and the level, so that the rows of two levels of
    one codebook do not fall together.

    Raises ValueError for codes that all have one vector.
    """
    size, width = vectors.shape[1], len(like.mean)
    generator = torch.Generator().manual_seed(_MAP_SEED + level)
    gaussian = torch.randn(max(size, width), min(size, width), generator=generator)
    semi_orthogonal, _ = torch.linalg.qr(gaussian)
    apart = (vectors - vectors.mean(0)).float()
    apart = apart @ (semi_orthogonal.T if width >= size else semi_orthogonal)
    square = apart.double().square().sum(1).mean()
    if not square > 0:
        raise ValueError(
            f"the {len(vectors)} codes of codebook {level} have one and the same vector: is the"
            " tokenizer trained? begin the new rows in another way than codebook"
        )
    stretch = (like.covariance.trace() / square).sqrt()
    return like.mean.float() + apart * stretch.float()


def fill_rows(
    rows: Tensor,
    start: int,
    name: str,
    like: Moments | None,
    share: float = _NOISE,
    spread: float = 0.0,
) -> None:
    """Set the rows from `start` on of a table (V, D), in place, as `NAMES` say; codebooks later.

    Computed in float32 and rounded once, to the type of the rows. like: of the old rows, not for
    `zero` and `normal`. share: of their covariance. spread: of `normal`.
    """
    with torch.no_grad():
        if like is None:
            new = rows[start:]
            new.copy_(torch.randn(new.shape) * spread if name == "normal" else torch.zeros(()))
            return
        for chunk in like.draw(len(rows) - start, share):
            rows[start : start + len(chunk)] = chunk.to(rows)
            start += len(chunk)


def new_rows(hf: PreTrainedModel, old: int, name: str, vectors: Mapping[Block, Tensor]) -> None:
    """Begin the rows from `old` on of a language model's embedding, and of its head if that is
    another table, in place. A head's bias is one more coordinate of its rows.

    vectors: of codebooks by their blocks, for `codebook`.

    Raises ValueError for an unknown name, and `normal` without a spread in the config.
    """
    check_name(name)
    spread = _spread(hf.config) if name == "normal" else 0.0
    tables: list[Any] = [hf.get_input_embeddings()]
    head: Any = hf.get_output_embeddings()
    if head is not None and head.weight is not tables[0].weight:
        tables.append(head)
    for table in tables:
        like = None
        if name in ("mean-covariance", "codebook"):
            like = Moments(table.weight[:old])
        fill_rows(table.weight, old, name, like, spread=spread)
        for block, code_vectors in vectors.items() if name == "codebook" else ():
            assert like is not None
            codes = codebook_rows(code_vectors, block.level or 0, like)
            with torch.no_grad():
                table.weight[block.start : block.start + block.size] = codes.to(table.weight)
    bias = getattr(head, "bias", None)  # of a tied head, too
    if bias is not None:
        with torch.no_grad():
            bias[old:] = 0.0 if like is None else bias[:old].float().mean()


def vectors_of(
    blocks: Iterable[Block], tokenizers: Mapping[str, MediaTokenizer | None]
) -> dict[Block, Tensor]:
    """Codebook vectors of the blocks of codes. tokenizers: by modality, None where there is none.

    Raises ValueError for a tokenizer that does not give them.
    """
    vectors_by_name = {
        f"{modality}.{level}": vectors
        for modality, tokenizer in tokenizers.items()
        if tokenizer is not None
        for level, vectors in enumerate(tokenizer.code_vectors())
    }
    return {block: vectors_by_name[block.name] for block in blocks if block.name in vectors_by_name}


def _spread(config: PreTrainedConfig) -> float:
    spread = getattr(config.get_text_config(), "initializer_range", None)
    if not isinstance(spread, int | float) or not math.isfinite(spread) or spread < 0:
        raise ValueError(
            f"the language model's config.json has initializer_range {spread!r}, expected a number;"
            " begin the new rows in another way than normal"
        )
    return float(spread)
