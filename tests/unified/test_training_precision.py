"""`precision: auto`: what it becomes on a machine, and on another one where a run goes on."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from unified.training.train import train
from unified_base.processor import processor_has
from unified_base.training import precision
from unified_base.training.checkpoint import read_latest
from unified_base.training.precision import check_same_precision, resolve_precision


def test_auto_is_bfloat16_where_the_processor_has_its_products(training_case, monkeypatch):
    config = replace(training_case, precision="auto", device="cpu", output="none")
    assert precision.multiplies_bfloat16("cpu") is processor_has("avx512bf16")
    for supported, expected, reason in ((True, "bfloat16", "has"), (False, "float32", "does not")):
        monkeypatch.setattr(precision, "processor_has", {"avx512bf16": supported}.get)
        resolved, (line,) = resolve_precision(config)
        assert resolved == replace(config, precision=expected)
        assert line.startswith(f"precision {expected} (auto: this processor {reason}")


def test_what_is_asked_for_stays_and_is_said_where_it_is_slow(training_case, monkeypatch):
    monkeypatch.setattr(precision, "processor_has", lambda feature: False)
    for asked, number in (("float32", 0), ("bfloat16", 1)):
        config = replace(training_case, precision=asked, device="cpu")
        resolved, lines = resolve_precision(config)
        assert resolved is config
        assert len(lines) == number
    assert "many times as slow as precision float32" in lines[0]


def test_a_run_goes_on_in_the_precision_it_began_with(
    training_case, finished_training, monkeypatch
):
    """Wherever that is: the run of `training_case` is one in float32."""
    config = replace(training_case, precision="auto", device="cpu")
    monkeypatch.setattr(precision, "processor_has", lambda feature: True)
    assert resolve_precision(config)[0].precision == "bfloat16"
    resolved, lines = resolve_precision(config, resume=True)
    assert resolved == replace(config, precision="float32")
    assert lines == ["precision float32 (auto: as the run began)"]


def test_the_log_begins_with_the_precision_and_checkpoints_hold_it(
    training_case, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(precision, "processor_has", lambda feature: False)
    before = torch.get_num_threads()
    config = replace(
        training_case, precision="auto", device="cpu", steps=1, validation={},
        output=str(tmp_path),
    )  # fmt: skip
    folder = train(config)
    torch.set_num_threads(before)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == (
        "precision float32 (auto: this processor does not have products of bfloat16 numbers)"
    )
    assert read_latest(tmp_path / "checkpoints").state["settings"]["precision"] == "float32"
    assert ", float32." in (folder / "README.md").read_text("utf-8")


def test_processes_that_would_differ_are_refused():
    def processes(*precisions):
        return SimpleNamespace(gather=lambda value: [value, *precisions])

    check_same_precision("bfloat16", processes("bfloat16"))
    with pytest.raises(ValueError, match=r"float32 in process 2, whose machine .* give precision:"):
        check_same_precision("bfloat16", processes("bfloat16", "float32"))
