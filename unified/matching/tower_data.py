"""The pictures of a tower's training with the texts beside them, and which pairs a step sees."""

from __future__ import annotations

import numpy as np

from unified.matching.tower_config import TowerTraining
from unified.matching.tower_pictures import TowerFit, TowerPictures
from unified_tokenizers.alignment_texts import AlignedTexts
from unified_tokenizers.training_order import uniform
from unified_tokenizers.training_pictures import PictureStore, Say, load_store

__all__ = ["TowerData", "TowerPairs"]


class TowerPairs:
    """Pictures that have a text, and their texts.

    Args:
        paths: shards or folders.
        pattern: see `AlignedTexts`.

    Raises:
        ValueError: nothing that can be read, or no picture with a text beside it.
    """

    def __init__(
        self, config: TowerTraining, paths: tuple[str, ...], processor: TowerPictures, limit: int,
        say: Say,
    ) -> None:  # fmt: skip
        texts = AlignedTexts(config.pattern)
        self.store: PictureStore = load_store(
            paths, limit, TowerFit.of(processor), int(config.memory_gb * 1e9), config.max_corrupt,
            say, texts=texts,
        )  # fmt: skip
        self.numbers = [number for number, text in enumerate(texts.texts) if text is not None]
        self.texts = [text for text in texts.texts if text is not None]
        if len(self.texts) < 2:
            finds = f" that {config.pattern!r} finds" if config.pattern else ""
            raise ValueError(
                f"{len(self.texts)} of {len(self.store):,} pictures in {', '.join(paths)} have a"
                f" text{finds} beside them, expected at least 2: .txt files of the same name, or"
                " documents with texts"
            )
        if alone := len(self.store) - len(self.texts):
            say(f"{alone:,} of {len(self.store):,} pictures have no text and are left out")

    def __len__(self) -> int:
        return len(self.texts)

    def pictures(self, rows: np.ndarray | range) -> np.ndarray:
        """Pictures by their number among the pairs: uint8 (N, h, w, 3)."""
        return np.stack([self.store.window(self.numbers[row], None) for row in rows])


class TowerData:
    """What is trained on and what is measured.

    Args:
        num_held: pairs that are measured, at most.
    """

    def __init__(
        self, config: TowerTraining, processor: TowerPictures, say: Say, num_held: int = 512
    ) -> None:
        self._config = config
        self.train = TowerPairs(config, config.data, processor, config.limit, say)
        self.held = self.train
        if config.validation:
            self.held = TowerPairs(config, config.validation, processor, num_held, say)
        self.num_held = min(num_held, len(self.held))
        if len(self.train) < config.batch_size:
            raise ValueError(
                f"batch_size is {config.batch_size}, expected at most the {len(self.train):,} pairs"
                " that there are: a pair is told from the others of its batch"
            )

    def rows(self, step: int, rank: int, world: int) -> np.ndarray:
        """Which pairs a process sees in a step: a function of the seed and the step alone."""
        config = self._config
        return uniform(config.seed, step, config.batch_size, len(self.train))[rank::world]
