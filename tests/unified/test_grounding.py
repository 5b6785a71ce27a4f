"""Places in pictures, from the grammar to the command line."""

import json

import numpy as np
import pytest

from unified.engine.events import Done, MediaBegun, MediaDone
from unified.engine.request import Sampling
from unified.evaluation.box_match import match_boxes
from unified.evaluation.evaluate import evaluate
from unified.evaluation.suite import PARTS, PartSettings, Suite
from unified.formats.coded import CodedText, coded_media
from unified.formats.grammar import Grammar, GrammarError
from unified.formats.load import load_format
from unified.formats.parser import parse_format
from unified.models.grounding import NamedBox, draw_boxes
from unified.models.model import UnifiedModel
from unified.tasks.task import Refusal
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.images import load_image, save_png
from unified_data.document import Box, Document, Point, Slot, Text
from unified_tokenizers.locations import LocationTokenizer

BINS = 12
VOCABULARY = Vocabulary.build(
    9, 9, load_format("grounded").markers, 4, image=([5], "i"), audio=([5], "a"),
    others={"box": ([BINS], "b"), "point": ([BINS], "p")},
)  # fmt: skip
GRAMMAR = Grammar.load("grounded", VOCABULARY)
DOCUMENT = (CodedText((1,), "prompt"), coded_media("box", np.array([[3, 4, 5, 4]]), "response"))


def test_a_box_never_ends_before_it_begins():
    ids = GRAMMAR.serialize(DOCUMENT).ids.tolist()
    state = GRAMMAR.start()
    start, stop = VOCABULARY.id_range("box.0")
    at = ids.index(VOCABULARY.marker("<box>")) + 1
    expected = [(start, stop), (start, stop), (start + 3, stop), (start + 4, stop)]
    for position, id in enumerate(ids):
        code = position - at
        if 0 <= code < 4:
            assert state.allowed() == (expected[code],)
            assert state.level == 0
            # What is settled ends before an id that follows from one that is still to come.
            settled = {0: [expected[0], expected[1]], 1: [expected[1]], 2: [expected[2]],
                       3: [expected[3], (ids[at + 4], ids[at + 4] + 1)]}[code]  # fmt: skip
            assert state.settled(9) == [(ranges,) for ranges in settled]
        if code in (2, 3):
            with pytest.raises(GrammarError, match=r"expected box\.0 \(ids"):
                state.copy().advance(expected[code][0] - 1)
        state.advance(id)
    assert state.finished
    assert GRAMMAR.parse(ids) == DOCUMENT
    wrong = coded_media("box", np.array([[3, 4, 5, 3]]))
    with pytest.raises(
        ValueError, match=r"segment 0 \(box\): code 3 of box codes is 3, expected a"
    ):
        GRAMMAR.serialize([wrong])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("{repeat: 4, rising: 4, of: [{codes: box}]}", "is 4, expected 1 to 3"),
        ("{repeat: 4, rising: true, of: [{codes: box}]}", "is True, expected"),
        ("{repeat: open, rising: 1, of: [{codes: box}]}", "of a whole number of them"),
        ("{repeat: 2, rising: 1, of: [{codes: box}, {marker: <box>}]}", "of a whole number"),
    ],
)
def test_formats_say_where_codes_can_rise(item, message):
    source = load_format("grounded").source
    with pytest.raises(ValueError, match=r"format\.spans\.box\[1\]\.rising.*" + message):
        parse_format(source.replace("{repeat: 4, rising: 2, of: [{codes: box}]}", item))


@pytest.fixture(scope="module")
def model(tiny_tokenizers):
    """An untrained one: what it says is a valid answer, and another one for each seed."""
    import torch

    torch.manual_seed(2)
    model = UnifiedModel.create(
        {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 12,
         "num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 128},
        text_tokenizer=TextTokenizer.train(["Find: the fox. What is this?"], 262),
        image_tokenizer=tiny_tokenizers[0], max_grid=9, format="grounded",
        tokenizers={kind: LocationTokenizer(kind, BINS) for kind in ("box", "point")},
    )  # fmt: skip
    model.sampling = Sampling(max_ids=60, max_text_ids=4)
    assert model.tasks.able == ("write", "draw", "describe", "ask", "ground")
    # Mostly boxes: the marker's row is what many hidden states are near to.
    row = model.vocabulary.marker("<box>")
    with torch.no_grad():
        model.hf.get_output_embeddings().weight[row] *= 40
    return model


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("grounded") / "model"
    model.save_pretrained(path)
    return path


PIXELS = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)


