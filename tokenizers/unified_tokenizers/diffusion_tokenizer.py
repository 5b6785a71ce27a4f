"""An image tokenizer that decodes through a diffusion decoder, behind the contract of all of them.

Legend: B batch, H W pixels.
"""

from __future__ import annotations

import os
from typing import Self

import numpy as np
import torch
from torch import Tensor

from unified_tokenizers.base import Codes, ImageTokenizer
from unified_tokenizers.checks import check_image_codes
from unified_tokenizers.diffusion import MOST_STEPS, DiffusionDecoder
from unified_tokenizers.hub import HubOptions, checkpoint_folder
from unified_tokenizers.loading import load_tokenizer
from unified_tokenizers.modules import BaseImageTokenizer
from unified_tokenizers.saved import save_exactly, saved_whole

__all__ = ["DiffusionTokenizer"]

FOLDER = "diffusion"
"""Where a tokenizer's folder keeps its diffusion decoder."""


class DiffusionTokenizer(BaseImageTokenizer):
    """An image tokenizer whose codes a diffusion decoder decodes; it encodes as it did.

    Its fingerprint is the tokenizer's: the codes mean the same, and a language model made for them
    goes on working.

    Args:
        tokenizer: any of the library's image tokenizers.
        decoder: trained for its codes.
        steps: as in `DiffusionDecoder.decode`.
        scale: as there.
        seed: as there.

    Raises ValueError for a decoder of other codes, and for steps or a scale that it does not have.
    """

    def __init__(
        self,
        tokenizer: ImageTokenizer,
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
        cls, name_or_path: str | os.PathLike[str], hub: HubOptions | None = None, **settings: int
    ) -> Self:
        """A tokenizer with the diffusion decoder in a folder of its folder.

        Args:
            name_or_path: as in `load_tokenizer`.
            hub: as in `load_tokenizer`.
            settings: steps, scale, seed.

        Raises ValueError where there is none, and what their own loading raises.
        """
        hub = {} if hub is None else hub
        tokenizer = load_tokenizer(name_or_path, "image", **hub)
        return cls.beside(name_or_path, tokenizer, hub, **settings)

    @classmethod
    def beside(
        cls,
        name_or_path: str | os.PathLike[str],
        tokenizer: ImageTokenizer,
        hub: HubOptions | None = None,
        **settings: int,
    ) -> Self:
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
        return cls(tokenizer, decoder, **settings)

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

    def to(  # type: ignore[override]
        self,
        device: torch.device | str | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """As every tokenizer's; the inner tokenizer goes along."""
        super().to(device, dtype)
        self.tokenizer.to(device, dtype)
        return self

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in each of the K codebooks."""
        return self.tokenizer.codebook_sizes

    @property
    def stride(self) -> int:
        """Side in pixels of the square of an encoded picture that one code covers."""
        return self.tokenizer.stride

    @property
    def fingerprint(self) -> str:
        """The tokenizer's."""
        return self.tokenizer.fingerprint

    @property
    def cannot_decode(self) -> str | None:
        """The tokenizer's reason, where the diffusion decoder looks at what it decodes."""
        if not self.decoder.config.see_decoded:
            return None
        return getattr(self.tokenizer, "cannot_decode", None)

    def code_vectors(self) -> tuple[Tensor, ...]:
        """The tokenizer's."""
        return self.tokenizer.code_vectors()

    def preprocess(self, pixels: np.ndarray) -> np.ndarray:
        """As the tokenizer's."""
        return self.tokenizer.preprocess(pixels)

    def preprocessed_size(self, height: int, width: int) -> tuple[int, int]:
        """As the tokenizer's."""
        return self.tokenizer.preprocessed_size(height, width)

    def encode(self, media: Tensor) -> Codes:
        """Pictures to codes, as the tokenizer has it."""
        return self.tokenizer.encode(media)

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Codes to pictures: float32 (B, 3, H * scale, W * scale) in [0, 1], (H, W) = `codes.size`.

        Raises ValueError for codes out of range, of a wrong shape or of another size.
        """
        check_image_codes(codes, self.codebook_sizes, self.stride)
        here = Codes(codes.codes.to(self.device), codes.size)
        decoded = None
        if self.decoder.config.see_decoded:
            whole = tuple(side * self.stride for side in codes.codes.shape[2:])
            decoded = self.tokenizer.decode(Codes(here.codes, whole))
        pixels = self.decoder.decode(
            here, decoded, self.scale, self.steps, self.seed, self.decode_dtype
        )
        return pixels.float().to(codes.codes.device)
