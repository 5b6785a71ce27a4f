"""Pictures of many sizes, and a short training of an image tokenizer on them."""

from dataclasses import replace

import numpy as np

from unified_tokenizers.training import TokenizerTraining
from unified_tokenizers.training_config import TokenizerOptimizer, TokenizerSchedule

SETTINGS = {
    "stride": 4, "quantizer": {"levels": [4, 3, 3]}, "encoder_width": 8, "decoder_width": 16,
    "encoder_depths": [1], "decoder_depths": [1, 0, 0],
}  # fmt: skip
SIZES = ((8, 12), (40, 9), (5, 7), (64, 64), (12, 33), (16, 16), (3, 50), (30, 31), (9, 40))


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(folder, output="", **changes):
    config = TokenizerTraining(
        modality="image",
        output=str(output),
        data=(str(folder),),
        validation=(),
        tokenizer=SETTINGS,
        steps=6,
        batch_size=4,
        optimizer=TokenizerOptimizer(lr=0.01),
        schedule=TokenizerSchedule(warmup_steps=2),
        save_every=3,
        log_every=1,
        size=16,
    )
    return replace(config, **changes)