def test_documents_with_places_become_ids_and_come_back(model):
    box, point = Box(6, 6, 30, 18, 72, 48, "prompt"), Point(71.5, 0, 72, 48, "prompt")
    document = Document((Text("the fox", "prompt"), box, point, Text("a fox", "response")))
    ids = model.sequencer.encode(document).ids
    again = model.sequencer.decode(ids)
    # 72 pixels in 12 bins of 6, and 48 in 12 of 4: edges go to the nearest border.
    assert again.segments[1].at == (1, 2, 5, 5)
    assert again.segments[2].on(72, 48) == Point(69.0, 2.0, 72, 48, "prompt")
    assert np.array_equal(model.sequencer.encode(again).ids, ids)


def test_ground_gives_boxes_of_the_picture_and_names(model):
    number = 0
    for seed in range(4):
        boxes = model.ground(PIXELS, "the fox", seed)
        assert boxes == model.ground(PIXELS, "the fox", seed)
        for name, box in boxes:
            assert (box.width, box.height) == (72, 48)
            assert name
        number += len(boxes)
    assert number > 2
    slot = model.request("ground", image=PIXELS, text="the fox").document.segments[-1]
    assert slot == Slot("any", num_images=0, num_audios=0, role="response")


def test_a_box_is_streamed_as_media_are(model):
    request = model.request("ground", image=PIXELS, text="the fox")
    for seed in range(9):
        events = list(model.stream([request.document], request.sampling, [seed]))
        begun = [event for event in events if isinstance(event, MediaBegun)]
        done = [event.segment for event in events if isinstance(event, MediaDone)]
        assert all(event.modality in ("box", "point") for event in begun)
        assert len(begun) == len(done)
        if any(isinstance(segment, Box) for segment in done):
            break
    else:
        pytest.fail("no seed gave a box")
    assert {type(segment) for segment in done} <= {Box, Point}
    last = next(event for event in events if isinstance(event, Done))
    assert last.usage["box_ids"] == 4 * sum(isinstance(segment, Box) for segment in done)


def answer(model, size, *segments):
    """The boxes of an answer to "the fox" in a picture of size (H, W)."""
    pixels = np.zeros((*size, 3), np.uint8)
    request = model.request("ground", image=pixels, text="the fox")
    document = Document((*request.document.segments[:-1], *segments))
    return request, request.boxes(document, size)


def test_boxes_come_back_in_the_pixels_of_the_picture_before_it_was_made_to_fit(model):
    """50x30 becomes 48x24 of 40x24 and margins of 4 at both sides: a cell is 4x2 pixels."""
    first, second = Box(1, 0, 11, 12, BINS, BINS), Box(0, 3, 6, 6, BINS, BINS)
    request, (boxes, notes) = answer(model, (30, 50), first, Text("a car"), second)
    assert request.inputs.image.pixels.shape == (24, 48, 3)
    assert boxes[0] == NamedBox("the fox", Box(0, 0, 50, 30, 50, 30))
    assert boxes[1].name == "a car"
    assert boxes[1].box.at == pytest.approx((0, 7.5, 25, 15))
    assert notes == ["boxes that reached beyond the picture and were cut at its edge: 1"]
    _, (boxes, notes) = answer(model, (30, 50), Box(0, 0, 1, 12, BINS, BINS), Text("none"))
    assert (boxes, notes) == (
        [], ["boxes in the margin around the picture, which are left out: 1"]
    )  # fmt: skip


def test_a_question_may_be_about_a_box(model):
    about = model.request(
        "ask", image=np.zeros((30, 50, 3), np.uint8), question="What is this?",
        box=Box(0, 0, 50, 30, 50, 30),
    )  # fmt: skip
    box = about.document.segments[2]
    assert box == Box(4, 0, 44, 24, 48, 24, "prompt", 0.0)
    assert isinstance(model.ask(PIXELS, "What is this?", box=(0, 0, 9, 9)), str)
    with pytest.raises(ValueError, match="leaves its picture of 72x48"):
        model.ask(PIXELS, "What is this?", box=(0, 0, 9, 49))
    with pytest.raises(ValueError, match="the box is of a picture of 9x9 pixels, the picture has"):
        model.request("ask", image=PIXELS, question="What?", box=Box(0, 0, 9, 9, 9, 9))


