"""A model in CTranslate2 as a side of a comparison: it generates greedily, many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["CTranslate2"]


class CTranslate2:
    """`Generator.generate_batch`: it reads a prompt and generates in one call."""

    def __init__(self, folder: Path, kind: str, threads: int) -> None:
        """kind: the type it computes in, such as "int8"."""
        import ctranslate2

        self._generator = ctranslate2.Generator(
            str(folder), device="cpu", compute_type=kind, inter_threads=1, intra_threads=threads
        )

    def generate(self, prompt: Sequence[int], rows: int, number: int) -> list[list[int]]:
        """Append `number` of the likeliest ids to `rows` copies of a prompt."""
        tokens = [str(id) for id in prompt]
        results = self._generator.generate_batch(
            [tokens] * rows, max_length=number, min_length=number, sampling_topk=1, beam_size=1,
            include_prompt_in_result=False, max_batch_size=0,
        )  # fmt: skip
        return [result.sequences_ids[0] for result in results]
