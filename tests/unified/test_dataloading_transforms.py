"""Orders, dropped prompts, weights by role, and noise."""

import numpy as np
import pytest

from unified.dataloading.layout import Layout
from unified.dataloading.source import Source
from unified.dataloading.transforms import Draws, num_prompt_segments, reverse, transform
from unified.formats.coded import CodedAudio, CodedImage
from unified.formats.grammar import MODALITIES
from unified_data.document import Text

PICTURE = np.array([[[3, 1], [0, 11]]])
SOUND = np.array([[1, 2, 3], [4, 5, 6]])


@pytest.fixture(scope="module")
def layout(tiny_sequencer):
    return Layout(tiny_sequencer.grammar, tiny_sequencer.text_tokenizer)


def pair():
    return [Text("two cats", "prompt", 0.0), CodedImage(PICTURE, "response", 1.0)]


def read(layout, document):
    return layout.grammar.parse(document.ids)


def test_a_reversed_pair_asks_for_what_was_given():
    turned = reverse([*pair(), Text("a cat", "response", 1.0)])
    assert turned == [
        CodedImage(PICTURE, "prompt", 0.0),
        Text("a cat", "prompt", 0.0),
        Text("two cats", "response", 1.0),
    ]
    again = reverse(turned)
    assert [(s.role, s.loss) for s in again] == [("prompt", 0), ("response", 1), ("response", 1)]
    assert reverse([Text("a"), CodedAudio(SOUND, None, 0.5)]) == [
        CodedAudio(SOUND, None, 1.0),
        Text("a", None, 0.5),
    ]


@pytest.mark.parametrize(
    "roles",
    ["prpr", "p", "r", "rp", "npr", "n", "nnn"],
)
def test_documents_of_other_shapes_keep_their_order(roles):
    names = {"p": "prompt", "r": "response", "n": None}
    assert reverse([Text(str(i), names[role]) for i, role in enumerate(roles)]) is None


@pytest.mark.parametrize(
    ("roles", "num_prompt"),
    [("pr", 1), ("ppr", 2), ("prpr", 3), ("prr", 1), ("prp", 1), ("r", 0), ("p", 0), ("nn", 1),
     ("n", 0), ("nnn", 0), ("nr", 1)],
)  # fmt: skip
def test_the_prompt_is_what_stands_before_the_last_response(roles, num_prompt):
    names = {"p": "prompt", "r": "response", "n": None}
    assert (
        num_prompt_segments([Text(str(i), names[role]) for i, role in enumerate(roles)])
        == num_prompt
    )


def test_both_orders_come_half_the_time_and_the_same_again(layout):
    source = Source("x", orders="both")
    kinds = []
    for sample in range(200):
        document, _, stored = transform(layout, pair(), source, Draws.of(1, "x", 0, sample))
        again, _, _ = transform(layout, pair(), source, Draws.of(1, "x", 0, sample))
        np.testing.assert_array_equal(document.ids, again.ids)
        assert not stored
        kinds.append(read(layout, document)[0].kind)
    assert 70 < kinds.count("image") < 130
    other = [read(layout, transform(layout, pair(), source, Draws.of(1, "x", 1, s))[0])[0].kind
             for s in range(200)]  # fmt: skip
    assert other != kinds
    document, _, _ = transform(
        layout, pair(), Source("x", orders="reversed"), Draws.of(1, "x", 0, 0)
    )
    assert [s.kind for s in read(layout, document)] == ["image", "text"]
    turns = [*pair(), *pair()]
    document, _, stored = transform(layout, turns, Source("x", orders="reversed"), Draws())
    assert stored
    assert [s.kind for s in read(layout, document)] == ["text", "image", "text", "image"]


def test_the_loss_falls_on_what_the_source_asks_for(layout):
    document = [
        Text("two", "prompt", 0.5), CodedImage(PICTURE, "response", 0.25),
        Text("a cat", "prompt", 0.0), Text("cats", "response", 2.0),
    ]  # fmt: skip

    def weights(loss, segments=document):
        document, _, _ = transform(layout, segments, Source("x", loss=loss, weight=2.0), Draws())
        parts = np.split(document.loss_weights, document.boundaries[1:-1])[1:-1]
        return [float(part[-1]) for part in parts], float(document.loss_weights[-1])

    assert weights("document") == ([1.0, 0.5, 0.0, 4.0], 4.0)
    assert weights("response") == ([0.0, 2.0, 0.0, 2.0], 2.0)
    assert weights("all") == ([2.0, 2.0, 2.0, 2.0], 2.0)
    two = [Text("a", None, 0.5), CodedImage(PICTURE)]
    assert weights("response", two)[0] == [0.0, 2.0]
    assert weights("response", [Text("a")])[0] == [2.0]


def test_a_share_of_the_prompts_is_dropped(layout):
    source = Source("x", drop_prompt=0.3)
    actual = []
    for sample in range(300):
        document, _, _ = transform(layout, pair(), source, Draws.of(5, "x", 0, sample))
        actual.append(len(read(layout, document)))
    assert set(actual) == {1, 2}
    assert 60 < actual.count(1) < 120
    document, _, _ = transform(layout, pair(), source, Draws())
    assert len(read(layout, document)) == 2


def test_of_a_prompt_of_text_and_media_both_of_guidances_branches_are_learnt(layout):
    document = [CodedAudio(SOUND, "prompt", 0.0), *pair()]
    source = Source("x", drop_prompt=1.0)
    actual = [
        tuple(s.kind for s in read(layout, transform(layout, document, source, draws)[0]))
        for draws in (Draws.of(5, "x", 0, sample) for sample in range(100))
    ]
    assert set(actual) == {("image",), ("audio", "image")}
    assert 30 < actual.count(("image",)) < 70


def test_a_document_without_a_prompt_is_not_dropped(layout):
    document = [Text("a cat", "response"), CodedImage(PICTURE, "response")]
    document, _, _ = transform(
        layout, document, Source("x", drop_prompt=1.0), Draws.of(0, "x", 0, 0)
    )
    assert len(read(layout, document)) == 2


def test_noise_shows_other_codes_of_the_document_and_asks_for_the_true_ones(layout):
    rng = np.random.default_rng(3)
    document = [
        CodedImage(rng.integers(0, 12, (1, 4, 4)), "prompt", 0.0),
        CodedAudio(rng.integers(0, 9, (2, 40)), "response"),
        Text("two cats", "response"),
    ]
    source = Source("x", noise=0.25)
    changed, total = 0, 0
    for sample in range(30):
        draws = Draws.of(1, "x", 0, sample)
        tokenized, visible, _ = transform(layout, document, source, draws)
        np.testing.assert_array_equal(visible, transform(layout, document, source, draws)[1])
        plain = layout.encode(document)
        np.testing.assert_array_equal(tokenized.ids, plain.ids)
        codes = np.isin(tokenized.modality, (MODALITIES["image"], MODALITIES["audio"]))
        np.testing.assert_array_equal(visible[~codes], tokenized.ids[~codes])
        for block in layout.grammar.vocabulary.blocks:
            inside = (tokenized.ids >= block.start) & (tokenized.ids < block.stop)
            # Another code of the same block, and one that the document has.
            assert set(visible[inside]) <= set(tokenized.ids[inside])
        changed += int((visible != tokenized.ids).sum())
        total += int(codes.sum())
    assert 0.15 < changed / total < 0.25  # some are drawn to be themselves
    assert transform(layout, document, source, Draws())[1] is not None
    tokenized, visible, _ = transform(layout, document, source, Draws())
    assert visible is tokenized.ids
