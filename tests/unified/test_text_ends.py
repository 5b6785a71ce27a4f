"""Where texts end that the model does not end: budgets of their own, and loops."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from cache_lengths import Lengths

from unified.engine.engine import Engine
from unified.engine.events import Done, TextCut, TextPiece
from unified.engine.loops import LEAST_IDS, LONGEST_PHRASE, LoopFinder
from unified.engine.request import CodedSlot, CutShort, Finished, Request, Sampling
from unified.engine.sampler import SpanSampling
from unified.formats.coded import CodedText
from unified_data.document import Document, Slot, Text

WARM = SpanSampling(1.0)


def loops_at(ids, copies=4):
    finder = LoopFinder(copies)
    return next((at + 1 for at, id in enumerate(ids) if finder.push([id])), None)


@pytest.mark.parametrize("before", [0, 7, 500])
@pytest.mark.parametrize("copies", [2, 4, 9])
@pytest.mark.parametrize("period", [1, 2, 7, 12, 40, LONGEST_PHRASE])
def test_a_loop_is_noticed_at_once_and_not_before(period, copies, before):
    """The text before it may be anything but the phrase itself."""
    rng = np.random.default_rng(period)
    phrase = 1_000 + rng.permutation(period)
    ids = [*rng.permutation(600)[:before], *np.tile(phrase, 100 if period == 1 else 50)]
    assert loops_at(ids, copies) == before + max(copies * period, LEAST_IDS)


def test_texts_that_repeat_much_but_not_all_are_no_loops():
    rng = np.random.default_rng(0)
    lines = [[7, 8, 9, number, 10, 11, 12, 13, 14] for number in range(100)]
    refrain = [[*rng.integers(100, 999, 12), *range(20, 50)] for _ in range(20)]
    again = [[*range(200), *rng.integers(300, 400, 1)] for _ in range(20)]
    phrases = [[*range(LONGEST_PHRASE + 1)]] * 9
    for parts in (lines, refrain, again, phrases):
        assert loops_at(chain.from_iterable(parts)) is None
    assert loops_at([5] * (LEAST_IDS - 1)) is None
    assert loops_at([5] * LEAST_IDS) == LEAST_IDS
    finder = LoopFinder(4)
    assert not finder.push([5] * (LEAST_IDS - 1))
    finder.reset()
    assert not finder.push([5] * (LEAST_IDS - 1))


class Reciter:
    """A decoder that says the same ids over and over: after id i comes `after[i]`."""

    batch_invariant = True

    def __init__(self, vocab_size, after):
        self.vocab_size, self.max_positions, self.after = vocab_size, 400, after

    def available_bytes(self):
        return 1 << 30

    def cache_bytes(self, max_ids):
        return max_ids

    def new_cache(self):
        return Lengths()

    def forward(self, cache, places, ids):
        for slot, row in zip(places, ids):
            cache.lengths[slot] += len(row)
        return np.array([[id] for row in ids for id in row], np.float32)

    def logits(self, hidden_states, ranges):
        columns = np.concatenate([np.arange(*r) for r in ranges])
        wanted = [self.after.get(int(last), -1) for last in hidden_states[:, 0]]
        return (columns == np.array(wanted)[:, None]).astype(np.float32) * 50


def run(sampler, requests, sampling):
    """{row: (Finished, [CutShort])}"""
    ends, cuts = {}, {row: [] for row in range(len(requests))}
    for step in sampler.run(requests, sampling):
        if isinstance(step, Finished):
            ends[step.row] = step
        elif isinstance(step.event, CutShort):
            cuts[step.row].append(step.event)
    return {row: (ends[row], cuts[row]) for row in ends}


@pytest.fixture(scope="module")
def reciter(small_pocket):
    return Engine(Reciter(small_pocket.vocabulary.size, {3: 4, 4: 5, 5: 3}), small_pocket)


@pytest.mark.parametrize(
    "then", [(), (CodedText((9,), "prompt"), CodedSlot("text", role="response"))]
)
def test_a_looping_slot_ends_with_its_loop(reciter, small_pocket, then):
    """What follows goes on as ever; alone and in any batch the same."""
    asked = (CodedText((3,), "prompt"), CodedSlot("text", role="response"), *then)
    request = Request(asked, 0)
    sampling = Sampling(max_ids=250)
    ((finished, cuts),) = run(reciter, [request], sampling).values()
    texts = [s for s in small_pocket.parse(finished.ids) if s.role == "response"]
    assert cuts == [CutShort("loop", 48)] * len(texts)
    assert all(len(text.ids) == 48 for text in texts)
    endless = replace(sampling, max_repeats=0, max_text_ids=None)
    ((finished, cuts),) = run(reciter, [request], endless).values()
    assert [cut.reason for cut in cuts] == ["max_ids"] * len(cuts)
    assert cuts[0].ids > 48 or then
    assert len(finished.ids) == 250 or then


@pytest.mark.parametrize("wanted", [{}, {"num_images": 2, "grid": (1, 2)}, {"num_audios": 1}])
def test_a_loop_in_an_interleaving_ends_that_text_alone(reciter, small_pocket, wanted):
    request = Request((CodedText((3,), "prompt"), CodedSlot("any", role="response", **wanted)), 0)
    ((finished, cuts),) = run(reciter, [request], Sampling(max_ids=300)).values()
    segments = [s for s in small_pocket.parse(finished.ids) if s.role == "response"]
    assert segments[0].kind == "text"
    assert len(segments[0].ids) == 48
    assert CutShort("loop", 48) in cuts
    kinds = [segment.kind for segment in segments]
    assert kinds.count("image") >= wanted.get("num_images", 0)
    assert kinds.count("audio") >= wanted.get("num_audios", 0)


def test_a_text_slot_has_a_budget_of_its_own(random_sampler, small_pocket):
    sampler = random_sampler(small_pocket)
    free = Sampling(WARM, WARM, WARM, max_ids=200, max_repeats=0)
    asked = (CodedText((3, 1), "prompt"), CodedSlot("text", role="response"))
    for budget in (1, 5, 13):
        requests = [Request(asked, seed) for seed in range(30)]
        results = run(sampler, requests, replace(free, max_text_ids=budget))
        whole = run(sampler, requests, free)
        told = 0
        for row, (finished, cuts) in results.items():
            text = small_pocket.parse(finished.ids)[-1].ids
            unbounded = small_pocket.parse(whole[row][0].ids)[-1].ids
            assert text == unbounded[:budget]
            assert len(text) <= budget
            assert cuts == ([CutShort("max_text_ids", budget)] if len(text) == budget else [])
            told += len(cuts)
        assert told


def test_rows_with_ends_of_their_own_are_as_they_are_alone(reciter, random_sampler, small_pocket):
    asked = (CodedText((3,), "prompt"), CodedSlot("text", role="response"))
    mixed = (CodedText((3,), "prompt"), CodedSlot("any", num_images=1, role="response"))
    own = [
        Sampling(max_ids=190),
        Sampling(max_ids=190, max_repeats=9),
        Sampling(max_ids=190, max_text_ids=6),
        Sampling(WARM, WARM, WARM, max_ids=190, max_repeats=2),
    ]
    requests = [Request(what, s, p) for s in range(3) for p in own for what in (asked, mixed)]
    for sampler in (reciter, random_sampler(small_pocket)):
        alone = [run(sampler, [request], Sampling())[0] for request in requests]
        together = run(sampler, requests, Sampling(max_rows=5))
        for row, (finished, cuts) in enumerate(alone):
            assert together[row][0].ids.tolist() == finished.ids.tolist()
            assert together[row][1] == cuts


def test_streams_and_generate_tell(cli_model):
    """`TextCut` comes after the last piece, before `Done`; `generate` warns; off-switches work."""
    from unified.models.model import UnifiedModel

    model = UnifiedModel.from_pretrained(cli_model)
    document = Document((Text("a cat", "prompt"), Slot("text", role="response")))
    sampling = Sampling(max_text_ids=9)
    events = list(model.stream([document], sampling))
    assert isinstance(events[-1], Done)
    assert isinstance(events[-2], TextCut)
    cut = events[-2]
    assert (cut.index, cut.reason, cut.ids) == (1, "max_text_ids", 9)
    written = "".join(event.text for event in events if isinstance(event, TextPiece))
    assert written == events[-1].document.segments[-1].text
    with pytest.warns(UserWarning, match="budget after 9 ids .* raise max_text_ids"):
        (filled,) = model.generate(document, sampling=sampling)
    assert filled == events[-1].document


def test_the_command_line_tells_and_takes_both(unified, picture):
    code, _, err = unified("describe", picture, "--max-text-ids", 5)
    assert code == 0
    assert "note: a text reached its budget after 5 ids" in err
    long, short = (
        unified("describe", picture, "--max-text-ids", 200, "--max-repeats", n)[1] for n in (0, 2)
    )
    assert long.startswith(short.rstrip("\n"))
