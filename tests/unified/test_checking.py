"""Descriptions checked by the model's own answers, which a small model has learnt by heart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified import TextTokenizer, UnifiedModel
from unified.models.checking import check_article, check_description
from unified.tasks.answer_words import colour_in, number_in, yes_or_no
from unified.tasks.claims import english_claims
from unified.world.world_claims import world_claims
from unified.world.world_tasks import world_tasks
from unified_data.document import Document, Image, Text
from unified_data.world.captions_en import caption_en
from unified_data.world.captions_zh import caption_zh
from unified_data.world.description import Description, Item

PIXELS = np.full((96, 96, 3), 200, np.uint8)
# What the model sees: two foxes, the ground green; no car.
LEARNT = {
    "Is there a fox?": "two foxes: yes",
    "Is there a car?": "two foxes: no",
    "How many foxes are there?": "two foxes: two",
    "What colour is the ground?": "two foxes: green",
    "What colour are the foxes?": "two foxes: I cannot say",
    "有狐狸吗？": "两只狐狸：有",
    "有几只狐狸？": "两只狐狸：两只",
}


@pytest.fixture(scope="module")
def model(tiny_tokenizers):
    """A model of two layers that was trained until it gives each answer of `LEARNT`."""
    image, _ = tiny_tokenizers
    torch.manual_seed(0)
    model = UnifiedModel.create(
        {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 12,
         "num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 256},
        text_tokenizer=TextTokenizer.train([*LEARNT, *LEARNT.values()] * 3, 400),
        image_tokenizer=image, max_grid=9,
    )  # fmt: skip
    tasks = world_tasks()
    model.tasks, model.plugin = tasks, "world"
    documents = [
        model.tasks.document("ask", _inputs(question), answer)
        for question, answer in LEARNT.items()
    ]
    rows = [model.sequencer.encode(document).ids.tolist() for document in documents]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    prompts = [len(row) for row in rows]
    labels = torch.tensor([row + [-100] * (width - length) for row, length in zip(rows, prompts)])
    labels[:, :22] = -100  # the picture is given
    optimizer = torch.optim.Adam(model.hf.parameters(), 4e-3)
    for _ in range(120):
        logits = model.hf(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.hf.eval()
    for question, answer in LEARNT.items():
        assert model.ask(PIXELS, question, temperature=0.0, language=_language(question)) in answer
    return model


def _language(question):
    return None if question.isascii() else "zh"


def _inputs(question):
    from unified.tasks.asking import Inputs

    return Inputs(image=PIXELS, question=question, language=_language(question))


def test_what_the_model_denies_is_corrected_and_told(model):
    checked = check_description(model, PIXELS, "three foxes and a car on a green ground")
    assert checked.text == "two foxes on a green ground"
    assert [correction.words for correction in checked.corrections] == [
        "fox: 3 became 2",
        "car: left out, since it is not there",
    ]
    # Of what is not there nobody asks how many there are.
    assert checked.asked == 4
    assert checked.corrections[1].to_json()["answer"] == "no"


def test_what_the_model_confirms_stays_word_for_word(model):
    checked = check_description(model, PIXELS, "two foxes on a green ground.")
    assert (checked.text, checked.corrections) == ("two foxes on a green ground.", ())
    assert checked.notes == ("checked by 3 questions: nothing to correct",)


def test_an_answer_that_says_nothing_leaves_a_claim_open(model):
    checked = check_description(model, PIXELS, "two red foxes")
    assert checked.text == "two red foxes"
    assert checked.notes == ("not confirmed: fox (colour)",)


def test_chinese_captions_are_asked_about_in_chinese(model):
    checked = check_description(model, PIXELS, "三只狐狸", language="zh")
    assert checked.text == "两只狐狸"


def test_english_that_is_no_caption_is_checked_by_its_phrases(model):
    checked = check_description(model, PIXELS, "I see three foxes with a car.")
    assert checked.text == "I see two foxes."


def test_captions_of_an_article_are_checked_against_their_pictures(model):
    picture = Image(PIXELS, role="response")
    article = Document((
        Text("Write: The fox.", "prompt"), Text("# The fox\n\n![three foxes]", "response"), picture,
        Text("\n\nIt is red.\n\n![two foxes]", "response"), picture,
    ))  # fmt: skip
    checked = check_article(model, article)
    texts = [segment.text for segment in checked.document if isinstance(segment, Text)]
    assert texts[1:] == ["# The fox\n\n![two foxes]", "\n\nIt is red.\n\n![two foxes]"]
    assert checked.notes[0] == "picture 1: corrected: fox: 3 became 2"
    assert checked.captions[1][1].corrections == ()


def test_a_model_that_cannot_be_asked_says_so(model):
    from unified.tasks.task_table import Tasks

    tasks, model.tasks = model.tasks, Tasks({})
    try:
        with pytest.raises(ValueError, match="the model cannot ask"):
            check_description(model, PIXELS, "two foxes")
    finally:
        model.tasks = tasks


# Claims and answers.

ITEMS = st.builds(
    Item, st.sampled_from(["fox", "car", "axe"]), st.integers(1, 4),
    st.sampled_from([None, "red", "grey"]),
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(ITEMS, min_size=1, max_size=3), st.sampled_from([None, "blue", "dotted"]))
def test_the_claims_of_a_caption_say_all_of_it_and_nothing_else(items, ground):
    description = Description(tuple(items), ground=ground)
    for caption in (caption_en(description), caption_zh(description)):
        claims = world_claims(caption)
        assert claims.corrected({}) == caption
        things = [claim.about for claim in claims.claims if claim.kind == "thing"]
        assert things == [item.name for item in items]
        assert (claims.claims[-1].about == "ground") == (ground is not None)


@pytest.mark.parametrize(
    ("text", "values", "corrected"),
    [
        ("A red fox and an axe.", {0: False}, "An axe."),
        ("There are two dogs next to a large brown table.", {1: 3},
         "There are three dogs next to a large brown table."),
        ("a dog, a cat and a car", {2: False}, "a dog and a car"),
        ("a red car", {2: "blue"}, "a blue car"),
        ("two boxes", {1: 1}, "a box"),
        ("A dog sleeps.", {0: False}, "A dog sleeps (not confirmed)."),
    ],
)  # fmt: skip
def test_english_sentences_are_corrected_in_place(text, values, corrected):
    assert english_claims(text).corrected(values) == corrected


def test_english_claims_leave_out_what_is_no_thing():
    claims = english_claims("A photo of a fox on a blue background, in the middle of a picture.")
    assert [claim.question for claim in claims.claims] == [
        "Is there a fox?",
        "How many foxes are there?",
    ]


@pytest.mark.parametrize(
    ("answer", "yes", "number", "colour"),
    [
        ("yes", True, None, None),
        ("No, there is none.", False, 0, None),
        ("有", True, None, None),
        ("没有", False, 0, None),
        ("three", None, 3, None),
        ("12 of them", None, 12, None),
        ("两只", None, 2, None),
        ("It is gray", True, None, "grey"),
        ("红色", None, None, "red"),
        ("red and blue", None, None, None),
    ],
)
def test_answers_are_read_in_both_languages(answer, yes, number, colour):
    assert yes_or_no(answer) is yes
    assert number_in(answer) == number
    assert colour_in(answer) == colour
