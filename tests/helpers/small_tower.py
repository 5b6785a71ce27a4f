"""A tower small enough for tests: squares of three colours, and what is said of them."""

from dataclasses import replace

import numpy as np
import torch

from unified.matching.tower import Tower
from unified.matching.tower_config import TowerTraining
from unified.matching.tower_files import make_parts
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified_base.images import save_png
from unified_tokenizers.training_config import TokenizerOptimizer, TokenizerSchedule

COLOURS = {"red": (210, 30, 30), "green": (30, 170, 30), "blue": (30, 30, 210)}
TEXT = {
    "model_type": "clip_text_model", "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip
LEVIT = {
    "model_type": "levit", "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 2, 2],
    "depths": [1, 1, 1], "key_dim": [8, 8, 8], "attention_ratio": [1, 1, 1], "mlp_ratio": [1, 1, 1],
}  # fmt: skip
VISION = {
    "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "patch_size": 8,
}  # fmt: skip
ENTRIES = {
    "clip": {"model_type": "clip", "projection_dim": 12, "vision_config": VISION,
             "text_config": {**TEXT, "model_type": "clip_text_model"}},
    "siglip": {"model_type": "siglip", "vision_config": VISION,
               "text_config": {**TEXT, "model_type": "siglip_text_model", "hidden_size": 24}},
    "vision-text-dual-encoder": {"model_type": "vision-text-dual-encoder", "projection_dim": 12,
                                 "vision_config": LEVIT, "text_config": TEXT},
}  # fmt: skip


def square(name: str, seed: int = 0, height: int = 20, width: int = 32) -> np.ndarray:
    """Noise about a colour."""
    noise = np.random.default_rng(seed).integers(0, 40, (height, width, 3))
    return (noise + np.array(COLOURS[name])).clip(0, 255).astype(np.uint8)


def fill(folder, number: int = 18):
    """A folder of squares with .txt beside; the last has none."""
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(number):
        name = list(COLOURS)[at % 3]
        save_png(folder / f"{at:02d}.png", square(name, at))
        if at < number - 1:
            (folder / f"{at:02d}.txt").write_text(f"a {name} square\n", "utf-8")
    return folder


def small_tower(kind: str = "vision-text-dual-encoder", seed: int = 0) -> Tower:
    torch.manual_seed(seed)
    text = TextTokenizer.train(["a red square", "a blue square"] * 4, 270)
    parts = make_parts(ENTRIES[kind], text, 32, 20, "the test")
    parts.model.eval()
    return Tower(parts)


def run(folder, output, **changes) -> TowerTraining:
    config = TowerTraining(
        output=str(output), data=(str(folder),), validation=(), steps=24, batch_size=9, size=32,
        tower=ENTRIES["vision-text-dual-encoder"], optimizer=TokenizerOptimizer(lr=0.01),
        schedule=TokenizerSchedule(warmup_steps=2), vocabulary=270, max_text_ids=20, log_every=8,
        validate_every=24, save_every=12,
    )  # fmt: skip
    return replace(config, **changes)
