"""GLM-Image's codes of pictures: its vision transformer and VQ model, one of 16,384 for a patch.

They stand in the checkpoint of the language model (zai-org/GLM-Image, subfolder
`vision_language_encoder`), of which they alone are read. No decoder of codes was published: what
the language model writes conditions a diffusion transformer, so this one can only encode.

Legend: B batch, H W pixels, h w code grid, D width.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor, nn

from unified_tokenizers.adapters_image import ImageCodecAdapter
from unified_tokenizers.foreign_model import build_model
from unified_tokenizers.hub import tensors_inside
from unified_tokenizers.processors_glm import GlmImageProcessor
from unified_tokenizers.saved import saved_whole

__all__ = ["GlmImageAdapter", "GlmImageEncoder"]


class GlmImageEncoder(nn.Module):
    """A GlmImageVisionModel as `visual` and a GlmImageVQVAE as `vqmodel`, by the names that they
    have in a GlmImageModel."""

    visual: Any
    vqmodel: Any

    def __init__(self, visual: nn.Module, vqmodel: nn.Module) -> None:
        super().__init__()
        self.visual, self.vqmodel = visual, vqmodel

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pictures, sides multiples of the patch, to codes int64 (B, h, w)."""
        patch = self.visual.config.patch_size
        height, width = (side // patch for side in pixels_BCHW.shape[2:])
        grid = torch.tensor([[1, height, width]] * len(pixels_BCHW), device=pixels_BCHW.device)
        patches = rearrange(
            pixels_BCHW, "b c (h p) (w q) -> (b h w) (c p q)", p=patch, q=patch
        )  # (B * h * w, C * patch * patch)
        states = self.visual(patches, grid_thw=grid, return_dict=True).pooler_output
        states = rearrange(states, "(b h w) d -> b d h w", h=height, w=width)
        # One by one, as the model does: distances to all codes take h * w * 16,384 numbers each.
        codes = [self.vqmodel.encode(states_DHW[None]).image_tokens for states_DHW in states]
        return torch.stack(codes).view(len(codes), height, width)


class GlmImageAdapter(ImageCodecAdapter):
    """`GlmImageEncoder` of a GLM-Image checkpoint."""

    processor_class = GlmImageProcessor
    model_class = "GlmImageEncoder"
    model_type = "glm_image"

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        import transformers

        config = transformers.GlmImageConfig.from_pretrained(path, local_files_only=True)
        parts, missing = [], []
        classes: tuple[tuple[str, Any, Any], ...] = (
            ("visual", transformers.GlmImageVisionModel, config.vision_config),
            ("vqmodel", transformers.GlmImageVQVAE, config.vq_config),
        )
        for name, kind, inner in classes:
            part, lacking = build_model(kind, inner, tensors_inside(path, name))
            parts.append(part)
            missing += [f"{name}.{tensor}" for tensor in lacking]
        return GlmImageEncoder(*parts), missing

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the two models as they lie in a GLM-Image checkpoint, and our settings beside."""
        state = {f"model.{k}": value.contiguous() for k, value in self.model.state_dict().items()}
        with saved_whole(folder) as path:
            save_file(state, path / "model.safetensors", {"format": "pt"})
            config = {"model_type": self.model_type, **self._config_entries()}
            (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
            self.save_settings(path)

    def _config_entries(self) -> dict[str, Any]:
        return {
            "vision_config": self.model.visual.config.to_diff_dict(),
            "vq_config": self.model.vqmodel.config.to_diff_dict(),
        }

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return self.model.visual.config.patch_size

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in the only codebook."""
        return (self.model.vqmodel.config.num_embeddings,)

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of the only codebook, int64 (T, 1), to their vectors (T, D), of length 1."""
        vectors = self.model.vqmodel.quantize.embedding.weight
        return nn.functional.normalize(vectors, dim=-1)[codes_TK[:, 0]]

    @property
    def cannot_decode(self) -> str:
        """Why codes cannot be decoded."""
        return (
            "GLM-Image was published without a decoder of its codes, which condition a diffusion"
            " transformer: it can only encode"
        )

    def _to_codes(self, pixels_BCHW: Tensor) -> Tensor:
        return self.model(pixels_BCHW)

    def _to_pixels(self, codes_BHW: Tensor) -> Tensor:
        raise ValueError(self.cannot_decode)
