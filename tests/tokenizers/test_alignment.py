"""Codes that are held to the texts beside their media: what is read, what is learnt, and when."""

import io
import json
import math
import tarfile

import jiwer
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unified_base.media_source import Where
from unified_tokenizers.alignment import Alignment, AlignmentSettings
from unified_tokenizers.alignment_texts import AlignedTexts, text_beside, weighed_words
from unified_tokenizers.training import train
from unified_tokenizers.training_config import (
    TokenizerOptimizer,
    TokenizerSchedule,
    TokenizerTraining,
)
from unified_tokenizers.training_media import Pictures, values_of
from unified_tokenizers.training_recordings import Recordings

pytestmark = pytest.mark.usefixtures("torch_threads")

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 160, 30)}
IMAGE = {
    "stride": 4, "quantizer": {"levels": [4, 4, 3], "groups": 2}, "encoder": "conv",
    "encoder_width": 16, "encoder_depths": [1, 0, 0], "decoder_width": 8,
    "decoder_depths": [1, 0, 0],
}  # fmt: skip
AUDIO = {
    "hop": 64, "quantizer": {"levels": [4, 4], "groups": 2}, "num_mels": 8, "encoder": "conv",
    "encoder_width": 8, "encoder_depth": 1, "decoder_width": 8, "decoder_depths": [1, 0],
}  # fmt: skip


