"""The batched backend against transformers: every family, rows of any lengths, cached or not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tiny_families import FAMILIES, VOCAB, WINDOW, tiny_model
from transformers import MambaConfig, MambaForCausalLM

from unified.engine.backends.device_choice import DeviceChoice
from unified.engine.backends.torch_static import layouts, paged_attention
from unified.engine.backends.torch_static.fused_norms import FusedNorms
from unified.engine.backends.torch_static.paged_cache import LayerShape, PagedCache
from unified.engine.backends.torch_static.static_decoder import TorchStaticDecoder
from unified.engine.backends.transformers import TransformersDecoder
from unified.engine.sampler import Guidance, SpanSampling, guide, penalize
from unified.models.choose_backend import torch_decoder

EVERY = ((0, VOCAB),)
LENGTHS = (5, 41, 8, 19)
RULED_OUT = -1e30  # below it transformers' logits are of ids that the model does not allow


def rows_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(VOCAB, size=length).tolist() for length in lengths]


@torch.inference_mode()
def reference(hf, ids):
    """Logits (T, V) of the model's own forward, uncached."""
    return hf(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()


def stepped(decoder, rows, steps):
    """Logits (N, V) of each row's last id: prompts together, then steps of one id each."""
    cache = decoder.new_cache(len(rows), max(map(len, rows)))
    slots = range(len(rows))
    decoder.forward(cache, slots, [row[:-steps] for row in rows])
    for at in range(-steps, 0):
        states = decoder.forward(cache, slots, [[row[at]] for row in rows])
    assert cache.lengths == [len(row) for row in rows]
    return decoder.logits(states, EVERY)


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request):
    hf = tiny_model(request.param)
    return hf, TorchStaticDecoder(hf)


def test_logits_and_likeliest_ids_are_those_of_transformers(pair):
    hf, decoder = pair
    rows = rows_of(LENGTHS)
    assert min(LENGTHS) < WINDOW < max(LENGTHS)
    logits = stepped(decoder, rows, 3)
    expected = np.stack([reference(hf, row)[-1] for row in rows])
    allowed = expected > RULED_OUT
    np.testing.assert_allclose(logits[allowed], expected[allowed], atol=2e-5)
    for row in range(len(rows)):
        likeliest = np.where(allowed[row], logits[row], -np.inf).argmax()
        assert likeliest == expected[row].argmax()


def test_bfloat16_is_close_and_only_the_rows_asked_for_are_computed():
    for family in ("llama", "gemma2", "gemma3", "chameleon", "granite"):
        hf = tiny_model(family, torch.bfloat16)
        decoder = TorchStaticDecoder(hf)
        rows = rows_of(LENGTHS)
        logits = stepped(decoder, rows, 2)
        expected = np.stack([reference(hf, row)[-1] for row in rows])
        allowed = expected > RULED_OUT
        # Eight bits: sums of 24 products of other orders.
        np.testing.assert_allclose(
            logits[allowed], expected[allowed], atol=0.02 * np.abs(expected[allowed]).max()
        )
        assert decoder.model.head is not None


def test_a_row_in_company_is_the_row_alone(pair):
    _, decoder = pair
    rows = rows_of([3 + 5 * (number % 7) for number in range(16)], seed=4)
    together = stepped(decoder, rows, 2)
    alone = np.concatenate([stepped(decoder, [row], 2) for row in rows[:4]])
    np.testing.assert_allclose(together[:4], alone, atol=1e-5)


def test_ranges_are_columns_of_the_whole_head_and_a_long_prompt_is_cut():
    hf = tiny_model("mistral")
    decoder = TorchStaticDecoder(hf)
    (ids,) = rows_of([590])  # more than a pass takes
    states = decoder.forward(decoder.new_cache(1, 600), [0], [ids])
    logits = decoder.logits(states, ((2, 7), (50, VOCAB)))
    expected = reference(hf, ids)
    np.testing.assert_allclose(logits, np.c_[expected[:, 2:7], expected[:, 50:]], atol=5e-5)


