"""The number that each modality has where ids are told apart by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from unified_data.segments import modalities

__all__ = ["MODALITIES", "USUAL"]

USUAL = ("marker", "text", "image", "audio")
"""Those that are told of whatever a format has; others where it has them."""


class _ModalityIds(Mapping[str, int]):
    """A live view: "marker" is 0, "text" 1, and media follow as they are registered."""

    def __getitem__(self, name: str) -> int:
        return ("marker", *modalities()).index(name) if name in self else _missing(name)

    def __contains__(self, name: object) -> bool:
        return name == "marker" or name in modalities()

    def __iter__(self) -> Iterator[str]:
        return iter(("marker", *modalities()))

    def __len__(self) -> int:
        return 1 + len(modalities())


def _missing(name: str) -> int:
    raise KeyError(name)


MODALITIES: Mapping[str, int] = _ModalityIds()
"""Of `Serialized.modality` and what is made of it. Markers and sizes belong to no medium: 0. The
numbers hold within a process; what is stored names modalities."""
