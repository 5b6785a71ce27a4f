"""Evaluation: the judge is right on true pictures, and what a perfect model does counts as such."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from unified.engine.events import Done
from unified.evaluation import article_scores
from unified.evaluation import pocket as evaluation_pocket
from unified.evaluation.judges import (
    GlyphJudge,
    corpus_word_error_rate,
    word_error_rate,
    word_recall,
    words,
)
from unified.pocket.article_plan import ArticlePlan
from unified_data.document import Audio, Document, Image, Slot, Text
from unified_data.pocket.articles import article_document, default_plan
from unified_data.pocket.scenes import BACKGROUNDS, Scene, parse_caption, questions, render
from unified_data.pocket.subjects import find_subject, load_subjects

NAMES = ("cat", "tiger", "lion", "lemon", "banana", "moon", "cloud", "snowman", "ring", "axe")
SUBJECTS = [find_subject(name) for name in NAMES]
CAT, LEMON, CLOUD = (find_subject(name) for name in ("cat", "lemon", "cloud"))


@pytest.fixture(scope="module")
def judge():
    return GlyphJudge(SUBJECTS)


@pytest.mark.parametrize("number", range(len(SUBJECTS)))
def test_the_judge_names_one_thing_and_where_it_lies(judge, number):
    subject, background = SUBJECTS[number], list(BACKGROUNDS)[number % len(BACKGROUNDS)]
    large = judge.best(render(Scene("one", subject, background)))
    assert (large.subject, large.y, large.x, large.side) == (subject, 6, 6, 84)
    assert large.score == pytest.approx(1, abs=0.01)
    small = judge.best(render(Scene("placed", subject, background, location="at the bottom left")))
    assert (small.subject, small.y, small.x, small.side) == (subject, 50, 2, 44)


def test_the_judge_finds_a_glyph_where_the_world_puts_none(judge):
    pixels = np.full((96, 130, 3), BACKGROUNDS["pink"], np.uint8)
    large = render(Scene("one", CAT, "pink"))
    pixels[9:, 31:127] = large[:87]
    match = judge.best(pixels)
    assert match.subject == CAT
    assert abs(match.y - 15) <= 2
    assert abs(match.x - 37) <= 2


def test_the_judge_names_two_things_of_very_unequal_contrast(judge):
    for relation in ("to the left of", "above"):
        scene = Scene("two", CAT, relation=relation, other=CLOUD)
        drawing = evaluation_pocket.judge_scene(judge, scene, render(scene))
        assert drawing.named == (CAT, CLOUD)
        assert drawing.right
        assert drawing.in_place
        turned = replace(scene, subject=CLOUD, other=CAT)
        drawing = evaluation_pocket.judge_scene(judge, turned, render(scene))
        assert drawing.right
        assert not drawing.in_place


def test_the_judge_is_not_lenient(judge):
    scene = Scene("two", CAT, relation="above", other=LEMON)
    only_cat = render(Scene("one", CAT))
    assert not evaluation_pocket.judge_scene(judge, scene, only_cat).right
    two_cats = render(Scene("counted", CAT, count=2))
    assert not evaluation_pocket.judge_scene(judge, scene, two_cats).right
    assert not evaluation_pocket.judge_scene(judge, Scene("one", LEMON), only_cat).right
    for subject in SUBJECTS:
        blank = np.full((96, 96, 3), 255, np.uint8)
        assert not evaluation_pocket.judge_scene(judge, Scene("one", subject), blank).right


def test_two_of_a_thing_must_both_be_it(judge):
    scene = Scene("counted", CAT, "green", count=2)
    assert evaluation_pocket.judge_scene(judge, scene, render(scene)).right
    with_lemon = Scene("two", CAT, "green", relation="to the left of", other=LEMON)
    drawing = evaluation_pocket.judge_scene(judge, scene, render(with_lemon))
    assert set(drawing.named) == {CAT, LEMON}
    assert not drawing.right
    with pytest.raises(ValueError, match="one or two things, the scene has 3"):
        evaluation_pocket.judge_scene(judge, replace(scene, count=3), render(scene))


def test_the_judge_refuses_what_is_no_picture(judge):
    with pytest.raises(ValueError, match="uint8"):
        judge.best(np.zeros((96, 96, 3), np.float32))
    with pytest.raises(ValueError, match="60x96 pixels, expected at least 84x84"):
        judge.best(np.zeros((60, 96, 3), np.uint8))
    with pytest.raises(ValueError, match="no subjects"):
        GlyphJudge([])


def test_word_arithmetic():
    assert words("It's a Yo-yo, isn't it?") == ["its", "a", "yo", "yo", "isnt", "it"]
    assert word_recall("one two three four", "four one x three") == 0.5
    assert word_recall("one two", "and one and then two") == 1
    assert word_recall("one", "") == 0
    for measure in (word_error_rate, word_recall):
        with pytest.raises(ValueError, match="no"):
            measure("...", "a cat")


@pytest.mark.parametrize(
    ("pairs", "rate"),
    [
        ([("A cat sat.", "a cat, SAT")], 0),
        ([("one two three four", "one too three")], 0.5),  # one replaced, one deleted
        ([("one", "one and two more")], 3),  # three inserted: a rate may pass 1
        ([("one two", "")], 1),
        ([("one two", "...")], 1),
        ([("one two", "two one")], 1),  # two that swap are two edits
        ([("the cat sat on the mat", "cat sat on that mat")], 1 / 3),
        ([("a b c d e f g", "b c x d e f g h")], 3 / 7),
        ([("It's a dog", "its a dog")], 0),  # apostrophes are dropped
        ([("a yo-yo", "a yo yo")], 0),  # other punctuation splits
        ([("Ça va, Zoë?", "ça va zoe")], 1 / 3),
        ([("猫 犬", "猫")], 0.5),
        ([("one", "two"), ("a b c", "a b c")], 0.25),  # over all words: not the mean of 1 and 0
        ([("one two", "one"), ("...", "three four"), ("five", "")], 4 / 3),  # nothing said, heard
        ([("", ""), ("one two", "one two")], 0),
    ],
)
def test_word_error_rates_are_edits_over_the_words_of_all_references(pairs, rate):
    assert corpus_word_error_rate(iter(pairs)) == rate
    if len(pairs) == 1:
        assert word_error_rate(*pairs[0]) == rate


@pytest.mark.parametrize("pairs", [[], [("", "a cat")], [("", ""), ("?!", "a")]])
def test_without_a_word_in_any_reference_there_is_no_error_rate(pairs):
    with pytest.raises(ValueError, match="no reference with words in it"):
        corpus_word_error_rate(pairs)


def test_an_error_rate_without_jiwer_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ValueError, match=r"needs jiwer, .* 'unified-tokens\[measure\]'"):
        word_error_rate("one", "one")


class Oracle:
    """Answers as the world does: reads captions and recognises the pictures it was told of."""

    def __init__(self, texts):
        self.texts = texts

    def stream(self, documents, sampling=None, seeds=None):
        assert list(seeds) == [0] * len(documents)
        for row in reversed(range(len(documents))):  # rows may end in any order
            first, *rest, slot = documents[row].segments
            assert isinstance(slot, Slot)
            assert slot.role == "response"
            if slot.modality == "image":
                answer = Image(render(parse_caption(re.fullmatch(r"!\[(.*)\]", first.text)[1])))
            else:
                question = rest[0].text if rest else None
                answer = Text(self.texts[first.pixels.tobytes(), question])
            filled = Document((first, *rest, answer))
            yield Done(row, filled, np.zeros(0, np.int64), {}, {})


def test_a_perfect_model_is_measured_as_perfect(judge):
    scenes = [
        Scene("one", LEMON, "blue"),
        Scene("placed", CAT, location="in the middle"),
        Scene("two", CLOUD, "grey", relation="below", other=CAT),
    ]
    rng = np.random.default_rng(0)
    asked = [(scene, *turn) for scene in scenes for turn in questions(scene, rng)]
    truth = {(render(scene).tobytes(), None): scene.caption for scene in scenes}
    truth |= {(render(scene).tobytes(), question): answer for scene, question, answer in asked}
    seen = []
    drawn = evaluation_pocket.draw(Oracle(truth), judge, scenes, lambda *n: seen.append(n))
    assert all(drawing.right and drawing.in_place for drawing in drawn)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    described = evaluation_pocket.describe(Oracle(truth), scenes)
    assert all(answer.named and answer.exact for answer in described)
    assert all(answer.exact for answer in evaluation_pocket.ask(Oracle(truth), asked))
    kinds = {evaluation_pocket.question_kind(question) for _, question, _ in asked}
    assert kinds == {"background", "presence", "location", "subject", "neighbour"}


def test_a_description_is_judged_by_what_it_names():
    answer = evaluation_pocket.Answer(Scene("one", CAT), None, "a cat", "")
    assert replace(answer, text="A cat.").exact
    on_blue = replace(answer, text="a cat on a blue ground")
    assert on_blue.named
    assert not on_blue.exact
    assert not replace(answer, text="a tiger").named
    assert not replace(answer, text="a cat cat cat").named


def test_held_out_documents_are_held_out():
    scenes = evaluation_pocket.heldout("draw")
    assert all(scene.split == "heldout" for scene in scenes)
    kinds = [scene.kind for scene in scenes]
    assert kinds.count("two") >= 100
    assert kinds.count("one") + kinds.count("placed") >= 200
    asked = evaluation_pocket.questions_of_each_kind(5)
    counts = [evaluation_pocket.question_kind(question) for _, question, _ in asked]
    assert {counts.count(kind) for kind in counts} == {5}
    assert len(set(counts)) == 6
    with pytest.raises(ValueError, match="expected one of article"):
        evaluation_pocket.heldout("sing")


def article_of(subject):
    """A true article without media, and its plan."""
    plan = replace(default_plan(subject, np.random.default_rng(0), 0), voice=None)
    return article_document(plan), ArticlePlan(subject, plan.sections, 0, False)


def test_true_articles_stay_on_their_subject_and_others_do_not():
    stays = article_scores.stays_on_subject
    for subject in load_subjects()[::40]:
        document, plan = article_of(subject)
        article = article_scores.Article(plan, document)
        assert article.on_subject, subject.name
        assert article.in_order
    document, plan = article_of(CAT)
    prompt, response = document.segments
    assert not stays(document, LEMON)
    retitled = response.text.replace("# The cat", "# The lemon", 1)
    assert not stays(Document((prompt, replace(response, text=retitled))), LEMON)
    strayed = response.text + " A submarine volcano can raise an island."
    assert not stays(Document((prompt, replace(response, text=strayed))), CAT)
    fewer = ArticlePlan(CAT, plan.sections[::-1], 0, False)
    assert not article_scores.Article(fewer, document).in_order


def test_codes_kept_is_the_share_of_equal_codes_at_each_level(tiny_tokenizers):
    tokenizer = tiny_tokenizers[1]
    rng = np.random.default_rng(0)
    sounds = [
        Audio(rng.uniform(-0.9, 0.9, (1, 3200 * n)).astype(np.float32), 16_000) for n in (7, 3)
    ]
    expected = np.zeros(len(tokenizer.codebook_sizes))
    for sound in sounds:
        first = tokenizer.encode(torch.from_numpy(sound.waveform)[None])
        again = tokenizer.encode(tokenizer.decode(first))
        for level in range(len(expected)):
            same = first.codes[0, level].eq(again.codes[0, level])
            expected[level] += int(same.sum()) / len(same) / 2
    np.testing.assert_allclose(evaluation_pocket.codes_kept(tokenizer, sounds), expected)
