"""Training a tower: it learns what texts say, resumes bit for bit, and says what is wrong."""

import json
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_tower import COLOURS, ENTRIES, fill, run, square

from unified.matching.tower import Tower
from unified.matching.tower_training import train
from unified_tokenizers.contrastive import contrastive_loss, unit


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("squares") / "data")


def test_what_was_learnt_names_pictures_of_a_folder(squares, tmp_path, unified):
    config = asdict(run(squares, tmp_path / "run", steps=40, validate_every=40))
    (tmp_path / "tower.json").write_text(json.dumps(config))
    code, _, err = unified("tower", "train", tmp_path / "tower.json", on=None)
    assert code == 0, err
    assert "1 of 18 pictures have no text and are left out" in err
    tower = Tower.from_pretrained(tmp_path / "run" / "tower")
    for name in COLOURS:
        assert tower.classify(square(name, 99), list(COLOURS), "a {} square")[0].name == name


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_run_that_was_stopped_ends_as_the_one_that_was_not(squares, tmp_path, loss):
    kind = {"softmax": "vision-text-dual-encoder", "sigmoid": "siglip"}[loss]
    config = run(squares, tmp_path / "whole", steps=4, loss=loss, tower=ENTRIES[kind], save_every=2)
    whole = load_file(train(config) / "model.safetensors")
    part = replace(config, output=str(tmp_path / "part"))
    train(part)
    (last,) = (tmp_path / "part" / "checkpoints").glob("*4")
    shutil.rmtree(last)  # as if it had been killed after step 2
    parts = load_file(train(part, resume=True) / "model.safetensors")
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)


def test_a_run_goes_on_from_a_tower_and_data_without_texts_is_refused(squares, tmp_path):
    first = train(run(squares, tmp_path / "first", steps=1))
    second = train(run(squares, tmp_path / "second", steps=1, tower=None, init_from=str(first)))
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    with pytest.raises(ValueError, match=r"0 of 18 pictures .* expected at least 2: \.txt files"):
        train(run(squares, tmp_path / "none", pattern="nothing of this"))
    with pytest.raises(ValueError, match="batch_size is 64, expected at most the 17 pairs"):
        train(run(squares, tmp_path / "large", batch_size=64))
    with pytest.raises(ValueError, match="expected either tower or init_from"):
        run(squares, "x", tower=None)
    odd = {"model_type": "clip", "text_config": {"vocab_size": 3}}
    with pytest.raises(ValueError, match=r"vocab_size.*follow from the run"):
        train(run(squares, tmp_path / "odd", tower=odd))


def test_equal_texts_belong_together_and_both_losses_prefer_what_does():
    near = unit(torch.eye(3, 4))
    far = near.roll(1, 0)
    texts, scale = ["a", "b", "c"], torch.tensor(2.0)
    for kind in ("softmax", "sigmoid"):
        right = contrastive_loss(near, near, texts, scale, kind=kind)
        assert right < contrastive_loss(near, far, texts, scale, kind=kind)
    # By transformers' formula where all texts differ.
    logits = scale.exp() * near @ far.T
    wanted = sum(torch.nn.functional.cross_entropy(x, torch.arange(3)) for x in (logits, logits.T))
    assert contrastive_loss(near, far, texts, scale).item() == pytest.approx(wanted.item() / 2)
    # Of two equal texts either may be nearer.
    both = contrastive_loss(near[[0, 0]], near[[0, 0]], ["a", "a"], scale)
    assert both.item() == pytest.approx(np.log(2), abs=1e-5)
    assert contrastive_loss(near[[0, 0]], near[[0, 0]], ["a", "a"], scale, kind="sigmoid") < 0.01
    with pytest.raises(ValueError, match="expected one of softmax, sigmoid"):
        contrastive_loss(near, far, texts, scale, kind="triplet")
