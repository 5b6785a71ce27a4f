"""Labels: one of a few names, as a segment, whose id says what comes before a word of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unified_base.cells import note_cell
from unified_base.label_names import check_label
from unified_base.text import quoted
from unified_data.segments import Media, Role, register_media

__all__ = ["Label"]


@register_media
@dataclass(frozen=True)
class Label(Media):
    """One of the names that a model knows, such as the states of VITA (arXiv:2408.05211): whether
    what was heard is a query, or noise that needs no answer.

    name: lower case letters, digits and '-'.
    """

    modality: ClassVar[str] = "label"
    noun: ClassVar[str] = "label"
    plural: ClassVar[str] = "labels"
    endings: ClassVar[tuple[str, ...]] = ("label",)

    name: str
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_label(self.name)

    @property
    def nbytes(self) -> int:
        return len(self.name)

    def to_file(self) -> tuple[str, bytes]:
        """Its name."""
        return "label", self.name.encode()

    @classmethod
    def from_file(cls, data: bytes, name: str, role: Role | None, loss: float) -> Label:
        try:
            text = data.decode("ascii")
        except UnicodeDecodeError:
            raise ValueError(f"{name} holds {quoted(data)}, expected a label's name") from None
        return cls(text, role, loss)

    def _repr_html_(self) -> str:
        return note_cell(f"[{self.name}]", self.role or "")
