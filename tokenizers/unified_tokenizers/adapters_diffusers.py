"""VQModel of diffusers as a tokenizer.

Legend: B batch, H W pixels, h w code grid.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unified_base.safetensors_files import check_weights
from unified_tokenizers.adapters_image import ImageCodecAdapter
from unified_tokenizers.foreign_model import check_size
from unified_tokenizers.saved import saved_whole

__all__ = ["VqModelAdapter"]


class VqModelAdapter(ImageCodecAdapter):
    """VQModel of diffusers: the VQGAN of taming-transformers, LlamaGen's kind of tokenizer.

    Its `decode` takes ids only where its configuration says `lookup_from_codebook`, and quantizes
    again whatever else it gets; here the codes' vectors go in as they are, in both cases.
    """

    model_class = "VQModel"
    model_type = "VQModel"

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        from diffusers import VQModel

        numbers = check_weights(path, "diffusion_pytorch_model.safetensors", "model.safetensors")
        entries = VQModel.load_config(path, local_files_only=True)
        check_size(lambda: VQModel.from_config(dict(entries)), numbers, str(path))
        # diffusers fills what is missing with random numbers too, and says so in the report alone.
        model, report = VQModel.from_pretrained(
            path, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32,
            low_cpu_mem_usage=False, output_loading_info=True,
        )  # fmt: skip
        return model, list(report["missing_keys"])

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config.json and the weights as diffusers does, and our settings beside them."""
        with saved_whole(folder) as path:
            self.model.save_pretrained(path)
            self.save_settings(path)

    def _config_entries(self) -> dict[str, Any]:
        return dict(self.model.config)

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in the only codebook."""
        return (self.model.quantize.n_e,)

    def _to_codes(self, pixels_BCHW: Tensor) -> Tensor:
        latents = self.model.encode(pixels_BCHW).latents
        codes = self.model.quantize(latents)[2][2]
        return codes.view(len(latents), *latents.shape[2:])

    def _to_pixels(self, codes_BHW: Tensor) -> Tensor:
        shape = (*codes_BHW.shape, self.model.quantize.vq_embed_dim)
        if self.model.config.lookup_from_codebook:
            decoded = self.model.decode(codes_BHW.flatten(), force_not_quantize=True, shape=shape)
        else:
            vectors = self.model.quantize.get_codebook_entry(codes_BHW.flatten(), shape)
            decoded = self.model.decode(vectors, force_not_quantize=True)
        return decoded.sample
