"""Models made for their shapes alone, where nothing is allocated: torch's device "meta"."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["on_meta_device"]


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Tensors that are made inside have shapes and no numbers.

    So have those that a module makes which is first imported inside: torchaudio, which
    transformers' models import, keeps a constant as a tensor, and could prepare no sound for the
    rest of the process. It is imported before, where transformers is there.
    """
    import torch

    if "transformers" in sys.modules:
        with suppress(ImportError):  # an older transformers, or one without what it wants for sound
            import transformers.audio_utils  # noqa: F401
    with torch.device("meta"):
        yield