def shard(path, members: dict[str, bytes]):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def document(*texts: str) -> bytes:
    segments = [{"type": "text", "text": text, "role": "response"} for text in texts]
    return json.dumps({"segments": [*segments, {"type": "image", "file": "text"}]}).encode()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Squares of three colours in noise, each with its caption; the last has none."""
    rng, members = np.random.default_rng(0), {}
    for number in range(25):
        name = list(COLOURS)[number % 3]
        pixels = rng.integers(0, 60, (8, 12, 3)) + np.array(COLOURS[name])
        stream = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
        members[f"{number}.0.png"] = stream.getvalue()
        if number < 24:
            members[f"{number}.json"] = document("![here]", f"a {name} square")
    return shard(tmp_path_factory.mktemp("pictures") / "train.tar", members)


def run(data, modality="image", **changes) -> TokenizerTraining:
    settings = {
        "modality": modality, "output": "none", "data": (str(data),), "validation": (str(data),),
        "tokenizer": IMAGE if modality == "image" else AUDIO, "steps": 60, "batch_size": 12,
        "optimizer": TokenizerOptimizer(lr=0.01), "crop": 8,
        "schedule": TokenizerSchedule(warmup_steps=2),
    }  # fmt: skip
    return TokenizerTraining(**{**settings, **changes})


def learn(media, steps: int, first: int = 0, lr: float = 0.01) -> None:
    torch.manual_seed(0)
    parameters = [*media.model.parameters(), *media.alignment.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    for step in range(first, first + steps):
        media.batch(media.model, step).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def words_missed(media, step: int = 1) -> float:
    class Unlogged:
        image = audio = staticmethod(lambda *_, **__: None)

    return media.evaluate(media.model.eval(), Unlogged(), step)[media.alignment.figure]


def test_the_first_group_learns_to_name_what_the_pictures_show(pictures):
    torch.manual_seed(1)
    media = Pictures(run(pictures, alignment={"kind": "words", "weight": 1.0}), print)
    before = words_missed(media)
    learn(media, 40)
    assert before > 0.2
    assert words_missed(media) == 0
    # The second group is free: the heads do not look at it.
    values = torch.randn(2, 6, 6)
    other = values.clone()
    other[..., 3:] += 1
    texts = ["a red square", "a blue square"]
    assert media.alignment.errors(values, texts) == media.alignment.errors(other, texts)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_codes_learn_which_text_is_theirs_and_name_classes_in_words(pictures, loss):
    torch.manual_seed(1)
    settings = {"kind": "contrastive", "weight": 1.0, "loss": loss}
    media = Pictures(run(pictures, alignment=settings), print)
    assert media.alignment.figure == "texts_missed"
    before = words_missed(media)
    learn(media, 40, lr=0.001)  # of 0.01 the text tower does not learn
    assert words_missed(media) == 0 < before
    held, texts = media.data.held[0]
    codes = media.model.encode(torch.from_numpy(held).movedim(3, 1)).codes
    classes = [f"a {name} square" for name in COLOURS]
    nearest = media.alignment.name(values_of(media.model, codes), classes)
    pairs = [(classes[number], text) for number, text in zip(nearest, texts) if text]
    assert all(name in text for name, text in pairs)
    # A batch without two texts has nothing to tell apart.
    values = torch.randn(2, 6, 6)
    hidden = torch.randn(2, 6, media.model.config.encoder_width)
    assert media.alignment(hidden, values, ["a red square", None]).item() == 0


def test_as_long_as_the_encoder_learns_alone_it_is_what_is_told_of(pictures):
    torch.manual_seed(1)
    media = Pictures(run(pictures, alignment={"kind": "words", "alone": 40}), print)
    learn(media, 40)
    assert words_missed(media, 40) == 0 < words_missed(media, 41)


def test_alone_nothing_but_the_encoder_learns(pictures):
    media = Pictures(run(pictures, alignment={"kind": "words", "alone": 2}), print)
    before = {name: value.clone() for name, value in media.model.named_parameters()}
    batch = media.batch(media.model, 1)
    assert batch.decoded is None
    assert float(batch.loss.detach()) == pytest.approx(0.5 * batch.alignment)
    batch.loss.backward()
    moved = {name for name, p in media.model.named_parameters() if p.grad is not None}
    assert moved == {name for name in before if name.startswith("encoder.")}
    batch = media.batch(media.model, 2)
    assert batch.decoded is not None
    batch.loss.backward()
    assert all(p.grad is not None for p in media.model.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "letters"}, "kind is 'letters', expected one of 'words', 'ctc' or 'contrastive'"),
        ({"weight": 0}, "alignment: weight is 0, expected more than 0"),
        ({"groups": 0}, "alignment: groups is 0, expected 1 or more"),
        ({"groups": 3}, "alignment.groups is 3, expected at most the quantizer's 2"),
        ({"alone": -1}, "alignment: alone is -1, expected 0 steps or more"),
        ({"decoded": 0}, "alignment: decoded is 0, expected more than 0 and at most 1"),
        ({"pattern": "("}, "alignment: pattern '('"),
        ({"pattern": "purple"}, "none of 25 media has a text with words beside it that 'purple'"),
        ({"letters": 3}, "letters"),
    ],
)
def test_settings_that_cannot_be_are_refused(pictures, changes, words):
    with pytest.raises(ValueError) as error:
        Pictures(run(pictures, alignment=changes), print)
    assert words in str(error.value)


def test_texts_are_found_beside_files_and_in_shards(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.txt").write_text("a cat\n")
    (tmp_path / "b.json").write_bytes(document("one", "two"))
    assert text_beside(Where(str(tmp_path / "a.png"))) == "a cat\n"
    assert text_beside(Where(str(tmp_path / "b.png"))) == "one\ntwo"
    assert text_beside(Where(str(tmp_path / "c.png"))) is None
    path = str(shard(tmp_path / "x.tar", {"d/1.png": b"", "d/1.txt": "eine Föhre".encode()}))
    assert text_beside(Where("d/1.png", path, "d/1")) == "eine Föhre"
    assert text_beside(Where("d/2.png", path, "d/2")) is None
    texts = AlignedTexts("/(.*)/")
    (tmp_path / "e.txt").write_text("listen: /kæt/ there")
    for name in ("a", "e"):
        texts.add(Where(str(tmp_path / f"{name}.png")))
    assert texts.texts == [None, "kæt"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.json", b"{", "is no text"),
        ("a.txt", b"\xff\xfe\xff", "is no text"),
        ("a.txt", b"x" * (1 << 20) + b"x", "1,048,577 bytes"),
        ("a.json", b"[" * 100_000, "is no text"),
    ],
)
def test_texts_that_are_none_are_refused_with_their_name(tmp_path, name, data, words):
    path = str(shard(tmp_path / "x.tar", {name: data}))
    with pytest.raises(ValueError, match=r"x\.tar, member 'a") as error:
        text_beside(Where("a.png", path, "a"))
    assert words in str(error.value)


def test_a_word_weighs_by_how_few_texts_have_it():
    texts = ["a cat", "A dog", "a cat and a cat", None, "一只猫"]
    weights = weighed_words(texts, 99)
    assert weights["cat"] == pytest.approx(math.log(6 / 2))
    assert weights["a"] == pytest.approx(math.log(6 / 3))
    assert {"一", "只", "猫"} <= set(weights)
    assert set(weighed_words(texts, 2)) == {"a", "cat"}


def ctc(texts) -> Alignment:
    torch.manual_seed(0)
    return Alignment(AlignmentSettings(kind="ctc"), texts, 4, 3)


@given(st.text("abc", max_size=6), st.text("abc", min_size=1, max_size=6))
def test_what_frames_spell_is_compared_by_edits(spelt, wanted):
    """The values are made to spell: a head that passes them on, a blank between two letters."""
    alignment = ctc(["abc"])
    alignment._values, alignment.of_values = 4, torch.nn.Identity()
    numbers = [n for letter in spelt for n in (0, " abc".index(letter))] or [0]
    values = torch.eye(4)[numbers][None]
    assert alignment.errors(values, [wanted]) == [pytest.approx(jiwer.cer(wanted, spelt))]


def test_the_loss_of_a_batch_is_the_mean_of_each_text_by_its_letters():
    texts = ["ab", None, "abcab"]
    alignment = ctc(texts)
    features, values = torch.randn(3, 9, 4), torch.randn(3, 9, 6)
    together = alignment(features, values, texts).detach()
    alone = [alignment(features[row : row + 1], values[row : row + 1], [texts[row]])
             for row in (0, 2)]  # fmt: skip
    assert float(together) == pytest.approx(float(sum(alone).detach()) / 2, rel=1e-5)
    # No text at all, or one of more letters than frames: nothing to learn, and no error.
    assert not alignment(features, values, [None] * 3).any()
    assert not alignment(features[:1, :2], values[:1, :2], ["abcab"]).any()


def test_a_recording_that_fits_lies_anywhere_and_has_its_text(tmp_path):
    for name, samples in (("short", 300), ("long", 700)):
        soundfile.write(tmp_path / f"{name}.flac", np.full(samples, 8192, np.int16), 16_000)
        (tmp_path / f"{name}.txt").write_text(name)
    media = Recordings(run(tmp_path, "audio", alignment={"kind": "ctc"}), print)
    starts = set()
    for step in range(4):
        crops, texts = media._crops(step, 0, 1)
        for crop, text in zip(crops, texts):
            loud = np.flatnonzero(crop.numpy())
            assert (text, len(loud)) in (("short", 300), (None, 512))
            starts.add((len(loud), int(loud[0])))
    assert len({start for length, start in starts if length == 300}) > 5
    batch = media.batch(media.model, 0)
    assert batch.decoded.shape == batch.real.shape
    assert batch.alignment > 0


def test_an_adversary_waits_for_something_that_is_decoded(pictures, tmp_path):
    adversary = {"weight": 0.5, "start": 0, "warmup": 1, "width": 4}
    config = run(pictures, alignment={"kind": "words", "alone": 2}, adversary=adversary, steps=3,
                 output=str(tmp_path / "run"))  # fmt: skip
    assert (train(config) / "config.json").exists()


def test_a_part_of_a_batch_is_decoded_and_all_of_it_is_named(pictures):
    config = run(pictures, alignment={"kind": "words", "decoded": 0.4}, batch_size=5)
    media = Pictures(config, lambda text: None)
    batch = media.batch(media.model, 0)
    assert (len(batch.codes), len(batch.real), len(batch.decoded)) == (5, 2, 2)
    config = run(pictures, alignment={"kind": "words"}, batch_size=5)
    whole = Pictures(config, lambda text: None)
    whole.alignment.load_state_dict(media.alignment.state_dict())
    whole.model.load_state_dict(media.model.state_dict())
    assert batch.alignment == whole.batch(whole.model, 0).alignment
