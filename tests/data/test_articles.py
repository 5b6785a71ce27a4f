"""Articles and tasks: what follows what, and that requests equal training prompts."""

import itertools

import numpy as np
import pytest

from unified_data.document import Audio, Document, Image, Slot, Text
from unified_data.pocket import articles, tasks
from unified_data.pocket.articles import ArticleOutline, article_document, plan_prompt, random_plan
from unified_data.pocket.scenes import Scene, render
from unified_data.pocket.subjects import find_subject

PANDA, CAT = find_subject("giant panda"), find_subject("cat")
CLIP = np.full((1, 640), 0.25, np.float32)


@pytest.fixture(autouse=True)
def spoken(monkeypatch):
    """Stands in for espeak-ng; returns what was asked of it."""
    calls = []
    monkeypatch.setattr(articles, "speak", lambda text, voice: calls.append((text, voice)) or CLIP)
    return calls


def test_the_whole_layout_of_an_article(spoken):
    scenes = (
        Scene("one", PANDA),
        Scene("counted", PANDA, count=2),
        Scene("one", PANDA, "blue"),
    )
    document = article_document(ArticleOutline(PANDA, ("Food", "Home"), scenes, "ben"))
    home, food = (
        " ".join(next(s for s in PANDA.sections if s.heading == name).sentences)
        for name in ("Home", "Food")
    )

    def response(text):
        return Text(text, role="response")

    def picture(scene):
        return Image(render(scene), role="response")

    prompt = "Write: The giant panda. Sections: Food, Home. Pictures: 3. Narration: yes."
    assert document == Document(
        (
            Text(prompt, role="prompt", loss=0.0),
            response(f"# The giant panda\n\n> (ben) {PANDA.lead}\n"),
            Audio(CLIP, 16000, role="response"),
            response("\n\n![a giant panda]"),
            picture(scenes[0]),
            response(f"\n\n## Food\n\n{food}\n\n![two giant pandas]"),
            picture(scenes[1]),
            response(f"\n\n## Home\n\n{home}\n\n![a giant panda on a blue ground]"),
            picture(scenes[2]),
        )
    )
    assert spoken == [(PANDA.lead, "ben")]


def test_an_article_of_text_alone_is_one_segment(spoken):
    document = article_document(ArticleOutline(CAT, ("People",), (), None))
    assert len(document) == 2
    assert document.segments[1].text.startswith(f"# The cat\n\n{CAT.lead}\n\n## People\n\n")
    assert not spoken


def test_pictures_beyond_the_sections_close_the_article():
    scenes = tuple(Scene("counted", CAT, count=n) for n in (2, 3, 4))
    document = article_document(ArticleOutline(CAT, ("Home",), scenes, None))
    kinds = "".join(type(segment).__name__[0] for segment in document)
    assert kinds == "TTITITI"
    assert document.segments[5].text == "\n\n![four cats]"


def test_random_plans_vary_and_every_picture_follows_its_caption(spoken):
    rng = np.random.default_rng(0)
    plans = [random_plan(CAT, rng) for _ in range(200)]
    assert {len(plan.sections) for plan in plans} == {2, 3, 4}
    assert {len(plan.scenes) for plan in plans} == {0, 1, 2, 3, 4}
    assert {plan.voice for plan in plans} == {None, "amy", "ben", "cole"}
    assert len({plan.sections for plan in plans}) > 40
    for plan in plans:
        assert all(scene.split == "train" for scene in plan.scenes)
        assert len(set(plan.scenes)) == len(plan.scenes)
        if plan.scenes:
            assert plan.scenes[0] == Scene("one", CAT)
        segments = article_document(plan).segments
        captions = [f"![{scene.caption}]" for scene in plan.scenes]
        for before, after in itertools.pairwise(segments):
            if isinstance(before, Text) and isinstance(after, Text):
                assert before.role != after.role  # neighbouring text was merged
            if isinstance(after, Image):
                assert before.text.endswith("\n\n" + captions.pop(0))
            if isinstance(after, Audio):
                assert before.text.endswith(f"> ({plan.voice}) {CAT.lead}\n")
        assert not captions


def test_a_plan_that_cannot_be_written_is_refused():
    with pytest.raises(ValueError, match="cat has no section 'Engine', only Appearance, Home"):
        plan_prompt(CAT, ["Engine"], 1, True)
    with pytest.raises(ValueError, match="each once"):
        plan_prompt(CAT, ["Home", "Home"], 1, True)
    with pytest.raises(ValueError, match="at least one"):
        plan_prompt(CAT, [], 1, True)
    with pytest.raises(ValueError, match="0 to 4 pictures, 5 asked"):
        plan_prompt(CAT, ["Home"], 5, True)


def test_tasks_are_prompts_without_loss_and_answers_with_it():
    picture, sound = Image(render(Scene("one", CAT))), Audio(CLIP, 16000)
    documents = [
        tasks.draw_document("a cat", picture),
        tasks.describe_document(picture, Text("a cat")),
        tasks.ask_document(picture, [("What is this?", "a cat"), ("Is there a dog?", "no")]),
        tasks.speak_document("It purrs.", "amy", sound),
        tasks.listen_document(sound, Text("It purrs.")),
    ]
    roles = ["pr", "pr", "pprpr", "pr", "pr"]
    for document, expected in zip(documents, roles):
        assert "".join(segment.role[0] for segment in document) == expected
        assert all(segment.loss == (segment.role == "response") for segment in document)
    assert documents[0].segments[0].text == "![a cat]"
    assert documents[3].segments[0].text == "> (amy) It purrs."


def test_a_request_differs_from_training_in_its_slot_alone():
    picture = Image(render(Scene("one", CAT)))
    trained = tasks.draw_document("a cat", picture)
    asked = tasks.draw_document("a cat", tasks.image_slot())
    assert asked.segments[0] == trained.segments[0]
    assert asked.segments[1] == Slot("image", 96, 96, role="response")
    chain = tasks.ask_document(picture, [("What is this?", "a cat"), ("How many?", Slot("text"))])
    assert chain.slots == (4,)
    with pytest.raises(ValueError, match="at least one question"):
        tasks.ask_document(picture, [])
    with pytest.raises(ValueError, match="no voice 'zoe'"):
        tasks.speak_prompt("It purrs.", "zoe")
