"""A budget for what a model writes before its answer.

A thought that reaches its budget is ended by the mark that ends thoughts, as if the model had
written it, and the answer follows (budget forcing: Muennighoff et al., arXiv:2501.19393).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from unified.engine.request import Sampling
from unified.engine.stop import StopFinder
from unified.vocabulary.block import Ranges
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary

__all__ = ["ThoughtBudget"]


class ThoughtBudget:
    """Counts the ids of the thought that a text begins with, up to the first of its end marks.

    most: ids of a thought.
    """

    def __init__(self, most: int, finder: StopFinder | None, mark: Sequence[int]) -> None:
        """finder: of the marks; None: a thought is a text of its own. mark: ids of the one that is
        written where the budget ends a thought."""
        self.most = most
        self._finder, self._mark = finder, mark
        self.reset()

    @classmethod
    def of(
        cls, sampling: Sampling, tokenizer: TextTokenizer | None, vocabulary: Vocabulary
    ) -> ThoughtBudget | None:
        """What the parameters of a request ask for; None: nothing.

        Raises ValueError for marks without a tokenizer.
        """
        if sampling.max_thought_ids is None:
            return None
        if not (ends := sampling.thought_ends):
            return cls(sampling.max_thought_ids, None, ())
        if tokenizer is None:
            raise ValueError("thought_ends need the text tokenizer; give it to the sampler")
        codes = np.array(tokenizer.encode(ends[0]), np.int64)
        mark = vocabulary.to_ids("text", codes).tolist()
        return cls(sampling.max_thought_ids, StopFinder(tokenizer, ends), mark)

    def reset(self) -> None:
        """Begin another text."""
        self._open = self._finder is not None
        self._count = 0
        self._forced: list[int] = []
        if self._finder is not None:
            self._finder.reset()

    def push(self, ids: Iterable[int]) -> bool:
        """Read ids of a text. Returns whether the budget ends its thought: the mark follows."""
        if not self._open or self._finder is None:
            return False
        for id in ids:
            self._count += 1
            if self._finder.push((id,)):
                self._open = False
                return False
        self._finder.take()
        if self._count < self.most:
            return False
        self._open = False
        self._forced = list(self._mark)
        return True

    def next_id(self, allowed: Ranges) -> int | None:
        """The next id of a mark that the text must be given; None: it is the model's to choose.

        allowed: by the grammar; where the id is not, the budget of the whole sequence ends here.
        """
        if not self._forced:
            return None
        id = self._forced.pop(0)
        if any(start <= id < stop for start, stop in allowed):
            return id
        self._forced = []
        return None
