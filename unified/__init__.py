"""One autoregressive decoder over text, image and audio ids.

    from unified import UnifiedModel
    model = UnifiedModel.from_pretrained("pocket")
    pictures = model.draw("a cat", n=2)

The public names load lazily, so that the command line answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unified_base.version import __version__
from unified_base.waiting import wait_asleep

if TYPE_CHECKING:
    from unified.engine.notebook import watch
    from unified.engine.request import Sampling
    from unified.engine.sampler import Guidance, LevelSampling, SpanSampling
    from unified.formats.grammar import Grammar
    from unified.formats.limits import Limits
    from unified.generating.generate import generate_shards
    from unified.models.model import UnifiedModel
    from unified.models.model_spec import ModelSpec
    from unified.sequence.sequencer import Sequencer
    from unified.vocabulary.text_tokenizer import TextTokenizer
    from unified.vocabulary.vocabulary import Vocabulary

__all__ = [
    "Grammar",
    "Guidance",
    "LevelSampling",
    "Limits",
    "ModelSpec",
    "Sampling",
    "Sequencer",
    "SpanSampling",
    "TextTokenizer",
    "UnifiedModel",
    "Vocabulary",
    "__version__",
    "generate_shards",
    "watch",
]

_HOME = {
    "Grammar": "formats.grammar",
    "Guidance": "engine.sampler",
    "Limits": "formats.limits",
    "ModelSpec": "models.model_spec",
    "Sampling": "engine.request",
    "Sequencer": "sequence.sequencer",
    "LevelSampling": "engine.sampler",
    "SpanSampling": "engine.sampler",
    "TextTokenizer": "vocabulary.text_tokenizer",
    "UnifiedModel": "models.model",
    "Vocabulary": "vocabulary.vocabulary",
    "generate_shards": "generating.generate",
    "watch": "engine.notebook",
}

wait_asleep()  # before torch is imported


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
