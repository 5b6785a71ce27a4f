"""Where a language model is extended: on the device that is named, or not at all."""

import json

import pytest
import torch

from unified import UnifiedModel
from unified.__main__ import run


@pytest.fixture
def extend(cli_llm, capsys):
    """Run the command on a small model: (exit code, stderr)."""

    def call(*arguments):
        code = run(["extend", str(cli_llm), *map(str, arguments)])
        return code, capsys.readouterr().err

    return call


def test_weights_and_codecs_are_on_the_device(cli_llm, tiny_tokenizers):
    media = {f"{each.modality}_tokenizer": each for each in tiny_tokenizers}
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        model = UnifiedModel.extend(cli_llm, max_grid=4, device=device, **media)
        assert model.device == device
        assert {str(p.device) for p in model.hf.parameters()} == {device}
        assert {str(p.device) for p in model.image_tokenizer.parameters()} == {device}
    finally:
        for tokenizer in tiny_tokenizers:
            tokenizer.to("cpu")


def test_the_command_gives_the_same_model_with_the_cpu_by_name(extend, tmp_path):
    for name, more in (("plain", ()), ("named", ("--device", "cpu"))):
        assert extend("-o", tmp_path / name, *more)[0] == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "named")]
    assert weights[0] == weights[1]
    assert json.loads((tmp_path / "named" / "config.json").read_text("utf-8"))["vocab_size"]


def test_a_device_that_is_not_there_is_refused_in_one_line(extend, tmp_path):
    code, errors = extend("-o", tmp_path / "out", "--device", "cuda:99")
    assert code == 2
    assert "device cuda:99 cannot be used here" in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("device", "message"),
    [("meta", "expected one that holds weights"), ("gpu", "expected a device of torch")],
)
def test_devices_that_hold_no_weights_are_refused(extend, tmp_path, device, message):
    code, errors = extend("-o", tmp_path / "out", "--device", device)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert (code, len(lines)) == (2, 1), errors
    assert message in lines[0]
    assert not (tmp_path / "out").exists()