def test_a_model_without_places_says_why_it_cannot(streaming_model, unified, tmp_path):
    refusal = streaming_model.tasks["ground"]
    assert isinstance(refusal, Refusal)
    assert "has no boxes" in refusal.reason or "no ids of places" in refusal.reason
    with pytest.raises(ValueError, match=r"the model cannot ground: .*what it can do: "):
        streaming_model.ground(PIXELS, "the fox")
    save_png(tmp_path / "f.png", PIXELS)
    code, _, err = unified("ground", tmp_path / "f.png", "the fox")
    assert code == 2
    assert "the model cannot ground" in err


def test_the_command_line_writes_lines_json_and_a_picture(unified, folder, model, tmp_path):
    save_png(tmp_path / "f.png", PIXELS)
    boxed = tmp_path / "boxed.png"
    expected = model.ground(PIXELS, "the fox", 3)
    asked = ("ground", tmp_path / "f.png", "the fox", "--seed", "3")
    code, out, _ = unified(*asked, "-o", boxed, "--json", on=folder)
    assert code == 0
    told = json.loads(out)
    assert told["boxes"] == [each.to_json() for each in expected]
    assert np.array_equal(load_image(boxed), draw_boxes(PIXELS, expected))
    code, out, _ = unified(*asked, on=folder)
    assert len(out.splitlines()) == len(expected)
    for box, message in (("1,2,3", "--box is '1,2,3', expected four numbers"),
                         ("0,0,0,9", "is empty"), ("0,0,99,9", "leaves its picture")):  # fmt: skip
        code, _, err = unified("ask", tmp_path / "f.png", "What?", "--box", box, on=folder)
        assert (code, message in err) == (2, True), err


def test_boxes_are_drawn_at_their_edges():
    pixels = np.full((60, 80, 3), 200, np.uint8)
    box = Box(20, 30, 50, 55, 80, 60)
    drawn = draw_boxes(pixels, [NamedBox("fox", box)])
    changed = (drawn != pixels).any(-1)
    for y, x in ((30, 35), (54, 35), (40, 20), (40, 49)):
        assert changed[y, x]
    assert not changed[33:52, 23:47].any()
    assert not changed[56:].any()
    assert changed[:30].any()  # its name
    assert np.array_equal(draw_boxes(pixels, []), pixels)


def test_pairs_of_boxes_and_things():
    true = [Box(0, 0, 4, 4, 10, 10), Box(6, 6, 10, 10, 10, 10)]
    assert match_boxes(true[::-1], true) == (pytest.approx(1), True)
    assert match_boxes(true[:1], true) == (pytest.approx(0.5), False)
    assert match_boxes([*true, true[0]], true) == (pytest.approx(2 / 3), False)
    half = Box(0, 0, 4, 2, 10, 10)
    assert match_boxes([half], true[:1]) == (pytest.approx(0.5), True)
    assert match_boxes([half, half], true) == (pytest.approx(0.25), False)
    assert match_boxes([], []) == (1.0, True)
    assert match_boxes([half], []) == (0.0, False)


def test_parts_of_a_report(model, streaming_model):
    suite = Suite(
        {"grounding": PartSettings(2, ("small", "everything", "absent")),
         "charts": PartSettings(2, ("table", "sum"))}
    )  # fmt: skip
    report, _ = evaluate(model, suite, "m", "s")
    grounding, charts = report.parts["grounding"], report.parts["charts"]
    assert grounding.cannot is charts.cannot is None
    names = [figure.name for figure in grounding.figures]
    assert names == ["small, IoU", "small, all at IoU .5", "everything, IoU",
                     "everything, all at IoU .5", "absent, no box"]  # fmt: skip
    for part in (grounding, charts):
        assert all(0 <= f.low <= f.value <= f.high <= 1 for f in part.figures)
    assert charts.judge[0].value == 0
    assert PARTS["grounding"].verbs == ("ground",)
    cannot = evaluate(streaming_model, Suite({"grounding": PartSettings(1)}), "m", "s")[0]
    assert "ground: " in cannot.parts["grounding"].cannot
