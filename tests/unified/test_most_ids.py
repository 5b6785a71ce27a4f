"""What is reserved for a request is enough for whatever the grammar lets it become."""

import numpy as np
import pytest

from unified.engine.active import ActiveRequest
from unified.engine.most_ids import branch_lengths
from unified.engine.request import CodedSlot, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedText, coded_media
from unified.formats.grammar import Grammar
from unified.formats.load import load_format, shipped_formats
from unified.vocabulary.block import Block
from unified.vocabulary.vocabulary import Vocabulary

LEVELS = {("pocket", "audio"): 3, ("mio", "audio"): 4, ("csm", "audio"): 32,
          ("orpheus", "audio"): 7, ("anygpt", "music"): 4}  # fmt: skip
TEXT, CODES = 40, 5
GUIDED = SpanSampling(1.0, guidance=Guidance(2.0, "three-way", 1.5))


def small(name):
    """A shipped format over few ids."""
    spec = load_format(name)
    blocks = [
        Block("text", 0, TEXT),
        Block("markers", TEXT, len(spec.markers), symbols=spec.markers),
    ]
    blocks.append(Block("size", blocks[-1].stop, 6))
    for kind, span in spec.spans.items():
        for level in range(span.num_codebooks or LEVELS.get((name, kind), 1)):
            size = 1 if span.embeds else CODES
            blocks.append(Block(f"{kind}.{level}", blocks[-1].stop, size, level))
    literals = tuple((text, (20 + at,)) for at, text in enumerate(spec.literals))
    return Grammar(spec, Vocabulary(tuple(blocks), TEXT, TEXT, literals))


def segments(grammar, rng):
    """A document of up to three given segments and two slots, roles as the format has them."""
    kinds, roles = list(grammar.span_grammars), [*grammar.roles] or [None]
    parts = [CodedText(tuple(rng.integers(20, size=rng.integers(1, 9)).tolist()), roles[0])]
    ends = any(span.terminal for span in grammar.span_grammars.values())
    if not ends and rng.random() < 0.5:
        kind = kinds[int(rng.integers(len(kinds)))]
        span = grammar.span_grammars[kind]
        shape = [times if name is None else 2 * times for name, times in span.axes]
        codes = np.stack([rng.integers(block.size, size=shape) for block in span.blocks])
        if kind == "box":
            codes.sort()
        parts.append(coded_media(span.modality, codes, roles[0], kind=kind))
    slots = [CodedSlot("text", role=roles[-1]), CodedSlot("any", role=roles[-1])]
    for kind, span in grammar.span_grammars.items():
        grid = tuple(times if name is None else 2 * times for name, times in span.axes)
        fixed = not span.open_variables and rng.random() < 0.7
        slots.append(CodedSlot(kind, grid if fixed else None, role=roles[-1]))
    first = slots[int(rng.integers(len(slots)))]
    more = rng.random() < 0.4 and not ends and first.kind not in ("any", "text")
    return (*parts, first, *([slots[int(rng.integers(2, len(slots)))]] if more else []))


@pytest.mark.parametrize("name", shipped_formats())
def test_no_branch_outgrows_what_is_reserved(name):
    grammar = small(name)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        own = Sampling(GUIDED, GUIDED, GUIDED, max_text_ids=7, max_audio_frames=5, max_ids=5000)
        try:
            active = ActiveRequest(0, Request(segments(grammar, rng), seed), grammar, own, 5000)
        except ValueError as error:  # this format cannot say that: other documents of it can
            if "format" in str(error) or "role" in str(error):
                continue
            raise
        lengths = branch_lengths(active)
        slots = [s for s in active.request.segments if isinstance(s, CodedSlot)]
        wants_any = any(slot.kind == "any" for slot in slots)
        while not active.state.finished:
            start, stop = active.state.allowed()[-1 if wants_any else 0]
            active.accept(int(rng.integers(start, stop)))
        for branch, length in zip(active.branches.values(), lengths):
            assert len(branch.positions) <= length
        if all(slot.grid for slot in slots):
            assert len(active.branches["full"].positions) == lengths[0]