def test_slots_are_copied_truncated_and_given_back(pair):
    hf, decoder = pair
    first, second = rows_of([34, 9], seed=7)  # more than a page, and less
    cache = decoder.new_cache(2, 40)
    decoder.forward(cache, [0, 1], [first, second])
    copy = cache.allocate(36)
    cache.copy_prefix(0, copy, 5)
    cache.copy_prefix(0, copy, 33, start=5)
    cache.free(0)
    cache.truncate(1, 6)
    assert cache.lengths == [0, 6, 33]
    logits = decoder.logits(decoder.forward(cache, [copy, 1], [[4, 1], [6]]), EVERY)
    expected = np.stack(
        [reference(hf, [*first[:33], 4])[-1], reference(hf, [*first[:33], 4, 1])[-1],
         reference(hf, [*second[:6], 6])[-1]]
    )  # fmt: skip
    allowed = expected > RULED_OUT
    np.testing.assert_allclose(logits[allowed], expected[allowed], atol=2e-5)


def test_the_pool_grows_when_pages_are_wanting_and_keeps_what_it_has():
    cache = PagedCache([LayerShape(2, 3, 5, torch.float32)], torch.device("cpu"), 500)
    size = cache.page_size
    slot = cache.allocate(size)
    (page,) = cache.pages(slot)
    cache.keys[0][page] = 7.0
    before = cache.generation
    larger = cache.allocate(2 * size + 1)
    assert cache.generation > before
    assert (cache.keys[0][cache.pages(slot)] == 7).all()
    assert cache.values[0].shape == (5, size, 2, 5)  # with one page of nobody's
    cache.free(slot)
    again = cache.allocate(size)
    assert again == slot
    assert cache.pages(again) == [page]
    assert not cache.keys[0][page].any()  # nothing of the sequence before
    assert not set(cache.pages(again)) & set(cache.pages(larger))
    with pytest.raises(ValueError, match="501 ids asked for, but the decoder has 500 positions"):
        cache.allocate(501)


def test_what_a_damaged_sequence_leaves_behind_reaches_nobody():
    decoder = TorchStaticDecoder(tiny_model("llama"))
    (row,) = rows_of([6])
    expected = stepped(decoder, [row], 1)
    cache = decoder.new_cache(2, 40)
    for pools in (cache.keys, cache.values):
        for pool in pools:
            pool.fill_(float("nan"))
    cache.free(0)
    slot = cache.allocate(40)
    states = decoder.forward(cache, [slot], [row])
    np.testing.assert_allclose(decoder.logits(states[-1:], EVERY), expected, atol=1e-5)


def test_a_slot_that_does_not_fit_is_a_memory_error_and_others_go_on():
    cache = PagedCache([LayerShape(2**6, 2**6, 2**6, torch.int8)], torch.device("cpu"), 2**40)
    slot = cache.allocate(1)
    with pytest.raises(MemoryError, match="memory"):
        cache.allocate(2**39)
    assert cache.allocate(1) != slot


def test_a_recorded_step_fills_up_with_rows_that_change_nothing():
    """The pass that CUDA graphs record, run as it is."""
    hf = tiny_model("gemma3")
    decoder = TorchStaticDecoder(hf)
    rows = rows_of([5, 41, 8])
    cache = decoder.new_cache(3, 45)
    decoder.forward(cache, range(3), rows)
    before = [pool.clone() for pool in cache.keys]
    pieces = [(slot, [slot + 1], cache.lengths[slot]) for slot in range(3)]
    packed = torch.from_numpy(layouts.packed_decode(cache, pieces, rows=8, width=4))
    states = decoder._step(cache, packed)
    expected = np.stack([reference(hf, [*row, slot + 1])[-1] for slot, row in enumerate(rows)])
    np.testing.assert_allclose(decoder.logits(states[:3], EVERY), expected, atol=2e-5)
    for pool, old in zip(cache.keys, before):
        changed = (pool != old).flatten(2).any(2).nonzero().tolist()
        own = {tuple(divmod(int(at), cache.page_size)) for at in packed[:3, 2]}
        assert {tuple(at) for at in changed if at[0]} == own  # page 0 is nobody's


