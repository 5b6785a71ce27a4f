"""Ids of a request's documents as the schema's `usage` objects, with a count for each modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["IdCounts"]


class IdCounts:
    """Sums over documents of one prompt, which is counted once, however many are written."""

    def __init__(self, usages: Iterable[Mapping[str, int]]) -> None:
        """usages: `Done.usage` of each document."""
        listed = list(usages)
        self.prompt = max((usage["prompt_ids"] for usage in listed), default=0)
        self.written = sum(usage["sampled_ids"] + usage["forced_ids"] for usage in listed)
        self._by_modality: dict[str, int] = {}
        for usage in listed:
            for name, number in usage.items():
                modality = name.removesuffix("_ids")
                if modality not in ("prompt", "sampled", "forced"):
                    self._by_modality[modality] = self._by_modality.get(modality, 0) + number

    def of(self, modality: str) -> int:
        """Ids written of a modality, or "marker"."""
        return self._by_modality.get(modality, 0)

    @property
    def details(self) -> dict[str, int]:
        """{"text_tokens": ..., "image_tokens": ...}; together they are all that was written."""
        return {f"{name}_tokens": number for name, number in sorted(self._by_modality.items())}

    def completion(self) -> dict[str, Any]:
        """`CompletionUsage` of chat completions."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.written,
            "total_tokens": self.prompt + self.written,
            "completion_tokens_details": {"reasoning_tokens": 0, **self.details},
        }

    def response(self) -> dict[str, Any]:
        """`ResponseUsage` of responses."""
        return {
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": self.written,
            "output_tokens_details": {"reasoning_tokens": 0, **self.details},
            "total_tokens": self.prompt + self.written,
        }

    def drawn(self) -> dict[str, Any]:
        """`Usage` of pictures, whose prompts are words alone."""
        return {
            "input_tokens": self.prompt,
            "input_tokens_details": {"text_tokens": self.prompt, "image_tokens": 0},
            "output_tokens": self.written,
            "output_tokens_details": self.details,
            "total_tokens": self.prompt + self.written,
        }

    def of_sound(self) -> dict[str, Any]:
        """`UsageTokens` of speech and transcriptions."""
        return {
            "type": "tokens",
            "input_tokens": self.prompt,
            "output_tokens": self.written,
            "total_tokens": self.prompt + self.written,
        }
