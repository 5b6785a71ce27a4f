"""Positions of several ids on the backends of torch: sums, the depth decoder step by step, ids."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_together import together_model
from tiny_families import tiny_model

from unified.engine.backends.depth_config import DepthConfig
from unified.engine.backends.depth_module import DepthDecoder
from unified.engine.backends.torch_positions import (
    NO_ID,
    DepthRows,
    TorchPositions,
    position_array,
    summed_embeddings,
)
from unified.engine.backends.torch_static.static_decoder import TorchStaticDecoder
from unified.engine.backends.transformers import TransformersDecoder
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import Guidance, SpanSampling
from unified.formats.coded import CodedAudio, CodedImage, CodedText
from unified.models.code_output import depth_decoder_of
from unified.models.hf_checkpoint import decoder_of

RANGES = ((3, 7), (20, 33))
BACKENDS = {"transformers": TransformersDecoder, "torch_static": TorchStaticDecoder}


def depth_decoder(**changes) -> DepthDecoder:
    sizes = {
        "input_size": 12, "hidden_size": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
        "head_dim": 6, "intermediate_size": 20, "num_ids": 4, "ranges": RANGES,
    }  # fmt: skip
    torch.manual_seed(0)
    module = DepthDecoder(DepthConfig(**{**sizes, **changes}))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


HIDDEN = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
IDS = [[3, 20, 32], [6, 6, 21], [25, 3, 3], [4, 5, 6], [30, 31, 32]]


def likeliest(module, row, ids):
    """Logits of the next id by the whole forward."""
    states = module(HIDDEN[row : row + 1], torch.tensor([ids]))
    return module.logits(states[0, -1:], RANGES)[0].detach().numpy()


@pytest.mark.parametrize("per_level", [False, True])
def test_rows_at_different_depths_are_what_the_whole_forward_says(per_level):
    module = depth_decoder(per_level=per_level)
    positions = TorchPositions(DepthRows(module, 7), HIDDEN)  # two rows are nobody's
    positions.append([0, 1, 3, 4], [IDS[row][0] for row in (0, 1, 3, 4)])
    positions.append([1], [IDS[1][1]])  # forced, ahead of the others
    told = {0: 1, 1: 2, 3: 1, 4: 1}

    def check():
        rows = list(told)
        logits = positions.logits(rows, RANGES)
        for row, own in zip(rows, logits):
            np.testing.assert_allclose(
                own, likeliest(module, row, IDS[row][: told[row]]), atol=1e-5
            )
        some = positions.logits(rows[1:2], ((4, 6), (20, 21)))
        np.testing.assert_allclose(some, logits[1:2, [1, 2, 4]], atol=1e-6)

    with torch.no_grad():
        check()
        positions.append([2], [IDS[2][0]])  # begins late
        told[2] = 1
        check()
        for row in (4, 0):
            positions.append([row], [IDS[row][1]])
            told[row] += 1
        positions.append([4], [IDS[4][2]])
        told[4] += 1
        check()
    with pytest.raises(ValueError, match="the depth decoder has no row for id 8"):
        positions.append([0], [8])
    with pytest.raises(ValueError, match="the depth decoder has no row for id 33"):
        positions.append([0], [33])


def test_what_a_damaged_position_leaves_behind_reaches_nobody():
    module, broken = depth_decoder(), HIDDEN.clone()
    broken[1] = torch.nan
    rows = DepthRows(module, 5)
    for hidden in (broken, HIDDEN):
        positions = TorchPositions(rows, hidden)
        positions.append(range(5), [ids[0] for ids in IDS])
        logits = positions.logits(range(5), RANGES)
        assert np.isfinite(logits[[0, 2, 3, 4]]).all()
    np.testing.assert_allclose(logits[1], likeliest(module, 1, IDS[1][:1]), atol=1e-5)


def test_positions_of_several_are_sums_and_those_of_one_stay_exact():
    table = torch.nn.Embedding(9, 5)
    ids = position_array([[3, (1, 2, 8)], [(4, 4), 0]])
    assert ids.tolist() == [
        [[3, NO_ID, NO_ID], [1, 2, 8]], [[4, 4, NO_ID], [0, NO_ID, NO_ID]],
    ]  # fmt: skip
    summed = summed_embeddings(table, torch.from_numpy(ids))
    rows = table.weight
    expected = [[rows[3], rows[1] + rows[2] + rows[8]], [2 * rows[4], rows[0]]]
    for row, own in zip(summed, expected):
        torch.testing.assert_close(row, torch.stack(own))
    assert torch.equal(summed[0, 0], rows[3])
    assert position_array([[3, 4]]).shape == (1, 2)
    assert position_array([[3, (4, 5)]], num_ids=4).shape == (1, 2, 4)


@torch.inference_mode()
def from_scratch(hf, positions):
    """Last hidden states (L, D) of a model's own forward over sums of embeddings."""
    table = hf.get_input_embeddings()
    ids = [(p,) if isinstance(p, int) else p for p in positions]
    embedded = torch.stack([sum(table(torch.tensor([[id]]))[0, 0] for id in own) for own in ids])
    return hf.base_model(inputs_embeds=embedded[None], use_cache=False)[0][0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["llama", "gemma3", "granite", "gemma2"])
