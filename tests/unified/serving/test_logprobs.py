"""Log probabilities of answers: those of the decoder itself, in the official client's forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unified.engine.documents import coded_slot
from unified.engine.events import Done, TextPiece
from unified.engine.request import slot_limits
from unified.serving.told_logprobs import told_logprobs


def _direct(model, request, ids):
    """(id, {allowed id: log probability}) of every text id behind the prompt: of one pass over all
    ids, the softmax over those that the grammar allows."""
    sequencer, decoder = model.sequencer, model.decoder()
    *before, slot = request.document.segments
    prefix = sequencer.encode_prefix(before, slot).ids.tolist()
    assert ids[: len(prefix)] == prefix
    hidden = decoder.forward(decoder.new_cache(1, len(ids)), [0], [ids])
    state = sequencer.grammar.start()
    for id in prefix:
        state.advance(id)
    state.restrict(slot_limits(coded_slot(slot, sequencer, None), request.sampling),
                   state.kind == "text")  # fmt: skip
    scored = []
    for at in range(len(prefix), len(ids)):
        ranges = state.allowed() if not state.finished else ()
        if sequencer.vocabulary.is_text(ids[at]):
            allowed = [id for start, stop in ranges for id in range(start, stop)]
            (logits,) = decoder.logits(hidden[at - 1 : at], ranges).astype(np.float64)
            scores = logits - logits.max()
            scores -= np.log(np.exp(scores).sum())
            scored.append((ids[at], dict(zip(allowed, scores.tolist()))))
        if state.finished:
            break
        state.advance(ids[at])
    return scored


@pytest.mark.parametrize(
    "choices",
    [
        {"settings": {"top_logprobs": 3}},
        {"temperature": 4.0, "top_k": 7, "settings": {
            "top_logprobs": 3, "text.repetition_penalty": 1.2, "text.draft_tokens": 4}},
    ],
    ids=["likeliest", "drawn"],
)  # fmt: skip
def test_they_are_the_decoders_own_before_all_that_only_sampling_does(pocket, choices):
    request = pocket.request("write", text="The cat", images=0, sounds=0, **choices)
    scores, done = [], None
    for event in pocket.stream([request.document], request.sampling, [5]):
        if isinstance(event, TextPiece):
            scores += event.scores
        elif isinstance(event, Done):
            done = event
    expected = _direct(pocket, request, done.ids.tolist())
    assert [score.id for score in scores] == [id for id, _ in expected]
    assert len(scores) > 60
    for score, (id, of_all) in zip(scores, expected):
        assert score.logprob == pytest.approx(of_all[id], abs=1e-3)
        assert len(score.top) == min(3, len(of_all))
        best = sorted(of_all.values(), reverse=True)[: len(score.top)]
        assert [logprob for _, logprob in score.top] == pytest.approx(best, abs=1e-3)
        assert all(
            of_all[other] == pytest.approx(logprob, abs=1e-3) for other, logprob in score.top
        )
    unsure = min(score.logprob for score in scores)
    assert unsure < (-0.5 if choices.get("temperature") else -1e-3)
    plain = replace(request.sampling, top_logprobs=None)
    (same,) = [e for e in pocket.stream([request.document], plain, [5]) if isinstance(e, Done)]
    np.testing.assert_array_equal(same.ids, done.ids)


ASKED = {"model": "pocket", "seed": 2, "temperature": 1.0}
TITLE = [{"role": "user", "content": "The cat"}]


def _joined(content):
    return bytes(byte for entry in content for byte in entry.bytes).decode()


def test_a_chat_has_them_whole_and_streamed(client, pocket):
    asked = {**ASKED, "messages": TITLE, "logprobs": True, "top_logprobs": 2, "max_tokens": 60}
    choice = client.chat.completions.create(**asked).choices[0]
    assert _joined(choice.logprobs.content) == choice.message.content
    assert choice.logprobs.refusal is None
    assert all(len(entry.top_logprobs) == 2 for entry in choice.logprobs.content)
    assert all(entry.logprob <= entry.top_logprobs[0].logprob for entry in choice.logprobs.content)
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    streamed = [entry for chunk in chunks if chunk.logprobs for entry in chunk.logprobs.content]
    assert streamed == choice.logprobs.content
    without = client.chat.completions.create(**{**asked, "logprobs": False, "top_logprobs": None})
    assert without.choices[0].logprobs is None
    assert without.choices[0].message.content == choice.message.content


def test_what_stands_behind_a_stop_and_in_a_thought_has_none(client, pocket):
    whole = client.chat.completions.create(**ASKED, messages=TITLE).choices[0].message.content
    stop = whole[30:38]
    asked = {**ASKED, "messages": TITLE, "logprobs": True, "stop": [stop]}
    choice = client.chat.completions.create(**asked).choices[0]
    assert choice.message.content == whole[: whole.find(stop)]
    joined = _joined(choice.logprobs.content)
    assert joined.startswith(choice.message.content)
    assert stop not in joined
    assert all(entry.top_logprobs == [] for entry in choice.logprobs.content)


def test_a_response_has_them_where_they_are_included(client, pocket):
    fields = {**ASKED, "extra_body": {"seed": 2}, "input": "The cat", "max_output_tokens": 60}
    del fields["seed"]
    asked = {**fields, "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    events = list(client.responses.create(**asked, stream=True))
    part = events[-1].response.output[0].content[0]
    assert _joined(part.logprobs) == part.text
    assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    pairs = [(entry.token, entry.logprob) for event in deltas for entry in event.logprobs]
    assert pairs == [(entry.token, entry.logprob) for entry in part.logprobs]
    (done,) = [event for event in events if event.type == "response.output_text.done"]
    assert len(done.logprobs) == len(part.logprobs)
    warned = client.responses.create(**fields, top_logprobs=2)
    assert warned.output[0].content[0].logprobs == []
    assert any("top_logprobs has no effect" in text for text in warned.warnings)


def test_where_there_are_none_they_are_refused_by_name(client, refused):
    def chat(**fields):
        return lambda: client.chat.completions.create(**ASKED, messages=TITLE, **fields)

    image = {"extra_body": {"modalities": ["image"]}}
    refused(chat(logprobs=True, **image), "logprobs", "no text")
    refused(chat(top_logprobs=3), "top_logprobs", "set logprobs to true")
    refused(chat(logprobs=True, top_logprobs=21), "top_logprobs", "20")
    include = {"include": ["reasoning.encrypted_content"]}
    refused(lambda: client.responses.create(model="pocket", input="The cat", **include),
            "include[0]", "logprobs")  # fmt: skip


def test_a_marker_in_place_of_a_text_id_is_told_by_name(pocket):
    vocabulary = pocket.vocabulary
    marker = next(id for id in range(vocabulary.size) if not vocabulary.is_text(id))
    from unified.engine.text_scores import TextScore

    text = next(id for id in range(vocabulary.size) if vocabulary.is_text(id))
    (told,) = told_logprobs([TextScore(text, -0.5, ((marker, -1.0),))], pocket.sequencer)
    assert told["logprob"] == -0.5
    assert told["top_logprobs"][0]["bytes"] == []
    assert told["top_logprobs"][0]["token"]
