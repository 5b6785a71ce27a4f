"""Pictures through the diffusion decoder: the same codes, another de-tokenizer."""

import json
import shutil

import numpy as np
import pytest
import torch

from unified.models.model import UnifiedModel
from unified_base.images import load_image
from unified_tokenizers.base import Codes


def draw(unified, output, *options):
    code, _, err = unified("draw", "an axe", "-o", str(output), *options)
    assert code == 0, err
    return load_image(output)


def test_draw_takes_a_decoder_and_its_steps(unified, tmp_path):
    plain = draw(unified, tmp_path / "vq.png")
    assert np.array_equal(plain, draw(unified, tmp_path / "again.png", "--decoder", "vq"))
    diffused = draw(unified, tmp_path / "d.png", "--decoder", "diffusion")
    eight = draw(unified, tmp_path / "e.png", "--decoder", "diffusion", "--steps", "8")
    two = draw(unified, tmp_path / "f.png", "--decoder", "diffusion", "--steps", "2")
    double = draw(unified, tmp_path / "g.png", "--decoder", "diffusion-2x", "--steps", "2")
    assert plain.shape == diffused.shape == (96, 96, 3)
    assert double.shape == (192, 192, 3)
    assert np.array_equal(diffused, eight)
    assert not np.array_equal(diffused, two)
    assert not np.array_equal(diffused, plain)


def test_write_takes_a_decoder(unified, tmp_path):
    output = tmp_path / "axe.json"
    code, out, err = unified(
        "write", "Axe", "--images", "1", "--no-audio", "--decoder", "diffusion-2x", "--steps", "1",
        "-o", str(output), "--json",
    )  # fmt: skip
    assert code == 0, err
    for path in tmp_path.glob("**/*.png"):
        assert load_image(path).shape == (192, 192, 3)
    assert json.loads(out)["path"] == str(output)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--decoder", "magic"], "no decoder 'magic', expected one of vq, diffusion"),
        (["--steps", "3"], "--steps 3 is for a diffusion decoder; add --decoder diffusion"),
        (["--decoder", "diffusion", "--steps", "51"], "Invalid value for '--steps'"),
    ],
)
def test_a_users_mistakes_are_one_line_and_exit_code_2(unified, tmp_path, options, words):
    for command in (["draw", "an axe", "-o", str(tmp_path / "x.png")],
                    ["write", "Axe", "-o", str(tmp_path / "x.html")]):  # fmt: skip
        code, out, err = unified(*command, *options)
        assert code == 2
        assert words in err
        assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_in_python_the_codes_stay_and_a_saved_model_keeps_its_decoder(cli_model, tmp_path):
    model = UnifiedModel.from_pretrained(cli_model)
    plain = model.image_tokenizer
    fingerprint = plain.fingerprint
    model.use_diffusion(steps=2, scale=2)
    model.use_diffusion(steps=3, scale=1)  # the last one counts
    codes = plain.encode(torch.rand(1, 3, 96, 96))
    pixels = model.sequencer.decode_image(codes.codes[0].numpy())
    assert pixels.shape == (96, 96, 3)
    assert model.image_tokenizer.fingerprint == fingerprint
    model.save_pretrained(tmp_path / "saved")
    again = UnifiedModel.from_pretrained(tmp_path / "saved")
    assert type(again.image_tokenizer) is type(plain)
    again.use_diffusion(steps=3)
    same = again.image_tokenizer.decode(Codes(codes.codes, (96, 96)))
    assert torch.equal(same, model.image_tokenizer.decode(codes))


def test_a_model_without_one_says_so(cli_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(cli_model, folder)
    shutil.rmtree(folder / "image_tokenizer" / "diffusion")
    with pytest.raises(ValueError, match=r"has no diffusion decoder .*`unified tokenizer train`"):
        UnifiedModel.from_pretrained(folder).use_diffusion()