def test_ids_are_chosen_on_the_device_for_rows_of_any_kind():
    """Sixteen of them: greedy, guided, penalized and drawn, in three ranges; each as alone."""
    decoder = TorchStaticDecoder(tiny_model("qwen3"))
    rows = rows_of([3 + number % 5 for number in range(20)], seed=2)
    cache = decoder.new_cache(20, 8)
    ends = np.cumsum([len(row) for row in rows]) - 1
    states = decoder.forward(cache, range(20), rows)
    likeliest, drawn = SpanSampling(), SpanSampling(temperature=0.9, top_p=0.9)
    guided = SpanSampling(guidance=Guidance(3.0))
    penal = SpanSampling(repetition_penalty=1.8)
    kinds = [
        (((0, VOCAB),), likeliest), (((2, 9), (30, 50)), guided),
        (((40, VOCAB),), drawn), (((1, 40),), penal),
    ]  # fmt: skip
    choices = []
    for number in range(16):
        ranges, sampling = kinds[number % 4]
        others = [int(ends[16 + number // 4])] if sampling is guided else []
        used = tuple(rows[number]) if sampling is penal else ()
        at = (int(ends[number]), *others)
        choices.append(DeviceChoice(at, ranges, sampling, number, 3 * number, used))
    ids = decoder.sample(states, choices)
    assert [decoder.sample(states, [choice])[0] for choice in choices] == ids
    assert decoder.sample(states, choices[::-1]) == ids[::-1]
    for choice, id in zip(choices, ids):
        assert any(start <= id < stop for start, stop in choice.ranges)
        if choice.sampling is drawn:
            continue
        full, *others = decoder.logits(states[list(choice.rows)], choice.ranges)
        conditions = dict(zip(choice.sampling.guidance.conditions, others))
        logits = guide(choice.sampling.guidance, full, conditions)
        columns = [id for start, stop in choice.ranges for id in range(start, stop)]
        repeated = [columns.index(used) for used in choice.penalized if used in columns]
        logits = penalize(logits, repeated, choice.sampling.repetition_penalty)
        assert columns[logits.argmax()] == id
    states = states.clone()
    states[ends[5]] = torch.nan
    with pytest.raises(ValueError, match="logits that are not numbers"):
        decoder.sample(states, choices)


def varlen(queries, keys, values, starts, _, max_count, max_length, *, scale, window_size,
           enable_gqa, seqused_k, block_table):  # fmt: skip
    """`torch.nn.attention.varlen.varlen_attn` over pages, as its documentation has it."""
    assert all(x.dtype == torch.int32 for x in (starts, seqused_k, block_table))
    outputs = []
    for number, length in enumerate(seqused_k.tolist()):
        begin, end = starts[number], starts[number + 1]
        assert end - begin <= max_count
        assert length <= max_length
        K, V = (x[block_table[number].long()].flatten(0, 1)[:length] for x in (keys, values))
        Q = queries[begin:end]
        if enable_gqa:
            K, V = (x.repeat_interleave(Q.shape[1] // x.shape[1], 1) for x in (K, V))
        scores = torch.einsum("qhc,khc->hqk", Q, K) * scale
        position = torch.arange(length - len(Q), length)[:, None]  # aligned with the last key
        at = torch.arange(length)
        seen = at <= position
        assert window_size[1] == 0
        if window_size[0] >= 0:
            seen &= at >= position - window_size[0]
        scores = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        outputs.append(torch.einsum("hqk,khc->qhc", scores, V))
    return torch.cat(outputs)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_flash_attention_is_asked_for_what_plain_attention_computes(family, monkeypatch):
    """torch has it on CUDA alone: here by its documentation, so that its arguments are right."""
    module = pytest.importorskip("torch.nn.attention.varlen")
    monkeypatch.setattr(module, "varlen_attn", varlen)
    hf = tiny_model(family)
    decoder = TorchStaticDecoder(hf)
    rows = rows_of(LENGTHS)
    expected = stepped(decoder, rows, 2)
    decoder.flash = True
    np.testing.assert_allclose(stepped(decoder, rows, 2), expected, atol=2e-5)
    cache = decoder.new_cache(1, 45)
    decoder.forward(cache, [0], [rows[1]])
    packed = torch.from_numpy(layouts.packed_decode(cache, [(0, [3], 41)], rows=2, width=2))
    states = decoder._step(cache, packed)[:1]
    expected = reference(hf, [*rows[1], 3])[-1:]
    np.testing.assert_allclose(decoder.logits(states, EVERY), expected, atol=2e-5)


def test_models_with_caches_of_other_kinds_go_to_transformers_and_that_is_told():
    stretching = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    llama = tiny_model("llama", rope_parameters=stretching)
    mamba = MambaForCausalLM(
        MambaConfig(vocab_size=VOCAB, hidden_size=24, num_hidden_layers=2, state_size=4)
    )
    for hf, reason in ((llama, "rotary positions depend"), (mamba, "layers of other kinds")):
        told = rf"{type(hf).__name__} cannot run on the torch_static backend: .*{reason}.*"
        with pytest.raises(ValueError, match=f"{told}; take backend auto or transformers"):
            torch_decoder(hf, "torch_static")
        with pytest.warns(UserWarning, match=f"{told}; backend transformers is taken"):
            decoder = torch_decoder(hf)
        assert isinstance(decoder, TransformersDecoder)
    assert isinstance(torch_decoder(tiny_model("qwen3")), TorchStaticDecoder)
    assert torch_decoder(tiny_model("qwen3"), "transformers").backend == "transformers"


@pytest.mark.parametrize("family", FAMILIES)
def test_rms_norms_are_fused_and_compute_the_same(family):
    hf = tiny_model(family)
    norms = FusedNorms(hf)
    assert len(norms) == sum(type(x).__name__.endswith("RMSNorm") for x in hf.modules())
    assert bool(len(norms)) == (family != "phi")  # which has layer norms
    ids = torch.tensor(rows_of([9]))
    with torch.inference_mode():
        before = hf(ids).logits
        with norms.used():
            torch.testing.assert_close(hf(ids).logits, before)
        assert torch.equal(hf(ids).logits, before)


def test_a_model_keeps_its_own_attention_between_passes():
    hf = tiny_model("qwen3")
    before = hf.config._attn_implementation
    decoder = TorchStaticDecoder(hf)
    (row,) = rows_of([9])
    decoder.forward(decoder.new_cache(1, 9), [0], [row])
    assert hf.config._attn_implementation == before
    assert not paged_attention.PagedModules._caches
    assert not any("forward" in vars(module) for module in hf.modules())
    torch.testing.assert_close(hf(torch.tensor([row])).logits, hf(torch.tensor([row])).logits)


def test_threads_with_caches_of_their_own_share_a_decoder():
    decoder = TorchStaticDecoder(tiny_model("gemma3"))
    rows = rows_of([9, 30, 17, 12])
    alone = [stepped(decoder, [row], 4).tobytes() for row in rows]
    with ThreadPoolExecutor(8) as pool:
        results = pool.map(lambda row: stepped(decoder, [row], 4).tobytes(), rows * 4)
    assert list(results) == alone * 4


def test_weights_that_move_are_noticed():
    decoder = TorchStaticDecoder(tiny_model("qwen3"))
    assert decoder.follows_weights()
    hf = decoder.hf
    hf.lm_head.weight.data = hf.lm_head.weight.data.clone()
    assert not decoder.follows_weights()
