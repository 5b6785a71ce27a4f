"""Continuous positions in the engine: shared beginnings, batches, guidance, and what is refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.grafted import clip_folder, grafted, picture, picture_shards
from unified.dataloading import Source
from unified.engine.backends.base import continuous_positions
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedText
from unified.models.grafting.encoders import load_encoder
from unified.models.model import UnifiedModel
from unified_data.document import Document, Image, Slot, Text

SAMPLING = Sampling(text=SpanSampling(0.9, top_k=None), max_text_ids=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    clip_folder(folder / "clip")
    grafted(folder / "clip").save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module", params=["cpu", "torch_static", "transformers"])
def model(folder, request):
    return UnifiedModel.from_pretrained(folder / "model", backend=request.param)


def document(*prompt):
    return Document((*(Image(p, "prompt") if isinstance(p, np.ndarray) else Text(p, "prompt")
                       for p in prompt), Slot("text", role="response")))  # fmt: skip


def test_positions_are_equal_by_content():
    vectors = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    first, again = continuous_positions(vectors), continuous_positions(vectors.copy())
    assert first == again
    assert len({*first, *again}) == 3
    other = continuous_positions(vectors + 1)
    assert not set(first) & set(other)
    assert first[0] != 0


def test_a_row_is_the_same_alone_and_beside_others(model):
    documents = [
        document(picture(1)), document("what is it?"), document(picture(2), "a cat"),
        document("eats", picture(3)), document(picture(1)),
    ]  # fmt: skip
    seeds = [3, 4, 5, 6, 3]
    alone = [
        model.generate(own, seed=seed, sampling=SAMPLING)[0] for own, seed in zip(documents, seeds)
    ]
    done = {}
    for event in model.stream(documents, SAMPLING, seeds):
        if hasattr(event, "document"):
            done[event.row] = event.document
    assert [done[row].segments[-1].text for row in range(5)] == [
        whole.segments[-1].text for whole in alone
    ]
    assert done[0].segments[-1].text == done[4].segments[-1].text


def test_a_picture_seen_before_is_not_read_again(model):
    model.limit_engine()
    list(model.stream([document(picture(4), "a red panda")], SAMPLING, [0]))
    before = model.engine.counters
    list(model.stream([document(picture(4), "a blue cat")], SAMPLING, [1]))
    after = model.engine.counters
    assert after.prefix_ids - before.prefix_ids >= 16 + 3  # <bos> <prompt> <image> and its vectors
    list(model.stream([document(picture(5), "a blue cat")], SAMPLING, [1]))
    assert model.engine.counters.prefix_ids - after.prefix_ids <= 3


def test_guidance_leaves_pictures_out_or_keeps_them(model):
    guided = replace(SAMPLING, text=SpanSampling(0.0, guidance=Guidance(3.0)))
    plain = replace(SAMPLING, text=SpanSampling(0.0))
    texts = {
        kind: [
            model.generate(document(picture(seed)), sampling=sampling)[0].segments[-1].text
            for seed in range(4)
        ]
        for kind, sampling in (("guided", guided), ("plain", plain))
    }
    assert texts["guided"] != texts["plain"]


def segment_of(model, vectors):
    (coded, _) = model.sequencer.code(document(picture()))
    return replace(coded, features=vectors)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((16, 25), "have 25 numbers, the decoder's embeddings have 24"),
        (
            (17, 24),
            r"of shape \(17, 24\), expected numbers \(16, width\): one vector for each of its 16",
        ),
    ],
)
def test_vectors_that_do_not_fit_are_refused_before_anything_runs(model, shape, words):
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    segment = segment_of(model, np.zeros(shape, np.float32))
    request = Request((segment, CodedSlot("text", role="response")), 0)
    with pytest.raises(
        ValueError, match=f"segment 0 .image.: its {words}|segment 0 .image.*{words}"
    ):
        engine.add(request, print)
    assert engine.counters.passes == 0


def test_a_picture_without_vectors_is_refused(model):
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    request = Request((segment_of(model, None), CodedSlot("text", role="response")), 0)
    with pytest.raises(ValueError, match="reads image as vectors and the segment has none"):
        engine.add(request, print)
    text = Request((CodedText((1, 2), "prompt"), CodedSlot("image", role="response")), 0)
    with pytest.raises(ValueError):
        engine.add(text, print)


def test_parts_of_other_models_are_refused(folder, tmp_path):
    model = UnifiedModel.from_pretrained(folder / "model")
    with pytest.raises(ValueError, match="cannot listen"):
        model.listen(np.zeros(100, np.float32), 16_000)
    with pytest.raises(ValueError, match="layer is 9, expected -4 to 3"):
        load_encoder(folder / "clip", layer=9)
    shutil.copytree(folder / "model", tmp_path / "wide")
    entry = json.loads((tmp_path / "wide/image_connector/connector.json").read_text())
    entry["output_width"] = 25
    (tmp_path / "wide/image_connector/connector.json").write_text(json.dumps(entry))
    with pytest.raises(ValueError, match="output_width is 25, but the decoder's"):
        UnifiedModel.from_pretrained(tmp_path / "wide")
    shutil.copytree(folder / "model", tmp_path / "other")
    shutil.rmtree(tmp_path / "other/image_encoder")
    shutil.copytree(clip_folder(tmp_path / "clip", layers=2), tmp_path / "other/image_encoder")
    with pytest.raises(ValueError, match=r"the encoder of image has fingerprint .* made for"):
        UnifiedModel.from_pretrained(tmp_path / "other").describe(picture())


def test_features_stored_for_another_encoder_are_refused(folder, tmp_path):
    from unified.dataloading import Loader
    from unified.dataloading.codes_of_sources import prepare_sources

    model = UnifiedModel.from_pretrained(folder / "model")
    shards = picture_shards(tmp_path / "shards", 2)
    sources = prepare_sources(
        {"pairs": Source(str(shards))}, model.sequencer, tmp_path / "codes", live=False
    )
    batch = next(iter(Loader(sources, model.sequencer, 64, streams=1)))
    assert batch.embedded[0].features.dtype == np.float16
    assert batch.embedded[0].features.shape == (4, 4, 20)
    other = grafted(clip_folder(tmp_path / "clip", layers=2))
    with pytest.raises(ValueError, match=r"holds image features for encoder .* was\s+made for"):
        Loader(sources, other.sequencer, 64, streams=1)
    index = next((tmp_path / "codes").glob("*/index.json"))
    assert json.loads(index.read_text())["codes"]["image"]["embeds"] == "image"
