"""What the codes of a tokenizer stand for: the vector of every code, as its decoder gets it.

Legend: K codebooks, C codes of one, T frames, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unified_tokenizers.quantizers import Quantizer

__all__ = ["code_vectors"]


@torch.no_grad()
def code_vectors(tokenizer: Any) -> tuple[Tensor, ...]:
    """The vectors of every codebook's codes: K tensors, float32 (C, D), each with mean 0.

    Decoders add up the vectors of residual codebooks, and of groups put them side by side, so that
    a code adds the same whatever the other codebooks say: that is its vector.

    Raises ValueError for a tokenizer that does not give the vectors of its codes.
    """
    sizes = tuple(int(size) for size in tokenizer.codebook_sizes)
    found = []
    for level, size in enumerate(sizes):
        codes = torch.zeros(size, len(sizes), dtype=torch.int64)
        codes[:, level] = torch.arange(size)
        values = _values(tokenizer, codes).float().cpu()
        found.append(values - values.mean(0))
    return tuple(found)


def _values(tokenizer: Any, codes_TK: Tensor) -> Tensor:
    """Codes of all codebooks to what the decoder gets: (T, D)."""
    from unified_tokenizers.adapters_audio import AudioCodecAdapter
    from unified_tokenizers.adapters_image import ImageCodecAdapter
    from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer

    if isinstance(tokenizer, DiffusionTokenizer):
        return _values(tokenizer.tokenizer, codes_TK)
    quantizer = getattr(tokenizer, "quantizer", None)
    if isinstance(quantizer, Quantizer):
        device = next(tokenizer.parameters()).device
        return quantizer.values_of(codes_TK[None].to(device))[0]
    if isinstance(tokenizer, ImageCodecAdapter):
        weight: Tensor = tokenizer.model.quantize.embedding.weight
        return weight[codes_TK[:, 0].to(weight.device)]
    if isinstance(tokenizer, AudioCodecAdapter):
        residual = tokenizer.model.quantizer
        codes = codes_TK.to(tokenizer.model.device)
        if tokenizer.model_type == "dac":
            return residual.from_codes(codes.T[None])[0][0].T
        # EnCodec and X-Codec have the codebooks first, Mimi the batch.
        order = codes.T[None] if tokenizer.model_type == "mimi" else codes.T[:, None]
        return residual.decode(order)[0].T
    raise ValueError(
        f"a {type(tokenizer).__name__} does not give the vectors of its codes; begin the new rows"
        " in another way than codebook"
    )
