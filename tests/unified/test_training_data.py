"""Documents to training rows: what is kept with every id, caching, shares, and padding."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unified.format_spec import load_format
from unified.grammar import MODALITIES, Grammar
from unified.sequence import Sequencer
from unified.text import TextTokenizer
from unified.training_data import (
    Examples,
    Source,
    find_shards,
    load_examples,
    plan_steps,
    rows,
    share_ranges,
    weigh,
)
from unified.vocabulary import Vocabulary
from unified_data.document import Audio, Document, Image, Text
from unified_data.shards import ShardWriter, read_shards

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def sequencer(tiny_tokenizers) -> Sequencer:
    image, audio = tiny_tokenizers
    text = TextTokenizer.train(["a cat on a blue ground", "two cats", "the giant panda"], 270)
    vocabulary = Vocabulary.build(
        text.size, text.size, load_format("pocket").markers, 9,
        image=(image.codebook_sizes, image.fingerprint),
        audio=(audio.codebook_sizes, audio.fingerprint),
    )  # fmt: skip
    return Sequencer(vocabulary, Grammar.load("pocket", vocabulary), text, image, audio)


@pytest.fixture(scope="module")
def articles(sequencer, tmp_path_factory) -> Examples:
    cache = tmp_path_factory.mktemp("ids")
    return load_examples(str(SAMPLE / "heldout-article-*.tar"), sequencer, cache)


def made(*lengths: int, start: int = 0) -> Examples:
    """Examples of the given lengths; every id is its place, so that rows can be told apart."""
    total = sum(lengths)
    ids = np.arange(start, start + total, dtype=np.int32)
    return Examples(
        ids, np.ones(total, np.float32), (ids % 2).astype(np.int16), (ids % 4).astype(np.uint8),
        np.cumsum([0, *lengths]), (((0, 9),), ((3, 5), (7, 8))),
    )  # fmt: skip


def test_a_source_weighs_its_answers_and_the_media_of_its_prompts():
    loss = np.array([0, 0, 0, 0, 1, 0.5, 1, 0], np.float32)
    names = ["marker", "image", "audio", "text", "image", "audio", "text", "image"]
    modality = np.array([MODALITIES[name] for name in names], np.uint8)
    examples = replace(made(8), loss=loss, modality=modality)
    weighed = weigh(examples, Source("x.tar", weight=3.0, media_loss=0.25))
    np.testing.assert_array_equal(weighed.loss, [0, 0.25, 0.25, 0, 3, 1.5, 3, 0.25])
    assert weighed.loss.dtype == np.float32
    np.testing.assert_array_equal(weigh(examples, Source("x.tar")).loss, loss)
    with pytest.raises(ValueError, match=r"media_loss of x\.tar is -1, expected 0 or more"):
        Source("x.tar", media_loss=-1)


def test_the_sample_becomes_the_sequences_that_its_documents_have(sequencer, articles):
    documents = [d for _, d in read_shards(SAMPLE / "heldout-article-00000.tar")]
    assert len(articles) == len(documents)
    for index, document in enumerate(documents):
        sequence = sequencer.encode(document)
        part = slice(articles.offsets[index], articles.offsets[index + 1])
        np.testing.assert_array_equal(articles.ids[part], sequence.ids)
        np.testing.assert_array_equal(articles.loss[part], sequence.loss)
        np.testing.assert_array_equal(articles.modality[part], sequence.modality)
        assert articles.lengths[index] == len(sequence.ids)
        assert articles.loss[part][0] == 0
    assert set(articles.modality) == set(MODALITIES.values())


@pytest.mark.parametrize("kind", ["article", "draw", "ask", "listen"])
def test_every_id_lies_in_the_ranges_that_the_grammar_allows_there(sequencer, tmp_path, kind):
    examples = load_examples(str(SAMPLE / f"heldout-{kind}-*.tar"), sequencer, tmp_path)
    for id, number in zip(examples.ids.tolist(), examples.allowed.tolist()):
        assert any(start <= id < stop for start, stop in examples.ranges[number])
    for first in examples.offsets[:-1]:
        assert examples.ids[first] == sequencer.vocabulary.marker("<bos>")
    for last in examples.offsets[1:] - 1:
        assert examples.ids[last] == sequencer.vocabulary.marker("<eos>")
    codes = examples.modality == MODALITIES["image"]
    size = sequencer.image_tokenizer.codebook_sizes[0]
    for number in set(examples.allowed[codes].tolist()):
        (start, stop), *more = examples.ranges[number]
        assert (stop - start, more) == (size, [])


def test_the_second_time_is_read_from_the_cache(sequencer, tmp_path, monkeypatch):
    pattern = str(SAMPLE / "heldout-describe-*.tar")
    first = load_examples(pattern, sequencer, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [path.suffix for path in files] == [".npz"]
    monkeypatch.setattr(sequencer.image_tokenizer, "encode", None)
    second = load_examples(pattern, sequencer, tmp_path)
    assert sorted(tmp_path.iterdir()) == files
    for name in ("ids", "loss", "allowed", "modality", "offsets"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert getattr(first, name).dtype == getattr(second, name).dtype
    assert first.ranges == second.ranges


def test_the_cache_is_bound_to_the_vocabulary_and_the_shard(sequencer, tmp_path):
    shard = write(tmp_path, [Document((Text("a cat"),))])
    cache = tmp_path / "ids"
    first = load_examples(str(shard), sequencer, cache)
    wider = Vocabulary.build(
        sequencer.vocabulary.text_size, sequencer.vocabulary.text_size + 5,
        load_format("pocket").markers, 9,
        image=(sequencer.image_tokenizer.codebook_sizes, None),
        audio=(sequencer.audio_tokenizer.codebook_sizes, None),
    )  # fmt: skip
    other = Sequencer(
        wider, Grammar.load("pocket", wider), sequencer.text_tokenizer,
        sequencer.image_tokenizer, sequencer.audio_tokenizer,
    )  # fmt: skip
    moved = load_examples(str(shard), other, cache)
    assert moved.ids[0] == first.ids[0] + 5
    write(tmp_path, [Document((Text("two cats"),))])
    assert not np.array_equal(load_examples(str(shard), sequencer, cache).ids, first.ids)


def write(folder: Path, documents: list[Document]) -> Path:
    with ShardWriter(folder, "train", "mixed") as writer:
        for index, document in enumerate(documents):
            writer.write(f"k{index}", document)
    return folder / writer.shards[0].file


def test_pictures_coded_together_have_the_codes_they_have_alone(sequencer, tmp_path):
    rng = np.random.default_rng(0)
    pictures = [Image(rng.integers(0, 256, (48, 24, 3), dtype=np.uint8)) for _ in range(3)]
    sounds = [
        Audio(rng.uniform(-0.5, 0.5, (1, n)).astype(np.float32), 16_000) for n in (3200, 6400, 6400)
    ]
    documents = [
        Document((pictures[a], Text("cats"), sounds[b], pictures[c]))
        for a, b, c in ((0, 0, 1), (2, 1, 0), (1, 2, 2))
    ]
    shard = write(tmp_path, documents)
    examples = load_examples(str(shard), sequencer, tmp_path / "ids")
    expected = [sequencer.encode(document).ids for _, document in read_shards(shard)]
    np.testing.assert_array_equal(examples.ids, np.concatenate(expected))


def test_a_limit_reads_no_more_documents(sequencer, tmp_path):
    pattern = str(SAMPLE / "train-draw-*.tar")
    few = load_examples(pattern, sequencer, tmp_path, limit=3)
    assert len(few) == 3
    names = [key for key, _ in zip(read_shards(SAMPLE / "train-draw-00000.tar"), range(3))]
    assert [len(sequencer.encode(document).ids) for _, document in names] == few.lengths.tolist()


def test_a_round_trip_gives_the_codes_of_what_the_tokenizer_gives_back(sequencer, tmp_path):
    rng = np.random.default_rng(1)
    picture = Image(rng.integers(0, 256, (24, 48, 3), dtype=np.uint8))
    sound = Audio(rng.uniform(-0.5, 0.5, (1, 6400)).astype(np.float32), 16_000)
    shard = str(write(tmp_path, [Document((picture, sound))]))
    image, audio = sequencer.image_tokenizer, sequencer.audio_tokenizer
    pixels = torch.from_numpy(picture.pixels.transpose(2, 0, 1).copy())[None]
    restored = (image.decode(image.encode(pixels)) * 255).round().byte()
    heard = audio.decode(audio.encode(torch.from_numpy(sound.waveform)[None]))
    again = Document(
        (
            Image(restored[0].numpy().transpose(1, 2, 0).copy()),
            Audio(heard[0].numpy(), 16_000),
        )
    )
    cache = tmp_path / "ids"
    plain = load_examples(shard, sequencer, cache)
    tripped = load_examples(shard, sequencer, cache, round_trip=True)
    np.testing.assert_array_equal(tripped.ids, sequencer.encode(again).ids)
    assert not np.array_equal(tripped.ids, plain.ids)
    np.testing.assert_array_equal(load_examples(shard, sequencer, cache).ids, plain.ids)


def test_noise_shows_other_codes_of_the_same_block_and_asks_for_the_true_ones(sequencer, tmp_path):
    examples = load_examples(str(SAMPLE / "heldout-article-*.tar"), sequencer, tmp_path)
    noisy = weigh(examples, Source("x.tar", noise=0.3))
    chosen = [(0, index) for index in range(len(noisy))]

    def shown(seed: int | None) -> tuple[np.ndarray, ...]:
        rng = None if seed is None else np.random.default_rng(seed)
        found = []
        for batch in rows([noisy], chosen, 2000, rng):
            inside = batch.ids != 0
            found.append([c[inside].numpy() for c in (batch.ids, batch.shown, batch.modality)])
        return tuple(np.concatenate(column) for column in zip(*found))

    ids, seen, modality = shown(4)
    changed = ids != seen
    codes = np.isin(modality, (MODALITIES["image"], MODALITIES["audio"]))
    assert not changed[~codes].any()
    for name in ("image", "audio"):
        # Many of the codes drawn are the ones that stood there: these have few.
        assert 0.03 < changed[modality == MODALITIES[name]].mean() <= 0.33
    blocks = sequencer.vocabulary.blocks
    for before, after in zip(ids[changed], seen[changed]):
        assert any(
            block.start <= before < block.stop and block.start <= after < block.stop
            for block in blocks
        )
    np.testing.assert_array_equal(shown(4)[1], seen)
    assert not np.array_equal(shown(5)[1], seen)
    np.testing.assert_array_equal(shown(None)[1], shown(None)[0])
    with pytest.raises(ValueError, match=r"noise of x\.tar is 1\.5, expected at least 0"):
        Source("x.tar", noise=1.5)


def test_missing_shards_say_what_to_do(tmp_path):
    for pattern in ("train-*.tar", "train.tar"):
        with pytest.raises(ValueError, match=r"no shards match .* build the data first"):
            find_shards(str(tmp_path / pattern))
    assert [p.name for p in find_shards(str(SAMPLE / "heldout-d*.tar"))] == [
        "heldout-describe-00000.tar",
        "heldout-draw-00000.tar",
    ]
    with pytest.raises(ValueError, match="share of x is 0, expected more than 0"):
        Source("x", share=0)


def test_sharing_ranges_keeps_what_every_position_is_allowed():
    one, two = made(3, 2), replace(made(4), ranges=(((3, 5), (7, 8)), ((1, 2),)))
    shared = share_ranges([one, two])
    assert shared[0].ranges == shared[1].ranges
    assert len(shared[0].ranges) == 3
    for before, after in zip((one, two), shared):
        assert [before.ranges[n] for n in before.allowed] == [
            after.ranges[n] for n in after.allowed
        ]


def test_a_plan_gives_every_source_its_share_of_the_ids():
    sources = [made(*[10] * 50), made(*range(20, 60)), made(*[3] * 200)]
    shares = [0.5, 0.3, 0.2]
    plan = plan_steps(sources, shares, ids_per_step=500, steps=90, seed=1)
    seen = np.zeros(3)
    for step in plan:
        ids = 0
        for source, document in step:
            assert ids < 500
            ids += sources[source].lengths[document]
            seen[source] += sources[source].lengths[document]
        assert ids >= 500
    np.testing.assert_allclose(seen / seen.sum(), shares, atol=0.03)


def test_a_plan_shows_every_document_before_any_for_the_second_time():
    sources = [made(*[5] * 7), made(*[4] * 3)]
    pairs = [p for step in plan_steps(sources, [1, 1], 40, 30, seed=2) for p in step]
    for source, examples in enumerate(sources):
        order = [document for which, document in pairs if which == source]
        epochs = [order[i : i + len(examples)] for i in range(0, len(order), len(examples))]
        assert all(sorted(epoch) == list(range(len(examples))) for epoch in epochs[:-1])
        assert len({tuple(epoch) for epoch in epochs[:-1]}) > 1


def test_a_plan_follows_from_the_seed_and_a_longer_one_begins_the_same():
    sources = [made(*[5] * 7), made(*[4] * 3)]
    plan = plan_steps(sources, [1, 2], 30, 8, seed=3)
    assert plan_steps(sources, [1, 2], 30, 12, seed=3)[:8] == plan
    assert plan_steps(sources, [1, 2], 30, 8, seed=4) != plan


def test_rows_hold_every_chosen_document_once_and_keep_their_bound():
    sources = [made(2, 7, 3, 30), made(5, 5, 1, start=100)]
    chosen = [(0, 1), (1, 0), (0, 3), (0, 0), (1, 2), (0, 2), (1, 1), (1, 1)]
    batches = list(rows(sources, chosen, padded_ids=21))
    found = []
    for batch in batches:
        assert batch.ids.shape == batch.loss.shape == batch.allowed.shape == batch.modality.shape
        assert batch.ids.numel() <= 21 or len(batch.ids) == 1
        assert batch.num_ids == int((batch.loss > 0).sum())
        for row in range(len(batch.ids)):
            length = int((batch.loss[row] > 0).sum())
            assert batch.loss[row, length:].sum() == 0
            ids = batch.ids[row, :length]
            assert torch.equal(batch.allowed[row, :length], ids % 2)
            assert torch.equal(batch.modality[row, :length], ids % 4)
            found.append(tuple(ids.tolist()))
    expected = [
        tuple(sources[s].ids[sources[s].offsets[d] : sources[s].offsets[d + 1]]) for s, d in chosen
    ]
    assert sorted(found) == sorted(expected)
