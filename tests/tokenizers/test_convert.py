"""Pickles to safetensors: in a child process, with limits, and never unasked."""

import json
import os
import pickle
import zipfile

import pytest
import torch
import transformers
from safetensors.torch import load_file

from unified.__main__ import run
from unified_tokenizers import convert, load_tokenizer
from unified_tokenizers.convert import convert_tokenizer
from unified_tokenizers.snac_model import SnacConfig, SnacModel

SNAC = {
    "sampling_rate": 24_000, "encoder_dim": 4, "encoder_rates": [2, 3], "decoder_dim": 16,
    "decoder_rates": [3, 2], "attn_window_size": None, "codebook_size": 32, "codebook_dim": 4,
    "vq_strides": [4, 2, 1], "noise": True, "depthwise": True,
}  # fmt: skip


@pytest.fixture
def published(tmp_path):
    """SNAC as it is published: config.json without a type, and pytorch_model.bin."""
    torch.manual_seed(0)
    sizes = {key: tuple(v) if isinstance(v, list) else v for key, v in SNAC.items()}
    model = SnacModel(SnacConfig(**sizes))
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SNAC))
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def test_a_pickle_becomes_a_folder_that_opens(published, tmp_path, capsys):
    code = run(["tokenizer", "convert", str(published), "-o", str(tmp_path / "out"), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert json.loads(captured.out)["fingerprint"] == load_tokenizer(tmp_path / "out").fingerprint
    state = torch.load(published / "pytorch_model.bin", weights_only=True)
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert set(written) == set(state)
    assert all(torch.equal(written[name], value) for name, value in state.items())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "snac"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json", "model.safetensors"
    }  # fmt: skip


def test_it_is_never_done_unasked_and_the_error_says_how(published):
    with pytest.raises(ValueError, match="holds weights as a pickle only") as caught:
        load_tokenizer(published)
    line = str(caught.value)
    assert f"`unified tokenizer convert {published} -o DIR`" in line
    assert "\n" not in line
    assert not list(published.glob("*.safetensors"))


def test_a_checkpoint_of_training_gives_its_state_dict(published, tmp_path):
    state = torch.load(published / "pytorch_model.bin", weights_only=True)
    (published / "pytorch_model.bin").unlink()
    torch.save({"state_dict": {**state, "epoch": 3}, "step": 7}, published / "last.ckpt")
    converted = convert_tokenizer(published / "last.ckpt", tmp_path / "out")
    assert (converted.tensors, converted.left_out) == (len(state), 1)


def test_a_codec_without_a_config_is_named_by_its_type(tmp_path, monkeypatch):
    shape = {
        "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "embed_dim": 4,
        "latent_channels": 4, "num_embeddings": 16, "resolution": 16,
    }  # fmt: skip
    config = transformers.ChameleonVQVAEConfig(**shape)
    torch.save(
        {"state_dict": transformers.ChameleonVQVAE(config).state_dict()}, tmp_path / "v.ckpt"
    )
    with pytest.raises(ValueError, match=r"no config\.json beside .*give --type \(chameleon_vqgan"):
        convert_tokenizer(tmp_path / "v.ckpt", tmp_path / "out")
    with pytest.raises(ValueError, match="type 'vqgan', expected one of chameleon_vqgan"):
        convert_tokenizer(tmp_path / "v.ckpt", tmp_path / "out", "vqgan")
    # The published sizes are the defaults, 67 million weights: of a smaller one here.
    monkeypatch.setattr(transformers.ChameleonVQVAEConfig, "to_dict", lambda self: config_entries)
    config_entries = {**shape, "model_type": "chameleon_vqgan"}
    converted = convert_tokenizer(tmp_path / "v.ckpt", tmp_path / "out", "chameleon_vqgan")
    assert load_tokenizer(tmp_path / "out", "image").fingerprint == converted.fingerprint
    assert load_tokenizer(tmp_path / "out").codebook_sizes == (16,)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_names_a_function_is_refused_and_nothing_runs(published, tmp_path, capsys):
    marker = tmp_path / "ran"
    torch.save({"weight": torch.zeros(2), "evil": Evil(marker)}, published / "pytorch_model.bin")
    code = run(["tokenizer", "convert", str(published), "-o", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert code == 2
    assert "cannot read the tensors of" in error
    assert "UnpicklingError" in error
    assert len(error.strip().splitlines()) == 1
    (published / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(ValueError, match="cannot read the tensors of"):
        convert_tokenizer(published, tmp_path / "out")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_more_memory_than_a_few_times_the_file_is_not_to_be_had(published, tmp_path):
    """A small file whose one storage unpacks to 1 GiB of zeros."""
    path = published / "pytorch_model.bin"
    torch.save({"weight": torch.zeros(4)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for name, content in entries.items():
            if not name.endswith("data/0"):
                archive.writestr(name, content)
        storage = next(name for name in entries if name.endswith("data/0"))
        with archive.open(storage, "w", force_zip64=True) as file:
            for _ in range(64):
                file.write(bytes(16 << 20))
    assert path.stat().st_size < 16 << 20
    with pytest.raises(ValueError, match="cannot read the tensors of"):
        convert_tokenizer(published, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a pickle", "cannot read the tensors of"),
        (b"", "cannot read the tensors of"),
    ],
)
def test_what_is_no_pickle_is_refused(published, tmp_path, content, reason):
    (published / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        convert_tokenizer(published, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_pickles_of_other_things_are_refused(published, tmp_path):
    for content, reason in (
        ([1, 2], "it holds a list, expected tensors by name"),
        ({"step": 3}, "it holds no tensors by name"),
    ):
        torch.save(content, published / "pytorch_model.bin")
        with pytest.raises(ValueError, match=reason):
            convert_tokenizer(published, tmp_path / "out")


def test_weights_that_do_not_fit_leave_nothing_behind(published, tmp_path):
    torch.save({"weight": torch.zeros(3)}, published / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"do not make a tokenizer: .*weight, which SNAC"):
        convert_tokenizer(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_no_pickle_or_several_asks_for_one(published, tmp_path):
    (published / "other.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"has other\.pt, pytorch_model\.bin of \.bin, .*name one"):
        convert_tokenizer(published, tmp_path / "out")
    with pytest.raises(ValueError, match=r"has none of \.bin"):
        convert_tokenizer(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="there is no file or folder"):
        convert_tokenizer(tmp_path / "absent", tmp_path / "out")


def test_reading_has_a_time(published, tmp_path):
    with pytest.raises(ValueError, match="was not read within 0 seconds"):
        convert_tokenizer(published, tmp_path / "out", seconds=0)


def test_a_name_on_the_hub_is_fetched_with_its_pickle(published, tmp_path, monkeypatch):
    asked = []

    def fetch(name, patterns):
        asked.append((name, tuple(patterns)))
        return published

    monkeypatch.setattr(convert, "fetch_files", fetch)
    convert_tokenizer("someone/snac", tmp_path / "out")
    ((name, patterns),) = asked
    assert name == "someone/snac"
    assert {"config.json", "*.bin"} <= set(patterns)
