"""Towers: what transformers makes of their folders, what they see, what is refused."""

import json

import numpy as np
import pytest
import torch
from small_tower import ENTRIES, small_tower, square
from transformers import AutoModel, AutoTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from unified.matching.tower import Tower
from unified.matching.tower_distortion import distorted
from unified.matching.tower_files import make_parts
from unified.matching.tower_pictures import TowerPictures
from unified.vocabulary.text_tokenizer import TextTokenizer


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_saved_tower_is_what_transformers_opens_and_comes_back_the_same(kind, tmp_path):
    tower = small_tower(kind)
    tower.save_pretrained(tmp_path / "tower")
    again = Tower.from_pretrained(tmp_path / "tower")
    texts, pictures = ["a red square", "a blue one"], [square("red"), square("blue", 1, 41, 33)]
    assert again.fingerprint == tower.fingerprint != small_tower(kind, seed=1).fingerprint
    assert np.array_equal(again.embed_texts(texts), tower.embed_texts(texts))
    # Its own classes and files alone, as anybody would open it.
    model = AutoModel.from_pretrained(tmp_path / "tower").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tower")
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path / "tower")
    longest = {"padding": "max_length", "max_length": 20} if kind == "siglip" else {"padding": True}
    inputs = tokenizer(texts, return_tensors="pt", **longest)
    inputs.pop("token_type_ids", None)
    if kind == "siglip":
        inputs.pop("attention_mask")
    with torch.inference_mode():
        output = model(**inputs, **processor(pictures, return_tensors="pt"))
    assert np.allclose(again.embed_texts(texts), output.text_embeds.numpy(), atol=1e-5)
    assert np.allclose(again.embed_pictures(pictures), output.image_embeds.numpy(), atol=1e-5)
    assert again.embed_texts([]).shape == (0, again.width)


@pytest.mark.parametrize(
    ("processor", "entries"),
    [(CLIPImageProcessorPil, {"size": {"shortest_edge": 24},
                              "crop_size": {"height": 24, "width": 24}}),
     (SiglipImageProcessorPil, {"size": {"height": 20, "width": 28}, "resample": 2})],
)  # fmt: skip
def test_pictures_are_seen_as_the_published_processors_have_it(processor, entries):
    published = processor(**entries)
    ours = TowerPictures.from_entries(json.loads(published.to_json_string()), "the processor")
    for height, width in ((37, 53), (90, 25), (11, 12), (24, 24)):
        pixels = square("green", height, height, width)
        expected = published(pixels, return_tensors="pt")["pixel_values"]
        assert torch.allclose(ours.batch([pixels]), expected, atol=1e-5), (height, width)


def test_a_tower_of_convolutions_alone_comes_back_the_same(tmp_path):
    resnet = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12],
              "depths": [1, 1], "layer_type": "basic"}  # fmt: skip
    kind = "vision-text-dual-encoder"
    text = TextTokenizer.train(["a red square"] * 4, 262)
    tower = Tower(make_parts({**ENTRIES[kind], "vision_config": resnet}, text, 32, 20, "the test"))
    tower.model.eval()
    tower.save_pretrained(tmp_path / "tower")
    again = Tower.from_pretrained(tmp_path / "tower")
    pictures = [square("red"), square("blue", 1, 41, 33)]
    vectors = again.embed_pictures(pictures)
    assert vectors.shape == (2, tower.width)
    assert np.array_equal(vectors, tower.embed_pictures(pictures))


def test_distortion_is_a_function_of_its_seed_and_nothing_at_zero():
    pixels = torch.linspace(-1, 1, 2 * 3 * 9 * 13).view(2, 3, 9, 13)
    assert torch.equal(distorted(pixels, 0.0, 5), pixels)
    once, again, other = (distorted(pixels, 0.7, seed) for seed in (5, 5, 6))
    assert once.shape == pixels.shape
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    small = distorted(pixels, 1e-4, 5)  # what is little distorted is nearly what it was
    assert torch.allclose(small, pixels, atol=1e-2)


def test_the_likeliest_class_comes_first_and_shares_add_up_to_one():
    tower = small_tower()
    classes = ["red", "green", "blue"]
    likeliest = tower.classify(square("red"), classes, "a {} square")
    assert {each.name for each in likeliest} == set(classes)
    shares = [each.probability for each in likeliest]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    texts = tower.embed_texts([f"a {name} square" for name in classes])
    best = int(np.argmax(texts @ tower.embed_pictures([square("red")])[0]))
    assert likeliest[0].name == classes[best]
    for wrong in ([], ["red", "red"]):
        with pytest.raises(ValueError, match="expected different ones"):
            tower.classify(square("red"), wrong)
    with pytest.raises(ValueError, match=r"expected \{\} in it"):
        tower.classify(square("red"), classes, "a square")


def test_a_typed_end_is_text_and_a_long_text_is_refused():
    tower = small_tower()
    (typed,) = tower.text_ids(["a<|endoftext|>"])
    assert typed.count(tower.tokenizer.eos_token_id) == 1
    with pytest.raises(ValueError, match="expected at most 20"):
        tower.embed_texts(["a red square " * 9])


def test_what_is_no_tower_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"no config\.json"):
        Tower.from_pretrained(tmp_path)
    small_tower().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    with pytest.raises(ValueError, match="model_type is 'vit', expected one of clip, siglip"):
        Tower.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        Tower.from_pretrained(tmp_path)
    for entries, message in (
        ({"do_pad": True}, "not padded"), ({"image_mean": [0.5]}, "three numbers"),
        ({"size": {"shortest_edge": 8}}, "may be smaller"), ({"do_resize": False}, "expected true"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            TowerPictures.from_entries({**TowerPictures.square(32).to_entries(), **entries}, "x")
