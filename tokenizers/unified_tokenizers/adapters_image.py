"""Pretrained VQ image models as tokenizers: Emu3, Chameleon, Janus, and Emu3.5's as Apertus has it.

Legend: B batch, H W pixels, h w code grid.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from unified_base.text import quoted
from unified_tokenizers.adapters import CodecAdapter
from unified_tokenizers.base import Codes
from unified_tokenizers.chameleon_decoder import ChameleonDecoder
from unified_tokenizers.checks import check_image_codes, check_pixels
from unified_tokenizers.foreign_model import build_model
from unified_tokenizers.hub import tensors_inside
from unified_tokenizers.modules import BaseImageTokenizer
from unified_tokenizers.processors import (
    ChameleonProcessor,
    Emu3Processor,
    JanusProcessor,
    PictureProcessor,
)
from unified_tokenizers.saved_config import read_entries

if TYPE_CHECKING:
    from transformers import ChameleonVQVAEConfig, PreTrainedConfig

__all__ = [
    "ChameleonAdapter",
    "Emu3Adapter",
    "ImageCodecAdapter",
    "JanusAdapter",
]


class ImageCodecAdapter(CodecAdapter, BaseImageTokenizer):
    """Pictures to (B, 1, h, w) codes, one for every `stride` x `stride` pixels.

    The model sees (byte * rescale_factor - image_mean) / image_std of what `preprocess` returns.
    `from_pretrained` takes all settings from the preprocessor_config.json beside the weights where
    there is one.

    Args:
        model: the loaded model; it is turned to float32 and evaluation mode.
        image_mean, image_std: one number for each of red, green, blue.
        rescale_factor: of bytes, 0 to 255.
        preprocessing: settings of the published processor, see `processors`; its defaults if left
            out.

    Raises:
        ValueError: a model of another class, not three numbers, or settings that cannot be.
    """

    processor_class: type[PictureProcessor] | None = None
    """Of what `preprocess` does; None where no processor was published."""

    # [-1, 1], which `Emu3ImageProcessor.postprocess` names as the range of what the model gives.
    # The class defaults of the image processors of Emu3 and Janus are CLIP's mean and deviation
    # instead, inherited from the processors they are made of: right for CLIP-like encoders only.
    default_normalization: tuple[float, float, float] = (0.5, 0.5, 1 / 255)

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        rescale_factor: float | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model)
        mean, std, factor = self.default_normalization
        image_mean = [mean] * 3 if image_mean is None else list(image_mean)
        image_std = [std] * 3 if image_std is None else list(image_std)
        for name, values in (("image_mean", image_mean), ("image_std", image_std)):
            if len(values) != 3:
                raise ValueError(f"{name} is {values}, expected three numbers")
        self.rescale_factor = factor if rescale_factor is None else rescale_factor
        shape = (1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(image_mean).view(shape), persistent=False)
        self.register_buffer("std", torch.tensor(image_std).view(shape), persistent=False)
        self.settings = {
            "image_mean": image_mean,
            "image_std": image_std,
            "rescale_factor": self.rescale_factor,
        }
        self.processor = None
        if self.processor_class is not None:
            entries = {"image_mean": image_mean, **(preprocessing or {})}
            self.processor = self.processor_class.from_entries(entries, "preprocessing")
            self.settings["preprocessing"] = self.processor.to_entries()

    @classmethod
    def _load(cls, path: Path, model_type: str) -> tuple[Any, list[str]]:
        import transformers

        # Of a whole checkpoint it reads the part of its VQ model, as `tensors_inside` does.
        config = getattr(transformers, f"{cls.model_class}Config").from_pretrained(
            path, local_files_only=True
        )
        inside = "vqmodel" if model_type == cls.whole_type else ""
        return cls._build(config, tensors_inside(path, inside))

    @classmethod
    def _build(cls, config: PreTrainedConfig, tensors: dict[str, Tensor]) -> tuple[Any, list[str]]:
        """The model with these weights, and the names of those that it lacks."""
        import transformers

        return build_model(getattr(transformers, cls.model_class), config, tensors)

    @classmethod
    def stored_settings(cls, folder: Path) -> dict[str, Any]:
        """Ours if `save_pretrained` wrote `folder`, else those of its image processor."""
        if stored := super().stored_settings(folder):
            return stored
        for name in ("preprocessor_config.json", "processor_config.json"):
            if (folder / name).exists():
                entries = read_entries(folder / name, "codec")
                entries = entries.get("image_processor", entries)
                if not isinstance(entries, dict):
                    raise ValueError(f"{folder / name}: image_processor is {quoted(entries)}")
                return cls._processor_settings(entries, str(folder / name))
        return {}

    @classmethod
    def _processor_settings(cls, entries: dict[str, Any], where: str) -> dict[str, Any]:
        """Constructor arguments from the entries of an image processor of transformers."""
        settings = {
            key: entries[key]
            for key in ("image_mean", "image_std", "rescale_factor")
            if entries.get(key) is not None
        }
        for key in ("image_mean", "image_std"):
            if isinstance(settings.get(key), int | float):  # one number for all channels
                settings[key] = [settings[key]] * 3
        if entries.get("do_normalize") is False:
            settings |= {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
        if entries.get("do_rescale") is False:
            settings["rescale_factor"] = 1.0
        if cls.processor_class is not None:
            settings["preprocessing"] = cls.processor_class.from_entries(
                entries, where
            ).to_entries()
        return settings

    def fingerprint_settings(self) -> dict[str, Any]:
        """Of the settings those of normalisation: how pictures are resized changes no code."""
        return {key: value for key, value in self.settings.items() if key != "preprocessing"}

    def preprocess(self, pixels: np.ndarray) -> np.ndarray:
        """A picture as the published processor resizes, crops and pads it: uint8 (H, W, 3) both.

        Raises ValueError as `processors.PictureProcessor`.
        """
        return pixels if self.processor is None else self.processor(pixels)

    def preprocessed_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what `preprocess` returns."""
        return (height, width) if self.processor is None else self.processor.size(height, width)

    def _normalized(self, media: Tensor) -> Tensor:
        """Pictures as the model sees them, float32; of bytes with the processor's own arithmetic,
        float64 until rescaled, so that no code flips by rounding."""
        pixels = check_pixels(media)
        if media.dtype == torch.uint8:
            scaled = (media.to(self.device).double() * self.rescale_factor).float()
        else:
            scaled = pixels.to(self.device) * (255 * self.rescale_factor)
        return (scaled - self.mean) / self.std

    @abstractmethod
    def _to_codes(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pictures, sides multiples of `stride`, to codes (B, h, w)."""

    @abstractmethod
    def _to_pixels(self, codes_BHW: Tensor) -> Tensor:
        """Codes to normalised pictures (B, 3, h * stride, w * stride)."""

    def _check_size(self, size: tuple[int, ...]) -> None:
        """Refuse pictures that the model has no grid for."""

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one code covers."""
        # All three halve the sides between two stages.
        return 2 ** (len(self.model.config.channel_multiplier) - 1)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes in the only codebook."""
        return (self.model.quantize.embedding.num_embeddings,)

    def values_of(self, codes_TK: Tensor) -> Tensor:
        """Codes of the only codebook, int64 (T, 1), to their vectors (T, D)."""
        return self.model.quantize.embedding.weight[codes_TK[:, 0]]

    @torch.no_grad()
    def encode(self, media: Tensor) -> Codes:
        """Pictures to codes.

        Args:
            media: (B, 3, H, W), uint8, or floating point in [0, 1]. Sides need not be multiples
                of `stride`: the last row and column are repeated for encoding, and `decode` cuts
                them off again.

        Returns:
            Codes with int64 codes (B, 1, ceil(H / stride), ceil(W / stride)).

        Raises:
            ValueError: another shape or dtype, an empty picture, values outside [0, 1], values
                that are not finite, or a size that the model has no grid for.
        """
        pixels = self._normalized(media)
        height, width = pixels.shape[2:]
        self._check_size((height, width))
        pad = (0, -width % self.stride, 0, -height % self.stride)
        pixels = F.pad(pixels, pad, mode="replicate")
        with self.encode_precision():
            codes = self._to_codes(pixels)
        return Codes(codes[:, None].long().contiguous().to(media.device), (height, width))

    @torch.no_grad()
    def decode(self, codes: Codes) -> Tensor:
        """Codes to pictures: float32 (B, 3, *codes.size) in [0, 1].

        Raises:
            ValueError: codes out of range or of a wrong shape, a size that does not belong to the
                grid, or a model without a decoder.
        """
        check_image_codes(codes, self.codebook_sizes, self.stride)
        self._check_size(codes.size)
        with self.decode_precision():
            pixels = self._to_pixels(codes.codes[:, 0].to(self.device)).float()
        pixels = (pixels * self.std + self.mean) / (255 * self.rescale_factor)
        pixels = pixels.clamp(0, 1)
        pixels = pixels[:, :, : codes.size[0], : codes.size[1]]
        return pixels.to(codes.codes.device).contiguous()


class Emu3Adapter(ImageCodecAdapter):
    """Emu3VQVAE, alone or in an Emu3 checkpoint.

    It is a model for videos: its own code repeats a picture to `temporal_downsample_factor` frames,
    which give one grid of codes, and keeps the first of the frames that the grid decodes to.
    """

    processor_class = Emu3Processor
    model_class = "Emu3VQVAE"
    model_type = "emu3_vqgan"
    whole_type = "emu3"

    def _to_codes(self, pixels_BCHW: Tensor) -> Tensor:
        sizes = torch.tensor([pixels_BCHW.shape[2:]] * len(pixels_BCHW))
        # A list, since the sizes might differ; here they do not.
        return torch.stack(list(self.model.encode(pixels_BCHW, sizes).image_tokens))

    def _to_pixels(self, codes_BHW: Tensor) -> Tensor:
        return self.model.decode(codes_BHW)


class ChameleonAdapter(ImageCodecAdapter):
    """ChameleonVQVAE, alone or in a checkpoint of Chameleon, Anole or Lumina-mGPT.

    transformers has its encoder only. Where the checkpoint holds a decoder too (`decoder.conv_in`
    and so on, as the original has it) ours takes it, as `model.decoder`, and saves it along.
    """

    processor_class = ChameleonProcessor
    model_class = "ChameleonVQVAE"
    model_type = "chameleon_vqgan"
    whole_type = "chameleon"
    # Defaults of `ChameleonImageProcessor`: byte * 0.0078 - 1, so white is 0.989.
    default_normalization = (1.0, 1.0, 0.0078)

    def _to_codes(self, pixels_BCHW: Tensor) -> Tensor:
        height = pixels_BCHW.shape[2] // self.stride
        tokens = self.model.encode(pixels_BCHW).image_tokens
        return rearrange(tokens, "(b h w) -> b h w", b=len(pixels_BCHW), h=height)

    @classmethod
    def _build(cls, config: PreTrainedConfig, tensors: dict[str, Tensor]) -> tuple[Any, list[str]]:
        names = [name for name in tensors if name.startswith("decoder.")]
        decoder = {name.removeprefix("decoder."): tensors.pop(name) for name in names}
        model, missing = super()._build(config, tensors)
        if decoder:
            model.decoder = ChameleonDecoder(cast("ChameleonVQVAEConfig", config))
            model.decoder.load_state_dict(decoder)
        return model, missing

    @property
    def cannot_decode(self) -> str | None:
        """Why codes cannot be decoded; None where they can."""
        if hasattr(self.model, "decoder"):
            return None
        return (
            "transformers has no decoder for ChameleonVQVAE, and this checkpoint holds no"
            " decoder.* tensors: it can only encode; take one that has them, such as Anole's"
        )

    def _to_pixels(self, codes_BHW: Tensor) -> Tensor:
        if self.cannot_decode is not None:
            raise ValueError(self.cannot_decode)
        vectors = self.model.quantize.embedding(codes_BHW)
        latents = self.model.post_quant_conv(rearrange(vectors, "b h w d -> b d h w"))
        return self.model.decoder(latents)


class JanusAdapter(ImageCodecAdapter):
    """JanusVQVAE, alone or in a Janus checkpoint: square pictures of one size."""

    processor_class = JanusProcessor
    model_class = "JanusVQVAE"
    model_type = "janus_vqgan"
    whole_type = "janus"

    def _check_size(self, size: tuple[int, ...]) -> None:
        side = self.model.config.num_patches * self.stride
        if size != (side, side):
            raise ValueError(
                f"a picture of {size[0]} x {size[1]} pixels does not fit the fixed grid of this"
                f" JanusVQVAE, expected {side} x {side}"
            )

    def _to_codes(self, pixels_BCHW: Tensor) -> Tensor:
        height = pixels_BCHW.shape[2] // self.stride
        tokens = self.model.encode(pixels_BCHW).image_tokens
        return rearrange(tokens, "(b h w) -> b h w", b=len(pixels_BCHW), h=height)

    def _to_pixels(self, codes_BHW: Tensor) -> Tensor:
        return self.model.decode(codes_BHW.flatten(1))
