"""What a step of a diffusion decoder's training sees; see `training_media` for tokenizers.

Legend: B batch, H W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unified_base.training.metric_logger import MetricLogger
from unified_base.training.precision import autocast
from unified_tokenizers.alignment import Alignment
from unified_tokenizers.base import Codes
from unified_tokenizers.diffusion import DiffusionDecoder
from unified_tokenizers.diffusion_tokenizer import DiffusionTokenizer
from unified_tokenizers.loading import load_tokenizer
from unified_tokenizers.training_media import CPU, Batch, PictureData, mean_psnr, show_pairs
from unified_tokenizers.training_pictures import Say

if TYPE_CHECKING:
    from unified_tokenizers.training_config import TokenizerTraining

__all__ = ["DiffusionData"]

_HELD = 64


class DiffusionData:
    """Pictures, and what the tokenizer in `init_from` makes of them.

    Pictures are of the largest of the decoder's scales; the tokenizer sees them at its own. The
    scales take turns, step by step.
    """

    alignment: Alignment | None = None  # its tokenizer's codes stay what they are

    def __init__(self, config: TokenizerTraining, say: Say, device: torch.device = CPU) -> None:
        self.device, self._precision = device, config.precision
        assert config.diffusion is not None
        assert config.init_from is not None
        self.tokenizer = load_tokenizer(config.init_from, "image").to(device)
        settings = {
            "codebook_sizes": list(self.tokenizer.codebook_sizes),
            "stride": self.tokenizer.stride,
            **config.diffusion,
        }
        self.model = DiffusionDecoder(DiffusionDecoder.parse_config(settings, "diffusion"))
        self.scales = self.model.config.scales
        # One code stands for a square of the stride, at the largest of the scales.
        multiple = self.tokenizer.stride * max(self.scales)
        self.data = PictureData(config, multiple, _HELD, say)

    def _at(self, pictures_BCHW: Tensor, scale: int) -> Tensor:
        """Pictures of the largest scale at another one: means of squares of pixels."""
        ratio = max(self.scales) // scale
        return F.avg_pool2d(pictures_BCHW, ratio) if ratio > 1 else pictures_BCHW

    def _seen(self, pictures_BCHW: Tensor) -> tuple[Codes, Tensor | None]:
        """Their codes, and what the tokenizer decodes of them where the decoder looks at it."""
        with torch.no_grad():
            codes = self.tokenizer.encode(self._at(pictures_BCHW, 1))
            looks = self.model.config.see_decoded
            return codes, self.tokenizer.decode(codes) if looks else None

    def batch(self, model: nn.Module, step: int, rank: int = 0, world: int = 1) -> Batch:
        """A process's items of a step through a model."""
        assert isinstance(model, DiffusionDecoder)
        scale = self.scales[step % len(self.scales)]
        pictures, _ = self.data.batch(step, rank, world)
        whole = torch.from_numpy(pictures).to(self.device).movedim(3, 1).float() / 255
        codes, decoded = self._seen(whole)
        target = self._at(whole, scale)
        with autocast(self.device.type, self._precision):
            loss = model.loss(target, codes.codes, decoded)
        return Batch(loss, codes.codes, target, target)

    def evaluate(self, model: nn.Module, logger: MetricLogger, step: int) -> dict[str, float]:
        """PSNR of one step and of eight on validation pictures; the log gets some of them."""
        assert isinstance(model, DiffusionDecoder)
        sums: dict[str, float] = {}
        for index, (pictures, _) in enumerate(self.data.held):
            whole = torch.from_numpy(pictures).to(self.device).movedim(3, 1).float() / 255
            codes, decoded = self._seen(whole)
            for scale in self.scales:
                target = self._at(whole, scale)
                for steps in (1, 8):
                    reconstructed = model.decode(codes, decoded, scale, steps)
                    name = f"psnr_db_x{scale}_{steps}_steps"
                    sums[name] = sums.get(name, 0.0) + mean_psnr(reconstructed, target) * len(
                        target
                    )
                if index == 0:
                    name = f"validation/x{scale}_original_above_8_steps"
                    show_pairs(logger, name, target, reconstructed, step)
        number = sum(len(pictures) for pictures, _ in self.data.held)
        return {name: total / number for name, total in sums.items()}

    def save(self, model: nn.Module, folder: Path, dtype: torch.dtype) -> None:
        """Write the tokenizer, as it is, with the decoder in its folder."""
        assert isinstance(model, DiffusionDecoder)
        DiffusionTokenizer(self.tokenizer, model).save_pretrained(folder, dtype)
