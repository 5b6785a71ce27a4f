"""An image tokenizer that decodes through a diffusion decoder, behind the contract of all of them.

Legend: B batch, H W pixels.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from unified_tokenizers.base import Codes, load_tokenizer, save_exactly, saved_whole
from unified_tokenizers.checks import check_image_codes
from unified_tokenizers.diffusion import MOST_STEPS, DiffusionDecoder
from unified_tokenizers.hub import HubOptions, checkpoint_folder

__all__ = ["DiffusionTokenizer"]

FOLDER = "diffusion"
"""Where a tokenizer's folder keeps its diffusion decoder."""


class DiffusionTokenizer(nn.Module):
    """An image tokenizer whose codes a diffusion decoder decodes; it encodes as it did.

    Its fingerprint is the tokenizer's: the codes mean the same, and a language model made for them
    goes on working.

    Args:
        tokenizer: any of the library's image tokenizers.
        decoder: trained for its codes.
        steps, scale, seed: of `DiffusionDecoder.decode`.

    Raises ValueError for a decoder of other codes, and for steps or a scale that it does not have.
    """

    modality = "image"

    def __init__(
        self,
        tokenizer: Any,
        decoder: DiffusionDecoder,
        steps: int = 8,
        scale: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        ours = (tuple(tokenizer.codebook_sizes), tokenizer.stride)
        theirs = (decoder.config.codebook_sizes, decoder.config.stride)
        if ours != theirs:
            raise ValueError(
                f"the diffusion decoder is for codebooks and stride {theirs}, the tokenizer has"
                f" {ours}"
            )
        if scale not in decoder.config.scales or not 1 <= steps <= MOST_STEPS:
            raise ValueError(
                f"scale {scale} and {steps} steps, expected one of {list(decoder.config.scales)}"
                f" and 1 to {MOST_STEPS}"
            )
        self.tokenizer, self.decoder = tokenizer, decoder
        self.steps, self.scale, self.seed = steps, scale, seed

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str], hub: HubOptions | None = None, **how: Any
    ) -> DiffusionTokenizer:
        """A tokenizer with the diffusion decoder in a folder of its folder.

        Args:
            name_or_path, hub: as in `load_tokenizer`.
            how: steps, scale, seed.

        Raises ValueError where there is none, and what their own loading raises.
        """
        hub = {} if hub is None else hub
        return cls.beside(name_or_path, load_tokenizer(name_or_path, **hub), hub, **how)

    @classmethod
    def beside(
        cls,
        name_or_path: str | os.PathLike[str],
        tokenizer: Any,
        hub: HubOptions | None = None,
        **how: Any,
    ) -> DiffusionTokenizer:
        """A tokenizer that was loaded already, with the diffusion decoder of its folder."""
        hub = {} if hub is None else hub
        inside: HubOptions = {**hub}
        inside["subfolder"] = "/".join(part for part in (hub.get("subfolder"), FOLDER) if part)
        path = checkpoint_folder(name_or_path, **inside)
        if not (path / "config.json").is_file():
            raise ValueError(
                f"{name_or_path} has no diffusion decoder (a folder {FOLDER!r}); train one with"
                " `unified tokenizer train`, see configs/pocket/diffusion.yaml"
            )
        decoder = DiffusionDecoder.from_pretrained(path)
        assert isinstance(decoder, DiffusionDecoder)
        return cls(tokenizer, decoder, **how)

    def save_pretrained(
        self, folder: str | os.PathLike[str], dtype: torch.dtype | None = None
    ) -> None:
        """Write the tokenizer into `folder`, exactly, and the decoder into a folder of its own.

        Args:
            dtype: store the decoder's floating-point weights in this type.
        """
        with saved_whole(folder) as path:
            save_exactly(self.tokenizer, path)
            self.decoder.save_pretrained(path / FOLDER, dtype)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""
        return self.tokenizer.codebook_sizes

    @property
    def stride(self) -> int:
        """Side in pixels of the square of an encoded picture that one code covers."""
        return self.tokenizer.stride

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the codes over pixels encoded, before entropy coding."""
        return self.tokenizer.bits_per_pixel

    @property
    def fingerprint(self) -> str:
        """The tokenizer's."""
        return self.tokenizer.fingerprint

    def encode(self, media: Tensor) -> Codes:
        """Pictures to codes, as the tokenizer has it."""
        return self.tokenizer.encode(media)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Codes to pictures: float32 (B, 3, H * scale, W * scale) in [0, 1], (H, W) = `codes.size`.

        Raises ValueError for codes out of range, of a wrong shape or of another size.
        """
        check_image_codes(codes, self.codebook_sizes, self.stride)
        decoded = None
        if self.decoder.config.see_decoded:
            whole = tuple(side * self.stride for side in codes.codes.shape[2:])
            decoded = self.tokenizer.decode(Codes(codes.codes, whole))
        return self.decoder.decode(codes, decoded, self.scale, self.steps, self.seed)
