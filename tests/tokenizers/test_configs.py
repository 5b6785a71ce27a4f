"""The run files that are shipped: each is read, and its tokenizer can be made."""

from pathlib import Path

import pytest

from unified_tokenizers.audio import VQAudioTokenizer
from unified_tokenizers.diffusion import DiffusionConfig
from unified_tokenizers.image import VQImageTokenizer
from unified_tokenizers.training_config import load_config
from unified_tokenizers.video import VQVideoTokenizer

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for path in sorted((ROOT / "configs").glob("*/*.yaml"))
    if "\nmodality: " in path.read_text("utf-8")
]


# Those of `unified demo` train on the demo's folders: they are run with it.
FILES = [path for path in FILES if path.parent.name != "demo"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shipped_run_file_makes_its_tokenizer(path):
    config = load_config(path)
    assert config.output == f"runs/{path.parent.name}/{path.stem}"
    assert config.validation
    assert f"unified tokenizer train configs/{path.parent.name}/{path.name}" in path.read_text()
    if config.diffusion is not None:
        assert {1, 2} == set(DiffusionConfig((2,), 8, **config.diffusion).scales)
        return
    tokenizer_class = {
        "image": VQImageTokenizer, "audio": VQAudioTokenizer, "video": VQVideoTokenizer,
    }[config.modality]  # fmt: skip
    tokenizer = tokenizer_class(tokenizer_class.parse_config(config.tokenizer))
    if config.modality == "audio":
        assert config.crop * tokenizer.hop % 512 == 0


def test_there_are_some():
    assert len(FILES) >= 9
