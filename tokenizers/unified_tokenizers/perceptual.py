"""LPIPS, a perceptual distance of pictures, for those who have its weights on their disk.

Zhang et al., arXiv:1801.03924: features of VGG16 at five depths, every place's scaled to length 1,
their squared differences weighed channel by channel. Nothing is ever downloaded.

Legend: B batch, H W pixels.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from unified_base.files import regular

__all__ = ["LPIPS_FILE", "Lpips"]

LPIPS_FILE = "UNIFIED_LPIPS"
"""The environment variable that says where the weights are."""

# VGG16 until its thirteenth convolution: widths of the five stages, and convolutions in each.
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class Lpips(nn.Module):
    """The distance of pictures (B, 3, H, W) near [0, 1], a scalar: the mean over the batch.

    Parameters have the names of the original (`net.slice1.0.weight`, `lin0.model.1.weight`):
    `save_file(lpips.LPIPS(net="vgg").state_dict(), FILE)` makes the file that `load` reads, and the
    distances are the original's.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Module()
        number, before = 0, 3
        for stage, (width, depth) in enumerate(_STAGES, start=1):
            # The original numbers its layers through: convolutions, ReLUs and poolings.
            layers: dict[str, nn.Module] = {}
            if stage > 1:
                layers[str(number)] = nn.MaxPool2d(2)
                number += 1
            for _ in range(depth):
                layers[str(number)] = nn.Conv2d(before, width, 3, padding=1)
                layers[str(number + 1)] = nn.ReLU()
                number, before = number + 2, width
            slice_ = nn.Sequential()
            for name, layer in layers.items():
                slice_.add_module(name, layer)
            self.net.add_module(f"slice{stage}", slice_)
            weigh = nn.Module()
            weigh.model = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))
            self.add_module(f"lin{stage - 1}", weigh)
        # Of pictures in [-1, 1], which VGG's own normalisation makes these.
        self.register_buffer(
            "shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), False
        )
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), False)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls) -> Lpips:
        """With the weights in the safetensors file that the environment's `UNIFIED_LPIPS` names.

        Raises ValueError where it names none, or one that holds something else.
        """
        file = os.environ.get(LPIPS_FILE)
        if not file or not Path(file).is_file():
            raise ValueError(
                f"the loss lpips needs weights on this disk: {LPIPS_FILE} is {file!r}, expected a"
                " safetensors file with the state of lpips.LPIPS(net='vgg')"
            )
        perceptual = cls()
        try:
            tensors = load_file(regular(file, "weights"))
            perceptual.load_state_dict({k: v for k, v in tensors.items() if _kept(k)})
        except (OSError, RuntimeError, SafetensorError) as error:
            summary = " ".join(str(error).split())[:300]
            raise ValueError(f"{file} does not hold the weights of LPIPS: {summary}") from None
        return perceptual

    def train(self, mode: bool = True) -> Lpips:
        """Stays in evaluation mode: it is frozen."""
        return super().train(False)

    def forward(self, predicted_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
        pair = torch.cat([predicted_BCHW, target_BCHW]).float() * 2 - 1
        x, total = (pair - self.shift) / self.scale, pair.new_zeros(())
        for stage in range(len(_STAGES)):
            x = self.net.get_submodule(f"slice{stage + 1}")(x)
            predicted, wanted = F.normalize(x, dim=1, eps=1e-10).chunk(2)
            weigh = self.get_submodule(f"lin{stage}.model.1")
            total = total + weigh((predicted - wanted).square()).mean()
        return total


def _kept(name: str) -> bool:
    """Beside the weights the original saves its normalisation, and `lins`, its `lin`s once more."""
    return not name.startswith(("scaling_layer.", "lins."))
