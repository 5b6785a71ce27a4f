"""Articles: what a prompt says is what the article holds, and what it says of a subject is true."""

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from unified_data.document import Audio, Image, Text
from unified_data.pocket.subjects import load_subjects
from unified_data.world.article_kinds import ArticlePayload, article_of, facts
from unified_data.world.article_lengths import text_length
from unified_data.world.articles import article_document, article_split, draw_article
from unified_data.world.build import KINDS, build_world, plan_kind
from unified_data.world.fact_questions import draw_turns, nameless_facts
from unified_data.world.fulfilment import unmet_wishes
from unified_data.world.retrieval import fact_index, facts_of, judge_text, retrieval_error
from unified_data.world.verbatim import sentences_of, training_sentences, verbatim_share
from unified_data.world.wish_reader import read_wishes
from unified_data.world.wishes import Length, Wishes
from unified_data.world.wordings import facts_of_subject, subject_named

ARTICLES = ("article", "article_zh", "text", "text_zh")
FOX, PANDA = subject_named("fox"), subject_named("giant panda")


def drawn(number, media, split="train", form=None, subject=None, seed=0):
    rng = np.random.default_rng(seed)
    subjects = load_subjects()
    for i in range(number):
        about = subject or subjects[int(rng.integers(len(subjects)))]
        yield draw_article(about, ("en", "zh")[i % 2], split, rng, media, form)


@pytest.mark.parametrize("split", ["train", "steer", "heldout"])
def test_articles_hold_what_their_prompts_say(split):
    forms = Counter()
    for article in drawn(40, media=True, split=split):
        forms[article.wishes.form] += 1
        assert article_split(article.wishes) == split
        assert read_wishes(article.prompt) == article.wishes
        assert unmet_wishes(article.text, article.wishes) == (), article.prompt
    assert len(forms) >= 3


def test_the_panda_article_has_800_characters_and_its_four_sections():
    for article in drawn(4, media=False, form="long", subject=PANDA):
        text = article.text
        assert text_length(text) >= 800
        assert len([line for line in text.splitlines() if line.startswith("## ")]) == 4
        assert unmet_wishes(text, article.wishes) == ()
        judged = judge_text(text, PANDA, article.wishes.language)
        assert judged.true_share == 1
        assert judged.own == {number for _, number in article.body.facts}


def test_an_article_as_a_document():
    article = next(a for a in drawn(60, media=True, form="article") if len(a.pictures) == 3)
    document = article_document(article)
    assert document == article_document(article)
    prompt, *rest = document
    assert (prompt.text, prompt.role, prompt.loss) == (article.prompt, "prompt", 0.0)
    assert all(segment.role == "response" for segment in rest)
    pictures = [i for i, segment in enumerate(rest) if isinstance(segment, Image)]
    assert len(pictures) == 3
    captions = [rest[i - 1].text.rsplit("![", 1)[1] for i in pictures]
    assert captions == [f"{picture.caption}]" for picture in article.pictures]
    assert len(set(captions)) == 3
    assert "".join(s.text for s in rest if isinstance(s, Text)) == article.text


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_a_narration_follows_its_phonemes():
    article = next(a for a in drawn(60, True, form="article") if a.wishes.narration == "ben")
    document = article_document(article)
    at = next(i for i, segment in enumerate(document) if isinstance(segment, Audio))
    quote, phonemes, end = document.segments[at - 1].text.rsplit("\n", 2)
    assert quote.splitlines()[-1] == f"> (ben) {article.body.passages[0].lines[0]}"
    assert phonemes.startswith("/")
    assert phonemes.endswith("/")
    assert end == ""


@pytest.mark.parametrize(
    ("change", "unmet"),
    [
        ({"pictures": 3}, "pictures"),
        ({"sections": ("Food", "Home")}, "sections"),
        ({"without": ("Food",)}, "without"),
        ({"subtitle": "a friend"}, "title"),
        ({"length": Length("least", 900)}, "length"),
        ({"narration": "ben"}, "narration"),
        ({"language": "zh"}, "language"),
        ({"form": "paragraph"}, "form"),
        ({"form": "list", "items": 3}, "items"),
    ],
)
def test_wishes_that_are_not_met_are_named(change, unmet):
    text = "# The fox\n\nThe fox hunts.\n\n## Home\n\nIt has a den.\n\n## Food\n\nIt eats mice."
    wishes = Wishes("en", "article", ("fox",), sections=("Home", "Food"))
    assert unmet_wishes(text, wishes) == ()
    if "without" in change:
        wishes = replace(wishes, sections=())
    assert unmet in unmet_wishes(text, replace(wishes, **change))


