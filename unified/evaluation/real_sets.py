"""The parts that measure a set that the user has on disk."""

from unified.evaluation.part_captions import COCO_CAPTIONS
from unified.evaluation.part_geneval2 import GENEVAL2
from unified.evaluation.part_librispeech import LIBRISPEECH
from unified.evaluation.part_mme import MME
from unified.evaluation.part_pope import POPE
from unified.evaluation.part_seed_tts import SEED_TTS
from unified.evaluation.part_vqa import VQAV2

__all__ = ["REAL_SETS"]

REAL_SETS = (POPE, MME, VQAV2, COCO_CAPTIONS, LIBRISPEECH, GENEVAL2, SEED_TTS)
