"""Labels as codes: each of a few names is one id."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from unified_base.label_names import check_label
from unified_base.structured import read_json
from unified_base.text import quoted
from unified_tokenizers.plain_codes import PlainCodes

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LabelTokenizer"]

_MOST = 4_096


class LabelTokenizer(PlainCodes):
    """The codes of labels: the number of a name among `names`.

    With the names query, noise and text it is what VITA's state tokens are (arXiv:2408.05211,
    section 3.3): the answer begins with one, so that whoever listens to the ids knows whether a
    reply follows before a word of it is there.
    """

    modality = "label"

    def __init__(self, names: Sequence[str]) -> None:
        """Raises ValueError for names that are none, that stand there twice, and for fewer than 1
        or more than 4,096."""
        self.names = tuple(check_label(name) for name in names)
        if not 1 <= len(self.names) <= _MOST or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"labels are {quoted(list(names))}, expected 1 to {_MOST:,} different names"
            )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (len(self.names),)

    def number(self, name: str) -> int:
        """The code of a name. Raises ValueError for one that it has not."""
        if name not in self.names:
            names = ", ".join(self.names)
            raise ValueError(f"the label is {quoted(name)}, expected one of {names}")
        return self.names.index(name)

    def code_vectors(self) -> tuple[Tensor, ...]:
        """Vectors of the codes, (labels, labels): each as far from every other."""
        import torch

        return (torch.eye(len(self.names)),)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], /) -> Self:
        """Raises ValueError for a config.json of something else."""
        path = Path(folder) / "config.json"
        config = read_json(path)
        if set(config) != {"model_type", "names"} or not isinstance(config["names"], list):
            raise ValueError(f"{path} has {quoted(sorted(config))}, expected model_type and names")
        try:
            return cls(config["names"])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def _config(self) -> dict[str, Any]:
        return {"model_type": "labels", "names": list(self.names)}
