"""`unified tokenizer ...`: which tokenizer a name means, device and dtype, missing extras."""

import json
import sys

import numpy as np
import pytest
import soundfile
import transformers

from unified_base.images import load_image, save_png


@pytest.fixture
def data(tmp_path):
    """Folders of one picture and of one sound."""
    for kind in ("pictures", "sounds"):
        (tmp_path / kind).mkdir()
    rng = np.random.default_rng(0)
    pixels = np.kron(rng.integers(0, 256, (13, 20, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    save_png(tmp_path / "pictures" / "a.png", pixels)
    wave = 0.3 * np.sin(np.arange(24_000) / 9) * np.sin(np.arange(24_000) / 4000)
    soundfile.write(tmp_path / "sounds" / "a.wav", wave, 16_000)
    return tmp_path


def test_a_name_may_say_which_tokenizer_of_a_model(unified, cli_model, data):
    for suffix, folder, unit in (("image", "pictures", "bpp"), ("audio", "sounds", "kbps")):
        name = f"{cli_model}/{suffix}"
        code, out, err = unified("tokenizer", "evaluate", name, data / folder, "--json", on=None)
        assert code == 0, err
        assert unit in json.loads(out)


def test_dtype_and_device_are_taken_and_a_device_that_is_not_there_is_one_line(
    unified, refused, cli_model, data
):
    command = ("tokenizer", "evaluate", cli_model, data / "pictures", "--json")
    reports = []
    for dtype in ("float32", "bfloat16"):
        code, out, err = unified(*command, "--device", "cpu", "--dtype", dtype, on=None)
        assert code == 0, err
        reports.append(json.loads(out))
    assert reports[0]["perplexity"] == reports[1]["perplexity"]  # the codes are the same
    assert reports[0]["psnr_db"] == pytest.approx(reports[1]["psnr_db"], abs=0.5)
    refused(unified(*command, "--device", "nowhere", on=None), "cannot move a tokenizer to nowhere")
    refused(unified(*command, "--dtype", "int8", on=None), "decodes in float32, bfloat16, float16")
    refused(unified(*command, "--dtype", "float99", on=None), "dtype 'float99', expected float32")


@pytest.mark.parametrize(
    ("module", "suffix"),
    [("torchmetrics.functional.image", "image"), ("pystoi", "audio"), ("matplotlib", "image")],
)
def test_a_missing_extra_is_named_before_media_are_read(
    unified, refused, cli_model, tmp_path, monkeypatch, module, suffix
):
    monkeypatch.setitem(sys.modules, module, None)
    command = ("tokenizer", "evaluate", f"{cli_model}/{suffix}", tmp_path / "no-such-media")
    plot = ("--plot", tmp_path / "plot.png") if module == "matplotlib" else ()
    refused(
        unified(*command, *plot, on=None),
        f"needs {module.split('.')[0]}, which is not installed: pip install",
    )


def test_pictures_go_through_the_published_processor(unified, data, tmp_path):
    config = transformers.JanusVQVAEConfig(
        base_channels=32, channel_multiplier=[1, 1, 1], num_res_blocks=1, embed_dim=4,
        latent_channels=4, num_embeddings=32, num_patches=6,
    )  # fmt: skip
    folder = tmp_path / "janus"
    transformers.JanusVQVAE(config).save_pretrained(folder)
    settings = {
        "size": {"height": 24, "width": 24},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    command = ("tokenizer", "reconstruct", data / "pictures" / "a.png", "-o", tmp_path / "pair.png")
    code, _, err = unified(*command, "--tokenizer", folder, on=None)
    assert code == 0, err
    assert "preprocessed from 80x52 to 24x24 pixels" in err
    assert load_image(tmp_path / "pair.png").shape == (24, 49, 3)
    code, out, err = unified("tokenizer", "evaluate", folder, data / "pictures", "--json", on=None)
    assert code == 0, err
    assert json.loads(out)["bpp"] == pytest.approx(5 / 16)  # 32 codes for 4 x 4 pixels


def test_a_folder_of_a_pickle_names_the_command_that_converts(unified, refused, data, tmp_path):
    folder = tmp_path / "pickle"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    command = ("tokenizer", "evaluate", folder, data / "pictures")
    refused(unified(*command, on=None), f"`unified tokenizer convert {folder} -o DIR`")
