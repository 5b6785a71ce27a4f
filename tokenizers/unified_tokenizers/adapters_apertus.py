"""The image tokenizer of Apertus 1.5: Emu3.5's IBQ (arXiv:2412.02692), 131,072 codes.

transformers has its encoder alone. With the decoder of the original checkpoint
(`decoder.conv_in...`, `post_quant_conv...`, the VQGAN's of taming-transformers) beside it, it
decodes too; Apertus' own checkpoint has none.

Legend: B batch, H W pixels, h w code grid.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from einops import rearrange
from torch import Tensor, nn

from unified_tokenizers.adapters_image import ImageCodecAdapter
from unified_tokenizers.chameleon_decoder import ChameleonDecoder
from unified_tokenizers.hub import tensors_inside
from unified_tokenizers.processors import ApertusProcessor

if TYPE_CHECKING:
    from transformers import Apertus1p5VisionTokenizerModel, PreTrainedConfig

__all__ = ["IbqAdapter"]

# Names of taming-transformers, as Emu3.5's checkpoint has them, and those of transformers' encoder.
_STAGE = re.compile(r"^encoder\.down\.(\d+)\.")
_LAYER = re.compile(r"^(encoder\.stages\.\d+)\.(block|attn)\.(\d+)\.")
_PART = {"block": "resnet", "attn": "attention"}


class IbqAdapter(ImageCodecAdapter):
    """Apertus1p5VisionTokenizerModel, alone or in an Apertus 1.5 checkpoint."""

    processor_class = ApertusProcessor
    model_class = "Apertus1p5VisionTokenizerModel"
    model_type = "apertus1p5_vision_tokenizer"
    whole_type = "apertus1p5"

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        import transformers

        config = transformers.Apertus1p5VisionTokenizerConfig.from_pretrained(
            path, local_files_only=True
        )
        inside = "vision_tokenizer" if model_type == cls.whole_type else ""
        return cls._build(config, tensors_inside(path, inside))

    @classmethod
    def _build(cls, config: PreTrainedConfig, tensors: dict[str, Tensor]) -> tuple[Any, list[str]]:
        parts: dict[str, dict[str, Tensor]] = {"decoder": {}, "post_quant_conv": {}}
        encoder = {}
        for name, tensor in tensors.items():
            part, _, inner = name.partition(".")
            if part in parts:
                parts[part][inner] = tensor
            else:
                encoder[_current_name(name)] = tensor
        model, missing = super()._build(config, encoder)
        if parts["decoder"]:
            attach_decoder(model)
            model.decoder.load_state_dict(parts["decoder"])
            model.post_quant_conv.load_state_dict(parts["post_quant_conv"])
        return model, missing

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        return self.model.config.spatial_scale_factor

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in the only codebook."""
        return (self.model.config.codebook_size,)

    def _to_codes(self, pixels_BCHW: Tensor) -> Tensor:
        return self.model.encode(pixels_BCHW).image_tokens

    @property
    def cannot_decode(self) -> str | None:
        """Why codes cannot be decoded; None where they can."""
        if hasattr(self.model, "decoder"):
            return None
        return (
            "transformers has no decoder for Apertus 1.5's image codes, and this checkpoint holds"
            " no decoder.* tensors: it can only encode; convert Emu3.5's vision tokenizer with"
            " `unified tokenizer convert` and name it as the image tokenizer"
        )

    def _to_pixels(self, codes_BHW: Tensor) -> Tensor:
        if self.cannot_decode is not None:
            raise ValueError(self.cannot_decode)
        vectors = self.model.quantize.embedding.weight[codes_BHW]
        latents = self.model.post_quant_conv(rearrange(vectors, "b h w d -> b d h w"))
        return self.model.decoder(latents)


def _current_name(name: str) -> str:
    name = _STAGE.sub(r"encoder.stages.\1.", name)
    return _LAYER.sub(lambda match: f"{match[1]}.layers.{match[3]}.{_PART[match[2]]}.", name)


def attach_decoder(model: Apertus1p5VisionTokenizerModel) -> None:
    """Give an Apertus1p5VisionTokenizerModel the decoder and `post_quant_conv` of its original."""
    config = model.config
    shape = SimpleNamespace(
        base_channels=config.base_channels, channel_multiplier=config.channel_multiplier,
        num_res_blocks=config.num_res_blocks, attn_resolutions=config.attn_resolutions,
        resolution=config.resolution, latent_channels=config.latent_channels,
        in_channels=config.in_channels, attn_type="vanilla",
    )  # fmt: skip
    model.decoder = ChameleonDecoder(shape)
    model.post_quant_conv = nn.Conv2d(config.embed_dim, config.latent_channels, 1)
