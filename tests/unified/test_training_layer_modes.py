"""`compile: auto`: the faster of both ways, chosen once, the same after a resumed run."""

from dataclasses import replace

import pytest
import torch
import transformers

from unified.training import layer_modes
from unified.training.layer_modes import LayerModes
from unified.training.train import train
from unified_base.training.dist import DistContext


@pytest.fixture
def decoder():
    config = transformers.LlamaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        vocab_size=20,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def is_compiled(decoder):
    return {layer._compiled_call_impl is not None for layer in decoder.model.layers}


def choose(decoder, monkeypatch, seconds, passes=10_000):
    """seconds: of the passes, not compiled and compiled."""
    plain, compiled = seconds
    modes = LayerModes(decoder, decoder.model.layers, False, "auto")
    assert modes.compiled is None
    monkeypatch.setattr(
        LayerModes, "_seconds",
        lambda *_: compiled if is_compiled(decoder) == {True} else plain,
    )  # fmt: skip
    monkeypatch.setattr(layer_modes, "_can_compile", lambda device: device.type == "cpu")
    torch.manual_seed(5)
    told = modes.choose(lambda: torch.rand(3), passes, DistContext(cpu=True))
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))  # measuring draws nothing
    assert is_compiled(decoder) == {modes.compiled}
    return modes.compiled, told


def test_the_faster_way_is_chosen_and_told(decoder, monkeypatch):
    assert choose(decoder, monkeypatch, (0.5, 0.4)) == (
        True, "compile: on; 400 ms a micro-batch compiled, 500 not (compile: auto)",
    )  # fmt: skip
    compiled, told = choose(decoder, monkeypatch, (0.4, 0.5))
    assert not compiled
    assert told.startswith("compile: off; 500 ms a micro-batch compiled, 400 not")
    assert not choose(decoder, monkeypatch, (0.5, 0.49))[0]  # no more than noise


def test_a_short_run_does_not_try(decoder, monkeypatch):
    assert choose(decoder, monkeypatch, (0.5, 0.4), passes=100) == (
        False, "compile: off; the run is too short to be worth it",
    )  # fmt: skip


def test_a_decoder_that_names_no_layers_stays_as_it_is(decoder):
    modes = LayerModes(decoder, [], True, "auto")
    told = modes.choose(lambda: None, 10**12, DistContext(cpu=True))
    assert told == "compile: off; the decoder does not say which of its modules are layers"
    assert modes.compiled is False


def test_without_a_compiler_it_is_off(decoder, monkeypatch):
    monkeypatch.setattr(layer_modes.shutil, "which", lambda name: None)
    assert not layer_modes._can_compile(torch.device("cpu"))
    assert layer_modes._can_compile(torch.device("meta"))


def test_a_choice_of_the_configuration_stands(decoder):
    modes = LayerModes(decoder, decoder.model.layers, False, False)
    modes.restore(True)
    assert modes.compiled is False
    assert is_compiled(decoder) == {False}
    LayerModes(decoder, decoder.model.layers, False, True).restore(False)
    assert is_compiled(decoder) == {True}


def test_a_resumed_run_takes_the_choice_of_its_checkpoint(
    training_case, finished_training, tmp_path, monkeypatch, capsys
):
    """It is not measured again: on a busy machine it might be another one, and other bits."""
    config = replace(training_case, output=str(tmp_path), steps=1, save_every=1, validation={})
    train(config)
    assert "compile: off; the run is too short" in capsys.readouterr().err
    monkeypatch.setattr(LayerModes, "choose", lambda *_: pytest.fail("measured again"))
    train(replace(config, steps=2), resume=True)
