"""Layout: the ids, weights and allowed ranges of the slow way, and guidance's branches."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.dataloading.layout import Layout
from unified.dataloading.transforms import num_prompt_segments
from unified.engine.active import ActiveRequest
from unified.engine.request import CodedSlot, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedAudio, CodedImage, CodedText, coded_media
from unified.formats.grammar import MODALITIES, Grammar
from unified.formats.load import load_format
from unified.sequence.sequencer import Sequencer
from unified.vocabulary.vocabulary import Block, Vocabulary
from unified_data.document import Text

LEVELS = {
    ("pocket", "audio"): 3, ("mio", "audio"): 4, ("csm", "audio"): 5, ("orpheus", "audio"): 7,
}  # fmt: skip
FORMATS = (
    "pocket", "emu3", "janus", "liquid", "lumina-mgpt", "mio", "musicgen", "orpheus", "csm",
    "moshi",
)  # fmt: skip
SIDES = {"janus": (24, 24), "musicgen": (9,), "mio": (32,)}


class Letters:
    """A text tokenizer of 20 letters, each an id."""

    size = 20
    fingerprint = None

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - ord("a") for letter in text]


@cache
def built(name: str) -> tuple[Sequencer, Layout]:
    """A small vocabulary for a format, its literals among the letters."""
    spec = load_format(name)
    blocks = [Block("text", 0, 24)]

    def add(block: str, size: int, **fields) -> None:
        blocks.append(Block(block, blocks[-1].stop, size, **fields))

    add("markers", len(spec.markers), symbols=spec.markers)
    add("size", 40)
    for kind, span in spec.spans.items():
        if span.embeds:  # as in a model without an encoder
            continue
        for level in range(span.num_codebooks or LEVELS.get((name, kind), 1)):
            add(f"{kind}.{level}", 50, level=level)
    literals = tuple((text, (at % 20,)) for at, text in enumerate(spec.literals))
    vocabulary = Vocabulary(tuple(blocks), 20, 24, literals)
    grammar = Grammar.load(name, vocabulary)
    return Sequencer(vocabulary, grammar, Letters()), Layout(grammar, Letters())


@st.composite
def documents(draw, name: str):
    """Stored documents of any roles and weights that a format has; some it cannot say."""
    grammar = built(name)[1].grammar
    roles = [*grammar.roles, *([None] if grammar.format.start is None else [])]
    segments, role = [], draw(st.sampled_from(roles))
    for _ in range(draw(st.integers(1, 6))):
        role = draw(st.sampled_from([role, role, *grammar.roles])) if grammar.roles else None
        loss = draw(st.sampled_from([0.0, 0.5, 1.0]))
        kind = draw(st.sampled_from(["text", *grammar.span_grammars]))
        if kind == "text":
            text = draw(st.text("abcdefghijklmnopqrst", min_size=1, max_size=5))
            segments.append(Text(text, role, loss))
            continue
        program = grammar.span_grammars[kind]
        side = st.integers(1, 5).map(lambda n: 2 * n if name == "lumina-mgpt" else n)
        grid = SIDES.get(name) or tuple(draw(side) for _ in program.axes)
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        sizes = np.array([20 if block.name == "text" else 50 for block in program.blocks])
        codes = rng.integers(sizes.reshape(-1, *[1] * len(grid)), size=(len(sizes), *grid))
        if name == "csm":  # codes of 0 and 1 alone: frames that nearly end a span, and do
            codes %= 2
        segments.append(coded_media(program.modality, codes, role, loss, kind))
    return segments


def coded(sequencer: Sequencer, segments):
    return [
        CodedText(tuple(Letters().encode(s.text)), s.role, s.loss) if isinstance(s, Text) else s
        for s in segments
    ]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_layout_is_what_the_sequencer_and_the_state_machine_make(data):
    name = data.draw(st.sampled_from(FORMATS))
    segments = data.draw(documents(name))
    sequencer, layout = built(name)
    try:
        expected = sequencer._encode(coded(sequencer, segments), end=True)
        state = sequencer.grammar.start()
        allowed = []
        for id in expected.ids.tolist():
            allowed.append(state.allowed())
            state.advance(id)
    except ValueError:
        with pytest.raises(ValueError, match=r"segment \d \("):
            layout.encode(segments)
        return
    for _ in range(2):  # the second time from what is remembered
        tokenized = layout.encode(segments)
        np.testing.assert_array_equal(tokenized.ids, expected.ids)
        np.testing.assert_array_equal(tokenized.loss_weights, expected.loss)
        np.testing.assert_array_equal(tokenized.modality, expected.modality)
        assert [layout.ranges[number] for number in tokenized.allowed] == allowed
    for id, ranges in zip(tokenized.ids.tolist(), allowed):
        assert any(start <= id < stop for start, stop in ranges)
    assert (tokenized.ids.dtype, tokenized.loss_weights.dtype) == (np.int32, np.float32)
    assert len(tokenized.boundaries) == len(segments) + 3
    position = np.cumsum(expected.depth == 0) - 1  # of each id
    firsts = [np.flatnonzero(expected.segment == i)[0] for i in range(len(segments))]
    begins = {int(position[first]) for first in firsts}
    assert begins == set(tokenized.boundaries[1:-2])


def test_weights_fall_on_answers_and_on_codes_that_have_none():
    layout = built("pocket")[1]
    asked = CodedImage(np.array([[[1, 2]]]), "prompt", 0.0)
    answer = CodedAudio(np.array([[3], [4], [5]]), "response", 0.5)
    tokenized = layout.encode(
        [asked, Text("ab", "prompt", 0.0), answer], weight=3.0, media_loss=0.25
    )
    picture = tokenized.modality == MODALITIES["image"]
    assert tokenized.loss_weights[picture].tolist() == [0.25, 0.25]
    assert set(tokenized.loss_weights[tokenized.modality == MODALITIES["text"]]) == {0.0}
    assert tokenized.loss_weights[tokenized.modality == MODALITIES["audio"]].tolist() == [1.5] * 3
    # Markers, but those of the answer and the end, weigh nothing.
    markers = tokenized.loss_weights[tokenized.modality == MODALITIES["marker"]].tolist()
    assert markers == [0.0] * 7 + [1.5] * 3  # <audio>, </audio> and <eos>


def picture(side: tuple[int, int], role: str | None, loss: float = 1.0) -> CodedImage:
    return CodedImage(np.arange(side[0] * side[1]).reshape(1, *side) % 50, role, loss)


def text(letters: str, role: str | None, loss: float = 0.0) -> Text:
    return Text(letters, role, loss)


GIVEN = {
    "a text": ("pocket", [text("abc", "prompt")]),
    "a text and a picture": ("pocket", [text("abc", "prompt"), picture((3, 2), "prompt", 0.0)]),
    "a picture and a text": ("pocket", [picture((3, 2), "prompt", 0.0), text("ab", "prompt")]),
    "an earlier turn": (
        "pocket", [text("ab", "prompt"), text("c", "response"), text("dd", "prompt")]
    ),
    "a marker instead": ("liquid", [text("abc", None)]),
    "blanks": ("janus", [text("abc", None)]),
    "a text without a marker": ("lumina-mgpt", [text("abc", "prompt")]),
    "a picture to be changed": (
        "lumina-mgpt", [picture((2, 4), "prompt", 0.0), text("abc", "prompt")]
    ),
}  # fmt: skip


@pytest.mark.parametrize("without", ["prompt", "text"])
@pytest.mark.parametrize("case", GIVEN)
def test_a_dropped_prompt_gives_the_ids_of_guidances_branch(case, without):
    """Those that sampling shows the decoder while it fills the response, and the end after them."""
    name, prompt = GIVEN[case]
    sequencer, layout = built(name)
    grammar = layout.grammar
    side = {"liquid": (32, 32), "janus": (24, 24)}.get(name, (4, 2))
    role = "response" if grammar.roles else None
    document = [*prompt, picture(side, role)]
    assert num_prompt_segments(document) == len(prompt)
    tokenized = layout.encode(document, num_dropped=len(prompt), without=without)

    guidance = Guidance(3.0, "three-way", 2.0)
    sampling = Sampling(image=SpanSampling(guidance=guidance), max_ids=2000)
    request = Request((*coded(sequencer, prompt), CodedSlot("image", side, role=role)), 0)
    row = ActiveRequest(0, request, grammar, sampling, 2000)
    whole = sequencer._encode(coded(sequencer, document), end=True)
    while not row.state.finished:
        row.accept(int(whole.ids[len(row.ids)]))
    assert row.ids == whole.ids.tolist()
    closing = grammar.eos(role)
    condition = {"prompt": "unconditional", "text": "media"}[without]
    assert tokenized.ids.tolist() == [*row.branches[condition].positions, *closing]
    for id, number in zip(tokenized.ids.tolist(), tokenized.allowed.tolist()):
        assert any(start <= id < stop for start, stop in layout.ranges[number])
    # What is left of it is learnt as in the whole document, and nothing else.
    answer = side[0] * side[1] + len(closing)
    np.testing.assert_array_equal(tokenized.loss_weights[-answer:], whole.loss[-answer:])
    assert tokenized.loss_weights.sum() == whole.loss.sum()


def test_what_cannot_be_laid_out_is_refused_with_its_segment():
    layout = built("pocket")[1]
    for segments, message in (
        ([text("a", "prompt"), CodedImage(np.zeros((2, 1, 1), int), "prompt")], r"1 \(image\): .*"),
        (
            [text("a", "prompt"), text("z", "prompt")],
            r"1 \(text\): code 25 is outside block 'text'",
        ),
        ([CodedAudio(np.full((3, 1), 77))], r"0 \(audio\): code 77 is outside block 'audio.0'"),
        (
            [picture((1, 41), None)],
            r"0 \(image\): .* grid of 1x41; w must be in 1..40",
        ),
        (
            [text("a", "response"), text("b", None)],
            r"1 \(text\): a segment without a role cannot follow",
        ),
    ):
        with pytest.raises(ValueError, match=f"segment {message}"):
            layout.encode(segments)
    with pytest.raises(ValueError, match=r"segment 0 \(audio\): .* has no audio spans"):
        built("emu3")[1].encode([CodedAudio(np.zeros((1, 3), int))])


def test_the_layouts_memory_is_bounded(monkeypatch):
    from unified.dataloading import layout as module

    monkeypatch.setattr(module, "_MAX_CACHED_IDS", 500)
    sequencer, _ = built("pocket")
    layout = module.Layout(sequencer.grammar, Letters())
    for w in range(1, 40):
        document = [text("abc" * w, "prompt"), picture((1, w), "response")]
        expected = sequencer._encode(coded(sequencer, document), end=True)
        for _ in range(2):
            np.testing.assert_array_equal(layout.encode(document).ids, expected.ids)
    assert len(layout._texts._entries) < 12
    assert len(layout._spans._entries) < 5