def test_a_model_does_to_a_sum_what_it_does_to_an_embedding(family, backend):
    hf = tiny_model(family)
    decoder = BACKENDS[backend](hf)
    rows = [[3, (4, 5, 6), (7, 7)], [(1, 2), 9, 4, (30, 31, 32)]]
    cache = decoder.new_cache(2, 9)
    prompts = decoder.forward(cache, [0, 1], [row[:2] for row in rows])
    steps = [decoder.forward(cache, [0, 1], [[row[2]] for row in rows])]
    steps.append(decoder.forward(cache, [1], [[rows[1][3]]]))
    assert cache.lengths[:2] == [3, 4]
    expected = [from_scratch(hf, row) for row in rows]
    actual = torch.cat([prompts, *steps])
    whole = [*expected[0][:2], *expected[1][:2], expected[0][2], expected[1][2], expected[1][3]]
    torch.testing.assert_close(actual, torch.stack(whole), atol=2e-5, rtol=1e-4)


def test_a_recorded_step_holds_positions_of_several():
    """The pass that CUDA graphs record, run as it is."""
    from unified.engine.backends.torch_static import layouts

    hf = tiny_model("qwen3")
    decoder = TorchStaticDecoder(hf)
    rows, new = [[5, (6, 7)], [8]], [[(1, 2, 3)], [4, (9, 9)]]
    cache = decoder.new_cache(2, 45)
    decoder.forward(cache, [0, 1], rows)
    pieces = [(slot, new[slot], cache.lengths[slot]) for slot in (0, 1)]
    packed = torch.from_numpy(layouts.packed_decode(cache, pieces, rows=4, width=2, num_ids=3))
    states = decoder._step(cache, packed, 3)[:3]
    expected = [from_scratch(hf, row + own)[-len(own) :] for row, own in zip(rows, new)]
    torch.testing.assert_close(states, torch.cat(expected), atol=2e-5, rtol=1e-4)


WORDS = CodedText((1, 2, 3), "prompt")
SOUND = CodedAudio(np.array([[1, 2, 8], [4, 5, 0], [0, 3, 1]]), "prompt")
PICTURE = CodedImage(np.array([[[1, 2]], [[4, 5]]]), "prompt")
AUDIO, IMAGE = CodedSlot("audio", role="response"), CodedSlot("image", (2, 3), role="response")
WRITTEN = CodedSlot("text", role="response")
LIKELIEST = SpanSampling()
GREEDY = Sampling(LIKELIEST, LIKELIEST, LIKELIEST, max_ids=90, max_audio_frames=5)
GUIDED = replace(GREEDY, image=SpanSampling(guidance=Guidance(2.5)), max_audio_frames=3)
LAID_OUT = [(WORDS, AUDIO), (SOUND, WORDS, IMAGE), (PICTURE, WORDS, WRITTEN), (SOUND, AUDIO)]


def ids_of(decoder, grammar, requests):
    """The ids that each of some requests ends with."""
    events = Engine(decoder, grammar).run(requests, GREEDY)
    ids = {event.row: event.ids.tolist() for event in events if isinstance(event, Finished)}
    return [ids[row] for row in range(len(requests))]


@torch.inference_mode()
def likeliest_codes(model, ids, prompt):
    """For every code behind the prompt of a sequence: the likeliest id, all from scratch."""
    hf, grammar = model.hf.eval(), model.grammar
    state, positions, allowed = grammar.start(), [], []
    for id in ids:
        allowed.append([i for start, stop in state.allowed() for i in range(start, stop)])
        if state.depth:
            before = positions[-1]
            positions[-1] = (*(before if isinstance(before, tuple) else (before,)), id)
        else:
            positions.append(id)
        state.advance(id)
    hidden, depth = from_scratch(hf, positions), depth_decoder_of(hf)
    likeliest, at = [], 0
    for number, position in enumerate(positions):
        own = (position,) if isinstance(position, int) else position
        for level, id in enumerate(own):
            if at >= prompt and grammar.modality(id) in ("image", "audio"):
                before = hidden[number - 1]
                logits = hf.lm_head(before)
                if level and depth is not None:
                    states = depth(before[None], torch.tensor([own[:level]]))[0, -1]
                    rows = depth.config.rows[allowed[at]].tolist()
                    own_logits = depth.lm_head(states)[rows]
                else:
                    own_logits = logits[allowed[at]]
                likeliest.append((at, allowed[at][int(own_logits.argmax())]))
            at += 1
    return dict(likeliest)


@pytest.mark.parametrize("backend", ["cpu", *BACKENDS])
@pytest.mark.parametrize("codes", ["depth", "per level", "heads"])
def test_ids_are_those_of_a_plain_loop(codes, backend):
    depth = {"num_layers": 2, "per_level": True} if codes == "per level" else None
    model = together_model("heads" if codes == "heads" else "depth", depth)
    decoder = decoder_of(model.hf, backend=backend)
    assert decoder.backend == backend
    requests = [Request(segments, seed) for seed, segments in enumerate(LAID_OUT)]
    for segments, ids in zip(LAID_OUT, ids_of(decoder, model.grammar, requests)):
        kind = segments[-1].kind
        prompt = len(model.grammar.serialize(segments[:-1], end=False).ids)
        expected = likeliest_codes(model, ids, prompt)
        assert len(expected) >= {"audio": 3, "image": 12, "text": 0}[kind]
        assert {at: ids[at] for at in expected} == expected


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("codes", ["depth", "heads"])
def test_sixteen_rows_of_all_kinds_are_what_each_is_alone_and_on_the_cpu_backend(codes, backend):
    model = together_model(codes)
    requests = [
        Request(LAID_OUT[number % 4], number, GUIDED if number % 3 else None)
        for number in range(16)
    ]
    decoder = decoder_of(model.hf, backend=backend)
    together = ids_of(decoder, model.grammar, requests)
    for number in (1, 5, 8, 11):
        assert ids_of(decoder, model.grammar, requests[number : number + 1]) == [together[number]]
    assert together == ids_of(decoder_of(model.hf, backend="cpu"), model.grammar, requests)
    for ids in together:
        model.grammar.validate(ids)
