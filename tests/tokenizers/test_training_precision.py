"""In which precision a tokenizer's training computes."""

import pytest
import torch
from picture_training import run
from safetensors.torch import load_file

from unified_base.training.checkpoint import read_latest
from unified_base.training.precision import multiplies_bfloat16
from unified_tokenizers.training import train

pytestmark = pytest.mark.usefixtures("torch_threads")


def test_a_run_computes_in_the_precision_it_names(mixed, tmp_path):
    """Its weights follow from it, and each checkpoint says which it was."""
    weights = {}
    for precision in ("float32", "bfloat16", "auto"):
        train(run(mixed, tmp_path / precision, steps=1, precision=precision))
        folder = tmp_path / precision / "checkpoints"
        quicker = "bfloat16" if multiplies_bfloat16("cpu") else "float32"
        expected = {"auto": quicker}.get(precision, precision)
        assert read_latest(folder).state["settings"]["precision"] == expected
        weights[precision] = load_file(next(folder.glob("step-*/part-*.safetensors")))
        if precision == "auto":
            alike = weights[expected]
            assert all(torch.equal(alike[name], value) for name, value in weights["auto"].items())
    others = weights["bfloat16"]
    assert not all(torch.equal(others[name], v) for name, v in weights["float32"].items())