def test_sentences_for_children_are_short():
    lengths = {True: [], False: []}
    for article in drawn(150, media=False, form="article"):
        if article.wishes.language == "en":
            lengths[article.wishes.children] += map(len, sentences_of(article.text))
    assert np.mean(lengths[True]) < 0.7 * np.mean(lengths[False])


def test_characters_are_counted_without_markup():
    text = "# Fox\n\n> (ben) It runs.\n/ɪt ɹʌnz/\n\n![a fox]\n\n- One\n- Two"
    assert text_length(text) == len("FoxIt runs.OneTwo")


def test_the_judge_finds_facts_in_joined_and_changed_sentences():
    joined = (
        "Pointed ears and a muzzle give it an alert look, and it feeds on mice, birds and worms."
    )
    assert facts_of(joined, FOX, "en") == {2, 5}
    assert facts_of("Besides, spare food is buried by it.", FOX, "en") == {6}
    assert facts_of("狐狸吃老鼠、兔子、小鸟和浆果。", FOX, "zh") == {5}
    wolf = facts_of_subject(subject_named("wolf"))[3].en[1]
    judged = judge_text(f"{wolf} The fox can juggle.", FOX, "en")
    assert judged.own == frozenset()
    assert [s.fact and s.fact[0] for s in judged.statements] == ["wolf", None]
    assert judged.true_share == 0


def test_a_wrong_number_is_no_fact():
    cow = subject_named("cow")
    assert facts_of("Four teats hang from the soft udder beneath its belly.", cow, "en")
    assert not facts_of("Seven teats hang from the soft udder beneath its belly.", cow, "en")


@pytest.mark.parametrize(
    ("language", "recognised", "wrong"), [("en", 0.97, 0.01), ("zh", 0.92, 0.03)]
)
def test_the_error_of_the_judge(language, recognised, wrong):
    error = retrieval_error(language, every=60)
    assert error.cases == -(-len(fact_index(language).wordings) // 60)
    assert error.recognised >= recognised * error.cases
    assert max(error.mixed_up, error.misattributed) <= wrong * error.cases + 1


def test_articles_are_true_by_the_judge():
    for article in drawn(24, media=False, form="paragraph", split="heldout"):
        subject = article.body.subjects[0]
        judged = judge_text(article.text, subject, article.wishes.language)
        assert judged.true_share == 1
        assert judged.own == {number for _, number in article.body.facts}


def test_held_out_paragraphs_are_mostly_new_sentences():
    seen = training_sentences("en", scale=0.02)
    texts = [a.text for a in drawn(60, False, "heldout", "paragraph") if not a.wishes.children]
    assert np.mean([verbatim_share(text, seen) for text in texts]) < 0.5
    trained = article_of(plan_kind("text", "train", 0, 0.02)[0])
    assert verbatim_share(trained.text, seen) == 1


def test_questions_are_answered_by_what_is_known():
    rng = np.random.default_rng(4)
    turns = [t for split in ("train", "heldout") for language in ("en", "zh") for _ in range(150)
             for t in draw_turns(FOX, language, split, rng)]  # fmt: skip
    answers = dict(turns)
    assert answers["Is a fox a mammal?"] == "a mammal: yes"
    assert any(answer == "哺乳动物：不是" for answer in answers.values())
    for question, answer in turns:
        if question.startswith(("What is this? ", "Guess: ")):
            assert answer == "a fox"
            assert question.split(" ", 1)[1].removeprefix("is this? ") in nameless_facts(
                "fox", "en"
            )
        if question.startswith("Is this about the fox? "):
            owner, verdict = answer.split(": ")
            assert (verdict == "yes") == (owner == "the fox")
    assert any(answer.startswith("I do not know the") for answer in answers.values())
    train = {t for _ in range(200) for t in draw_turns(FOX, "en", "train", rng)}
    assert not train & {t for _ in range(200) for t in draw_turns(FOX, "en", "heldout", rng)}


def test_payloads_are_balanced_and_split():
    for kind in (*ARTICLES, "facts"):
        payloads = plan_kind(kind, "train", 0, 0.2)
        counts = Counter(p.subject for p in payloads if not p.long)
        assert max(counts.values()) - min(counts.values(), default=0) <= 2
    document = facts(ArticlePayload("heldout", 3, "fox", "en", True))
    assert [segment.role for segment in document][:2] == ["prompt", "response"]


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
def test_the_kinds_build(tmp_path):
    index = build_world(tmp_path, scale=0.002, only=[*ARTICLES, "facts"], workers=1)
    assert {shard["kind"] for shard in index["shards"]} == {*ARTICLES, "facts"} <= set(KINDS)
