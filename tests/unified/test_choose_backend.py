"""Which backend samples: asked for, or chosen; what cannot be used is said in a line."""

import numpy as np
import pytest
import torch
from tiny_families import VOCAB, tiny_model
from transformers import MambaConfig, MambaForCausalLM

from unified.models.choose_backend import BACKENDS, check_on_cpu, likely_backends
from unified.models.opening import LanguageModel

EVERY = ((0, VOCAB),)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    mamba = MambaConfig(vocab_size=VOCAB, hidden_size=24, num_hidden_layers=2, state_size=4)
    models = {"qwen3": tiny_model("qwen3"), "gemma3": tiny_model("gemma3")}
    models["mamba"] = MambaForCausalLM(mamba)
    for name, hf in models.items():
        hf.save_pretrained(root / name)
    return root


def logits(model):
    decoder = model.decoder()
    return decoder.logits(decoder.forward(decoder.new_cache(1, 8), [0], [[5, 1, 9]]), EVERY)


def test_a_model_of_the_llama_family_runs_on_every_backend(folders):
    results = {}
    for backend in BACKENDS:
        model = LanguageModel.open(folders / "qwen3", backend=backend)
        assert model.decoder().backend == ("cpu" if backend == "auto" else backend)
        results[backend] = logits(model)
        # It stays the one that was asked for once `hf` has changed.
        with torch.no_grad():
            model.hf.lm_head.weight[3] += 1
        assert model.decoder().backend == ("cpu" if backend == "auto" else backend)
        assert np.abs(logits(model) - results[backend]).max() > 0.1
    for backend in BACKENDS:
        np.testing.assert_allclose(results[backend], results["cpu"], atol=1e-4)


def test_what_the_cpu_backend_does_not_cover_goes_to_the_next_one(folders):
    assert LanguageModel.open(folders / "gemma3").decoder().backend == "torch_static"
    with pytest.warns(UserWarning, match="Mamba.* torch_static .*; backend transformers is taken"):
        assert LanguageModel.open(folders / "mamba").decoder().backend == "transformers"


def test_a_backend_that_cannot_be_used_is_refused_in_a_line(folders):
    cases = {
        ("gemma3", "cpu"): r"backend cpu does not cover model_type 'gemma3_text' .* take backend",
        ("mamba", "torch_static"): r"cannot be used: .*Mamba.* cannot run .* take backend auto or",
        ("qwen3", "vulkan"): r"backend is 'vulkan', expected one of auto, cpu, torch_static, tran",
    }
    for (name, backend), message in cases.items():
        with pytest.raises(ValueError, match=message) as refusal:
            LanguageModel.open(folders / name, backend=backend)
        assert "\n" not in str(refusal.value)
    with pytest.raises(ValueError, match=r"backend cpu computes on the CPU .* on cuda:0; take"):
        check_on_cpu("cuda:0")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device cuda cannot be used here"):
            LanguageModel.open(folders / "qwen3", device="cuda", backend="torch_static")


def test_the_command_line_says_which_backends_there_are(unified, refused, tmp_path):
    out = tmp_path / "cat.png"
    refused(unified("draw", "a cat", "--backend", "gpu", "-o", out), "backend is 'gpu', expected")
    code, text, _ = unified("info", on=None)
    assert not code
    assert "cpu on the CPU, torch_static elsewhere" in text


def test_what_a_config_says_of_its_backend():
    plain = {"num_attention_heads": 4, "layer_types": ["full_attention", "sliding_attention"]}
    assert likely_backends(plain, True) == {"cpu": "cpu", "devices": "torch_static"}
    assert likely_backends(plain, False)["cpu"] == "torch_static"
    for change in (
        {"rope_parameters": {"rope_type": "longrope"}},
        {"layer_types": ["linear_attention", "full_attention"]},
        {"num_attention_heads": None},
    ):
        expected = {"cpu": "transformers", "devices": "transformers"}
        assert likely_backends({**plain, **change}, False) == expected
