"""Prompts of many parts: shots, gaps and tools, by a model of three documents."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_model import DECODER, TEXT, media

from unified import UnifiedModel
from unified.dataloading.layout import Layout
from unified.dataloading.source import Source
from unified.dataloading.source_samples import SourceSamples
from unified.dataloading.stream import StreamConfig, StreamContext
from unified.dataloading.transforms import Draws, transform
from unified.formats.coded import CodedText
from unified.formats.columns import example_vocabulary
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits
from unified.formats.load import load_format
from unified.models.grafting.experts import Expert
from unified.models.tools import Tool, ToolError, follow_calls
from unified.sequence.infilling import with_random_gap
from unified.tasks.parts import MediaPart, SlotPart
from unified.tasks.shot_files import read_shots
from unified.tasks.shots import check_in_a_row, shot_of
from unified.tasks.task import Task
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.images import encode_png
from unified_data.document import Document, Image, Slot, Text

CODED = CodedText((3, 4), "prompt")
RNG = np.random.default_rng(2)
PICTURES = [RNG.integers(0, 255, (12, 24, 3), dtype=np.uint8) for _ in range(4)]
ASKED = Document((Text("how big", "prompt"), Slot("text", role="response")))
KNOWN = (
    Document(
        (
            Text("how big", "prompt", 0.0), Text("area dog", "call"), Text("12", "result", 0.0),
            Text("a cat", "call"), Text("b", "result", 0.0), Text("12 dogs", "response"),
        )
    ),
    Document((Text("the", "prefix"), Text("is red", "suffix"), Text("dog", "middle"))),
    Document((Text("the", "prefix"), Text("and", "suffix"), Text("cat", "middle"))),
)  # fmt: skip


def teach(model, steps):
    """Let a model learn KNOWN by heart."""
    sequences = [model.sequencer.encode(document) for document in KNOWN]
    longest = max(len(sequence.ids) for sequence in sequences)
    ids = torch.full((len(KNOWN), longest), model.sequencer.grammar.padding)
    labels = torch.full((len(KNOWN), longest), -100)
    for row, sequence in enumerate(sequences):
        length = len(sequence.ids)
        ids[row, :length] = torch.from_numpy(sequence.ids)
        labels[row, :length] = torch.from_numpy(np.where(sequence.loss > 0, sequence.ids, -100))
    optimizer = torch.optim.AdamW(model.hf.parameters(), lr=0.01)
    for _ in range(steps):
        loss = model.hf(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3, loss


@pytest.fixture(scope="module")
def model():
    """It knows KNOWN by heart."""
    torch.manual_seed(0)
    shape = {**DECODER, "hidden_size": 32, "num_attention_heads": 2, "head_dim": 16}
    model = UnifiedModel.create(shape, text_tokenizer=TEXT, format="tools", **media())
    teach(model, 60)
    return model


def texts_of(document):
    return [(segment.role, segment.text) for segment in document]


# Shots.


def test_shots_are_laid_out_as_they_are_learnt_id_for_id(model):
    captions = ["a cat", "a dog", "the dog"]
    pairs = [Document((Image(p), Text(c))) for p, c in zip(PICTURES, captions)]
    turned = Document((Text("a dog", "prompt"), Image(PICTURES[1], "response")))
    asked = model.request("describe", image=PICTURES[2], shots=(pairs[0], turned))
    *before, slot = asked.document.segments
    assert slot.modality == "text"
    assert [segment.loss for segment in before] == [0.0] * 5
    sequencer = model.sequencer
    stored = [
        [sequencer.code_segment(document.segments[0]), document.segments[1]] for document in pairs
    ]
    layout = Layout(sequencer.grammar, sequencer.text_tokenizer)
    learnt, _, _ = transform(
        layout, stored[2], Source("x", shots=2), Draws(), model.tasks, 12, stored[:2]
    )
    whole = sequencer.encode(Document((*before, Text(captions[2], "response"))))
    assert learnt.ids.tolist() == whole.ids.tolist()
    text = layout.grammar.vocabulary.to_ids("text", np.array(TEXT.encode(captions[2])))
    count = len(text) + 2  # with the marker of the response, and the end
    assert (learnt.loss_weights > 0).tolist() == [False] * (len(whole.ids) - count) + [True] * count
    other = Draws(noise=3)
    assert [
        transform(layout, stored[2], Source("x", shots=2), other, model.tasks, 12, stored[:2])[0]
        .ids.tolist()
        for _ in range(2)
    ].count(whole.ids.tolist()) in (0, 2)  # fmt: skip
    assert isinstance(model.describe(PICTURES[2], shots=pairs[:2], max_text_ids=4), str)


DESCRIBE = Task("describe", (MediaPart("image", "prompt"), SlotPart("text", "response")))


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ((Text("a"),), "0 segments of a prompt and 1 of an answer, expected both"),
        ((Image(PICTURES[0]), Slot("text")), "it has a slot; a shot is answered"),
        (
            (Text("a", "prompt"), Text("b", "response")),
            "it has text and then text, but to describe is given image and makes text",
        ),
    ],
)
def test_a_document_that_is_no_shot_is_refused(segments, message, model):
    with pytest.raises(ValueError, match=message):
        shot_of(DESCRIBE, segments)
    with pytest.raises(ValueError, match=f"shot 0: .*{message}"):
        model.describe(PICTURES[0], shots=(Document(segments),))


def test_shots_that_do_not_fit_are_refused_by_their_number(model):
    shots = [Document((Image(PICTURES[0]), Text("a cat")))] * 30
    with pytest.raises(ValueError, match=r"does not fit behind 30 shots: .* give fewer shots"):
        model.describe(PICTURES[1], shots=shots)
    with pytest.raises(ValueError, match="shots are of verbs"):
        model.sample(ASKED, shots=shots[:1])
    spec = load_format("janus")
    sequencer = SimpleNamespace(
        grammar=Grammar(spec, example_vocabulary(spec)), embedder_of=lambda segment: None
    )
    drawn = (Text("a"), Image(PICTURES[0]))
    with pytest.raises(
        ValueError, match=r"1 shot cannot stand before .*format 'janus'.*a document"
    ):
        check_in_a_row(Document(drawn * 2), 1, sequencer)


def test_shots_come_from_documents_lines_shards_and_folders(tmp_path, unified, picture, refused):
    from tokenized_shards import write

    document = Document((Text("a cat", "prompt", 0.0), Image(PICTURES[0], "response")))
    row = document.to_json(tmp_path, "one")
    (tmp_path / "one.json").write_text(json.dumps(row))
    (tmp_path / "two.jsonl").write_text(f"{json.dumps(row)}\n\n{json.dumps(row)}\n")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(encode_png(PICTURES[0]))
    (tmp_path / "pictures" / "a.txt").write_text("a cat")
    (shard,) = write(tmp_path / "shards", {"draw": [document]})
    numbers = {"one.json": 1, "two.jsonl": 2, "pictures": 1, "shards": 1, f"shards/{shard.name}": 1}
    for name, number in numbers.items():
        assert read_shots(tmp_path / name) == (document,) * number, name
    (tmp_path / "bad.jsonl").write_text('{"segments": []}\n{"segment": []}\n')
    for name, message in (("bad.jsonl", "line 2: document has"), ("x.csv", "is no file of shots")):
        with pytest.raises(ValueError, match=message):
            read_shots(tmp_path / name)
    options = ("--max-text-ids", 3, "--shots")
    code, _, err = unified("describe", picture, *options, tmp_path / "pictures")
    assert code == 0, err
    assert "shots: the picture of 24x12" in err
    refused(unified("describe", picture, *options, tmp_path / "bad.jsonl"), "line 2: document has")


def test_sets_of_shots_are_samples(tiny_sequencer, write_codes, tmp_path):
    documents = [Document((Text(f"cat {number}"),)) for number in range(6)]
    folder = write_codes(tmp_path / "codes", {"a": documents[:4], "b": documents[4:]})
    samples = SourceSamples("s", Source(str(folder), shots=2), tiny_sequencer.vocabulary)
    assert len(samples) == 2
    _, read = samples.read_set(1)
    assert [segments[0].text for segments in read] == ["cat 3", "cat 4", "cat 5"]
    with pytest.raises(ValueError, match=r"6 documents are no whole sets of 5 \(shots: 4"):
        SourceSamples("s", Source(str(folder), shots=4), tiny_sequencer.vocabulary)


# Gaps.


@pytest.mark.parametrize(("end", "middle"), [("is red", "dog"), ("and", "cat")])
def test_a_gap_is_filled_with_what_stands_behind_it_in_view(model, end, middle):
    document = Document(
        (Text("the", "response"), Slot("text", role="response"), Text(end, "response"))
    )
    (filled,) = model.infill(document, temperature=0.0)
    assert texts_of(filled) == [("response", "the"), ("response", middle), ("response", end)]


def test_media_stand_before_in_and_behind_a_gap(model):
    lead, picture = Text("q", "prompt"), Image(PICTURES[0])
    document = Document((lead, picture, Slot("image", 12, 24), Slot("text"), Text("end")))
    (filled,) = model.infill(document, max_text_ids=3)
    kinds = [type(segment).__name__ for segment in filled]
    assert kinds == ["Text", "Image", "Image", "Text", "Text"]
    assert [segment.role for segment in filled] == ["prompt", None, None, None, None]
    assert filled.segments[1] == picture


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ((Text("a"), Slot("text")), "nothing stands behind the slot"),
        (
            (Slot("text"), Text("a"), Slot("text"), Text("b")),
            r"slots at \[0, 2\], expected one gap",
        ),
        (
            (Text("a", "response"), Slot("text", role="response"), Text("b", "prompt")),
            "has roles prompt, response, expected one",
        ),
    ],
)
def test_a_document_without_a_gap_is_refused(model, segments, message):
    with pytest.raises(ValueError, match=message):
        model.infill(Document(segments))


def test_a_format_without_infilling_is_named(streaming_model, tmp_path, unified, refused):
    document = Document((Slot("text"), Text("a")))
    reason = "format 'pocket' has no role prefix"
    with pytest.raises(ValueError, match=reason):
        streaming_model.infill(document)
    path = tmp_path / "gap.json"
    path.write_text(json.dumps(document.to_json(tmp_path, "gap")))
    refused(unified("sample", path, "--infill", "-o", tmp_path / "out.json"), reason)
    sequencer = streaming_model.sequencer
    config = StreamConfig({"s": Source(str(tmp_path), infill=0.5)}, 99, 1, 0, 0)
    with pytest.raises(ValueError, match=reason):
        StreamContext(config, sequencer.grammar, sequencer.text_tokenizer)


def test_drawn_gaps_hold_all_of_the_document(model):
    body = [Text("a cat and", "response"), Text("the dog is red", "response")]
    seen = set()
    layout = Layout(model.sequencer.grammar, model.sequencer.text_tokenizer)
    for seed in range(40):
        segments = [Text("q", "prompt", 0.0), *body]
        gapped = with_random_gap(segments, np.random.default_rng(seed))
        if gapped is None:
            continue
        by_role = {
            role: "".join(each.text for each in gapped if each.role == role)
            for role in ("prefix", "middle", "suffix")
        }
        assert "".join(by_role.values()) == "a cat andthe dog is red"
        assert all(segment.text.strip() for segment in gapped)
        seen.add(by_role["middle"])
        document, _, _ = transform(
            layout, segments, Source("x", infill=1.0), Draws(infill=0, noise=seed)
        )
        roles = [segment.role for segment in layout.grammar.parse(document.ids)]
        assert roles[0] == "prompt"
        assert roles[-1] in ("middle", "response")
    assert len(seen) > 20


# Tools.


def test_a_model_calls_tools_and_goes_on_with_what_they_give(model):
    expert = Expert("a", lambda picture: "b", "image")
    asked = []
    area = Tool("area", lambda question, document: asked.append(question) or "12")
    tools = [area, Tool.of_expert(expert)]
    run = model.use_tools(ASKED, tools, temperature=0.0, most_calls=2)
    assert asked == ["dog"]
    assert [call.name for call in run.calls] == ["area", "a"]
    assert run.calls[1].error == "there is no image before the call"
    tools[1] = Tool("a", lambda question, document: "b")
    run = model.use_tools(ASKED, tools, temperature=0.0)
    assert texts_of(run.document) == texts_of(KNOWN[0])
    assert texts_of(run.answer) == [("prompt", "how big"), ("response", "12 dogs")]
    assert [(p.segment, p.expert, p.source) for p in run.provenance] == [
        (2, "area", 1),
        (4, "a", 3),
    ]
    pictures = [Tool("area", lambda question, document: Image(PICTURES[0][:11]))]
    run = model.use_tools(ASKED, pictures, temperature=0.0, most_calls=1)
    assert run.document.segments[2].pixels.shape == (12, 24, 3)
    assert len(run.calls) == 1


def test_a_chat_model_calls_tools_and_fills_gaps_between_markers_of_its_own(cli_llm):
    torch.manual_seed(0)
    model = UnifiedModel.extend(cli_llm, format="chat-tools", dtype="float32")
    for document in KNOWN:
        again = model.sequencer.decode(model.sequencer.encode(document).ids)
        assert texts_of(again) == texts_of(document)
    teach(model, 90)
    tools = [Tool(name, lambda question, document, told=told: told) for name, told in
             (("area", "12"), ("a", "b"))]  # fmt: skip
    run = model.use_tools(ASKED, tools, temperature=0.0)
    assert texts_of(run.document) == texts_of(KNOWN[0])
    (filled,) = model.infill(Document((Slot("text"), Text("a dog"))), max_text_ids=3)
    assert texts_of(filled)[-1] == (None, "a dog")


def test_errors_of_tools_are_told_or_end_the_sampling_by_name(model):
    tools = [Tool("area", lambda question, document: 1 // 0)]
    run = model.use_tools(ASKED, tools, temperature=0.0, most_calls=1)
    assert texts_of(run.document)[2] == (
        "result",
        "error: ZeroDivisionError: integer division or modulo by zero",
    )
    with pytest.raises(ToolError, match="tool 'area', called with 'dog': ZeroDivisionError"):
        model.use_tools(ASKED, tools, temperature=0.0, on_error="raise")
    long = [Tool("area", lambda question, document: "cat " * 300)]
    with pytest.raises(ValueError, match=r"behind 1 call of tools: .* raise max_ids"):
        model.use_tools(ASKED, long, temperature=0.0)


def test_a_format_without_calls_is_named(streaming_model):
    with pytest.raises(ValueError, match="format 'pocket' has no role call"):
        streaming_model.use_tools(ASKED, [Tool("a", lambda question, document: "b")])


def test_calls_are_bounded_and_media_counted_over_all_parts():
    slots = []

    def fill(document, may_call):
        *before, slot = document.segments
        slots.append((slot.num_images, may_call))
        written = Text("add [2]", "call") if may_call else Text("done", "response")
        return Document((*before, Image(PICTURES[0], "response"), written))

    document = Document((Text("go", "prompt"), Slot("any", num_images=3, role="response")))
    total = Tool.of_json("add", lambda **numbers: str(sum(numbers.values())))
    run = follow_calls(fill, document, [total], most_calls=2)
    assert slots == [(3, True), (2, True), (1, False)]
    assert [call.error for call in run.calls] == [
        "its arguments are [2], expected a JSON object"
    ] * 2
    twice = [Tool("a", fill), Tool("a", fill)]
    for bad, message in ((twice, "two tools are called 'a'"), ([], "there are no tools")):
        with pytest.raises(ValueError, match=message):
            follow_calls(fill, document, bad)
    with pytest.raises(ValueError, match="tool 'add' gave 3 for '', expected a text"):
        follow_calls(
            lambda document, may_call: Document((Text("add", "call"),)),
            Document((Slot("any"),)), [Tool("add", lambda question, document: 3)],
        )  # fmt: skip


def test_whatever_is_chosen_where_calls_are_allowed_is_a_document():
    spec = load_format("tools")
    vocabulary = Vocabulary.build(19, 24, spec.markers, 4, image=((7,), "i"), audio=((5, 6), "a"))
    grammar = Grammar(spec, vocabulary)
    last = {"call": 0, "response": 0}
    for seed in range(200):
        rng = random.Random(seed)
        ids = list(grammar.serialize([CODED], end=False).ids)
        state = grammar.start()
        for id in ids:
            state.advance(int(id))
        images = rng.choice([None, 0, 2])
        state.restrict(
            Limits(max_ids=rng.randint(30, 60), calls="call", role="response", num_images=images)
        )
        while not state.finished:
            start, stop = rng.choice(state.allowed())
            ids.append(rng.randrange(start, stop))
            state.advance(ids[-1])
        segments = grammar.parse(ids)
        last[segments[-1].role] += 1
        kinds = [segment.kind for segment in segments]
        assert [s.kind for s in segments if s.role == "call"] in ([], ["text"])
        if segments[-1].role == "response" and images is not None:
            assert kinds.count("image") == images
    assert min(last.values()) > 10
