"""An untrained model of the world of free scenes, with its tasks, its plug-in and its subjects."""

from pathlib import Path

import torch
from small_together import together_model

from unified.engine.request import Sampling
from unified.world.world_plugin import save_subjects
from unified.world.world_tasks import world_tasks
from unified_tokenizers.diffusion import DiffusionConfig, DiffusionDecoder


def save_world_model(folder: Path) -> Path:
    """The folder of a model that is asked as models of the world are; 4x4 places a picture."""
    model = together_model("depth")
    model.tasks, model.plugin = world_tasks(), "world"
    model.sampling = Sampling(max_ids=250, max_text_ids=12, max_audio_frames=3)
    model.save_pretrained(folder)
    save_subjects(folder)
    return folder


def save_world_diffusion(folder: Path) -> None:
    """Lay an untrained diffusion decoder beside the image tokenizer of such a model."""
    torch.manual_seed(2)
    sizes = DiffusionConfig((6, 6), 24, scales=(1, 2), patch=12, widths=(32, 32), code_width=4)
    DiffusionDecoder(sizes).save_pretrained(folder / "image_tokenizer" / "diffusion")
