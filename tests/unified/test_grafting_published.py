"""Published models that see: a description is what transformers' own model writes."""

from pathlib import Path

import pytest
import torch

from tests.helpers.grafted import picture
from tests.helpers.seeing_checkpoints import llava, llava_onevision
from unified.models.model import UnifiedModel

GREEDY = {"temperature": 0.0, "max_text_ids": 8}


@pytest.fixture(scope="module")
def llava_15(tmp_path_factory):
    return llava(tmp_path_factory.mktemp("llava"))


def written_by_transformers(checkpoint, parts, pixels, number, text_ids, end):
    """The ids that greedy decoding by the whole model gives, among text and the end."""
    values = checkpoint.processor(pixels, return_tensors="pt")
    ids, own = torch.tensor([parts]), []
    with torch.no_grad():
        for _ in range(number):
            logits = checkpoint.hf(input_ids=ids, **values).logits[0, -1]
            best = max([*text_ids, *[end] * bool(own)], key=lambda id: float(logits[id]))
            if best == end:
                break
            own.append(best)
            ids = torch.cat([ids, torch.tensor([[best]])], 1)
    return own


def text_ids(model):
    return [id for start, stop in model.vocabulary.text_ranges for id in range(start, stop)]


@pytest.mark.parametrize("backend", ["transformers", "torch_static", "cpu"])
def test_llava_describes_as_transformers_does(llava_15, backend):
    model = UnifiedModel.from_pretrained(llava_15.folder, backend=backend)
    text, tokens = llava_15.text, llava_15.text.tokens
    parts = [
        tokens["<s>"], *text.encode("USER: "), *[tokens["<image>"]] * 16,
        *text.encode("\nDescribe the image in detail. ASSISTANT:"),
    ]  # fmt: skip
    among, end = text_ids(model), tokens["</s>"]
    expected = written_by_transformers(llava_15, parts, picture(), 8, among, end)
    assert len(expected) > 3
    assert model.describe(picture(), **GREEDY) == text.decode(expected)
    assert model.decoder().backend == backend


def test_llava_comes_back_from_its_folder(llava_15, tmp_path):
    model = UnifiedModel.from_pretrained(llava_15.folder)
    asked = model.ask(picture(3), "What is it?", **GREEDY)
    model.save_pretrained(tmp_path / "saved")
    again = UnifiedModel.from_pretrained(tmp_path / "saved")
    assert again.ask(picture(3), "What is it?", **GREEDY) == asked
    assert not list(Path(tmp_path / "saved").glob("*connector*"))
    with pytest.raises(ValueError, match="reads pictures and writes text alone"):
        again.draw("a cat")


@pytest.mark.parametrize(("height", "width"), [(40, 31), (20, 70)])
def test_llava_onevision_reads_tiles_as_transformers_does(tmp_path, height, width):
    checkpoint = llava_onevision(tmp_path / "published")
    text, tokens, pixels = checkpoint.text, checkpoint.text.tokens, picture(1, height, width)
    model = UnifiedModel.from_pretrained(checkpoint.folder)
    values = checkpoint.processor(pixels, return_tensors="pt")
    with torch.no_grad():
        vectors = checkpoint.hf.get_image_features(**values, return_dict=True).pooler_output[0]
    assert len(vectors) > 32  # more than one tile, and the whole
    parts = [
        tokens["<|im_start|>"], *text.encode("user "), *[tokens["<image>"]] * len(vectors),
        *text.encode("\nWhat is it?"), tokens["<|im_end|>"], tokens["<|im_start|>"],
        *text.encode("assistant\n"),
    ]  # fmt: skip
    end = tokens["<|im_end|>"]
    expected = written_by_transformers(checkpoint, parts, pixels, 5, text_ids(model), end)
    choices = {**GREEDY, "max_text_ids": 5}
    assert model.ask(pixels, "What is it?", **choices) == text.decode(expected)
    model.save_pretrained(tmp_path / "saved")
    again = UnifiedModel.from_pretrained(tmp_path / "saved")
    assert again.ask(pixels, "What is it?", **choices) == text.decode(expected)
