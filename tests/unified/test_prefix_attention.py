"""Spans whose positions see one another: cached, shared, cut and trained as whole forwards see."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.helpers.grafted import clip_folder, grafted, picture, text_tokenizer, tiny_llm
from unified.dataloading.layout import Layout
from unified.dataloading.packed_sequence import PackedSequence
from unified.dataloading.packing import pack, split_document
from unified.engine.active import ActiveRequest
from unified.engine.backends.both_ways import as_span
from unified.engine.backends.transformers import TransformersDecoder
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request, Sampling
from unified.engine.sampler import FULL, Guidance, SpanSampling
from unified.formats.coded import CodedMedia
from unified.formats.load import load_format
from unified.formats.parser import parse_format
from unified.models.grafting.graft import Graft
from unified.models.info import describe_model
from unified.models.model import UnifiedModel
from unified.training.micro_batch import make_micro_batch
from unified.training.train_module import TrainModule
from unified_data.document import Document, Image, Slot, Text

GREEDY = Sampling(text=SpanSampling(0.0, draft_tokens=0), max_text_ids=5)
CASES = {"prompt": ("prompt",), "image": ("image",)}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clip_folder(tmp_path_factory.mktemp("prefix") / "clip")


def extended(clip, names):
    text = text_tokenizer()
    return UnifiedModel.extend(
        tiny_llm(text), text_tokenizer=text, see=Graft(clip, "mlp"), bidirectional=names
    )


@pytest.fixture(scope="module")
def folders(clip, tmp_path_factory):
    base = tmp_path_factory.mktemp("prefix")
    for case, names in CASES.items():
        extended(clip, names).save_pretrained(base / case)
    return base


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param


@pytest.fixture(scope="module", params=["transformers", "torch_static"])
def model(folders, case, request):
    return UnifiedModel.from_pretrained(folders / case, backend=request.param)


def document(*prompt):
    return Document((*(Image(p, "prompt") if isinstance(p, np.ndarray) else Text(p, "prompt")
                       for p in prompt), Slot("text", role="response")))  # fmt: skip


DOCUMENTS = [
    document("what is it?"), document("a cat", picture(2), "eats"), document(picture(3)),
    document("what is it? a red panda"), document("a cat", picture(2), "eats in it"),
]  # fmt: skip


TURNS = Document((
    Text("a cat", "prompt"), Slot("text", role="response"), Image(picture(1), "prompt"),
    Text("what is it?", "prompt"), Slot("text", role="response"),
))  # fmt: skip


def request_of(model, asked, number=0):
    slot = CodedSlot("text", role="response")
    coded = model.sequencer.code(asked)
    return Request(tuple(slot if isinstance(s, Slot) else s for s in coded), number)


def spans_of(model, ids, case):
    """[start, stop) of what sees itself, by the format's own words: read off the ids."""
    marker = model.vocabulary.marker
    if case == "prompt":
        first, *later = [at for at, id in enumerate(ids) if id == marker("<prompt>")]
        stops = [at for at, id in enumerate(ids) if id == marker("<response>")]
        assert first == 1
        return list(zip([0, *later], stops))
    begins = [at for at, id in enumerate(ids) if id == marker("<image>")]
    ends = [at + 1 for at, id in enumerate(ids) if id == marker("</image>")]
    return list(zip(begins, ends))


def whole_forward(model, asked, ids, case):
    """Logits (T, V) of a whole sequence under a mask that is written out."""
    coded = [s for s in model.sequencer.code(asked) if isinstance(s, CodedMedia)]
    embedded = model.hf.get_input_embeddings()(torch.tensor([ids])).detach().clone()
    at = [p for p, id in enumerate(ids) if id == model.vocabulary.levels("image")[0].id(0)]
    if coded:
        embedded[0, at] = torch.cat([torch.from_numpy(s.features) for s in coded])
    seen = torch.ones(len(ids), len(ids)).tril().bool()
    for start, stop in spans_of(model, ids, case):
        seen[start:stop, start:stop] = True
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    with torch.no_grad():
        outputs = model.hf(inputs_embeds=embedded, attention_mask=mask[None, None], use_cache=False)
    return outputs.logits[0]


def test_cached_logits_are_those_of_a_whole_forward(model, case):
    decoder, every = model.decoder(), ((0, model.vocabulary.size),)
    assert decoder.backend in ("transformers", "torch_static")
    active = ActiveRequest(
        0, request_of(model, DOCUMENTS[1]), model.grammar, GREEDY, 60, model.text_tokenizer
    )
    positions, written = active.branches[FULL].positions, [7, 40, 11]
    ids = [*active.ids, *written]
    assert active.branches[FULL].spans == spans_of(model, ids, case)
    expected = whole_forward(model, DOCUMENTS[1], ids, case)[-4:]
    cache = decoder.new_cache(2, 60)
    logits = [decoder.logits(decoder.forward(cache, [0], [positions])[-1:], every)]
    # What was cut inside the span is read again and finds the rest as it was.
    cache.copy_prefix(0, 1, len(positions) - 9)
    decoder.forward(cache, [1], [positions[len(positions) - 9 :]])
    for id in written:
        logits.append(decoder.logits(decoder.forward(cache, [0], [[id]]), every))
        decoder.forward(cache, [1], [[id]])
    torch.testing.assert_close(
        torch.from_numpy(np.concatenate(logits)), expected, rtol=0, atol=2e-5
    )
    cache.truncate(1, cache.lengths[1] - 1)
    again = decoder.logits(decoder.forward(cache, [1], [[written[-1]]]), every)
    torch.testing.assert_close(torch.from_numpy(again), expected[-1:], rtol=0, atol=2e-5)


@pytest.mark.parametrize("prefill_ids", [4, 512])
def test_batches_read_in_pieces_are_whole_forwards(model, case, prefill_ids):
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer, prefill_ids=prefill_ids)
    documents = [*DOCUMENTS, TURNS]
    requests = [request_of(model, asked) for asked in documents]
    ended = {e.row: e for e in engine.run(requests, GREEDY) if isinstance(e, Finished)}
    size, marker = model.vocabulary.text_size, model.vocabulary.marker
    for row, asked in enumerate(documents):
        ids = ended[row].ids.tolist()
        logits = whole_forward(model, asked, ids, case)
        written, number = False, 0
        for at, id in enumerate(ids):
            if id in (marker("<prompt>"), marker("<response>")):
                written = id == marker("<response>")
            elif written and id < size:
                assert int(logits[at - 1, :size].argmax()) == id
                number += 1
        assert number >= 1 + (asked is TURNS)


def test_a_span_is_shared_as_a_whole_or_not_at_all(model, case):
    model.limit_engine()

    def prefix_of(asked):
        before = model.engine.counters.prefix_ids
        model.generate(asked, sampling=GREEDY)
        return model.engine.counters.prefix_ids - before

    prefix_of(DOCUMENTS[1])
    again, longer, other = (
        prefix_of(own) for own in (DOCUMENTS[1], DOCUMENTS[4], document("a cat", picture(4)))
    )
    assert again >= 24
    if case == "prompt":
        assert longer == other == 0
    else:  # up to the end of the picture, and up to its beginning
        assert longer >= 20
        assert 3 <= other <= 8


def test_guidance_has_spans_of_its_own(model):
    guided = Sampling(text=SpanSampling(0.0, guidance=Guidance(3.0)), max_text_ids=5)
    texts = [
        model.generate(DOCUMENTS[1], sampling=s)[0].segments[-1].text for s in (guided, GREEDY)
    ]
    assert texts[0] != texts[1]


def test_without_the_property_all_is_what_it_was(clip):
    plain = grafted(clip)
    decoder, every = TransformersDecoder(plain.hf), ((0, plain.vocabulary.size),)
    ids, cache = [3, 9, 30, 4, 17], decoder.new_cache(2, 9)
    causal = decoder.logits(decoder.forward(cache, [0], [ids]), every)
    both = decoder.logits(decoder.forward(cache, [1], [as_span(ids)]), every)
    assert np.abs(both[0] - causal[0]).max() > 1e-3
    decoder.forward(cache, [0], [[5]])
    again = decoder.new_cache(1, 9)
    assert np.array_equal(decoder.logits(decoder.forward(again, [0], [ids]), every), causal)


def test_auto_takes_a_backend_that_can_and_others_refuse(folders, case):
    model = UnifiedModel.from_pretrained(folders / case)
    assert model.decoder().backend == "torch_static"
    assert describe_model("model", folders / case)["backends"]["cpu"] == "torch_static"
    with pytest.raises(ValueError, match=f"reads {case} both ways, and the backend 'cpu'"):
        UnifiedModel.from_pretrained(folders / case, backend="cpu").describe(picture())
    from transformers import MistralConfig, MistralForCausalLM

    windowed = MistralForCausalLM(MistralConfig(
        vocab_size=40, hidden_size=8, intermediate_size=8, num_hidden_layers=1, sliding_window=5,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
    ))  # fmt: skip
    decoder = TransformersDecoder(windowed)
    with pytest.raises(ValueError, match="has layers of sliding_window: spans that are seen both"):
        decoder.forward(decoder.new_cache(1, 9), [0], [as_span([1, 2, 3])])


def test_formats_and_requests_say_what_cannot_be_seen_both_ways(folders):
    source = load_format("pocket").source
    for names, words in (
        ("[reply]", "names 'reply', expected some of prompt, response"),
        ("[image]", "names image, whose codes are written one after another"),
        ("prompt", "is 'prompt', expected a list of roles"),
    ):
        with pytest.raises(ValueError, match=words):
            parse_format(f"{source}\nbidirectional: {names}\n")
    model = UnifiedModel.from_pretrained(folders / "prompt")
    asked = Document((Text("a cat", "prompt"), Slot("text", role="prompt")))
    with pytest.raises(ValueError, match="is to be written in role prompt, which format"):
        model.generate(asked)


# In training.


def packed(model, documents, length):
    layout = Layout(model.grammar, model.text_tokenizer)
    chunks = []
    for number, segments in enumerate(documents):
        tokenized = layout.encode(segments)
        chunks += split_document(tokenized, tokenized.ids, length, str(number), "source", number)
    fields = pack(chunks, length, model.grammar.padding, layout.ranges)
    return PackedSequence(**fields, stream=0, number=0, counters={}, reports=(), state={})


def test_documents_of_a_row_are_trained_apart_under_the_same_mask(folders):
    model = UnifiedModel.from_pretrained(folders / "prompt")
    documents = [
        [Text("a blue cat", "prompt", 0.0), Text("eats", "response", 1.0)],
        [Text("what is it?", "prompt", 0.0), Text("a red panda", "prompt", 0.0),
         Text("a cat", "response", 1.0), Text("what", "prompt", 0.0), Text("it", "response", 1.0)],
    ]  # fmt: skip
    row = packed(model, documents, 70)
    assert row.spans[0][0] == 0
    assert len(row.spans) == 3
    assert all(row.loss_weights[start + 1 : stop].max() == 0 for start, stop in row.spans)
    module = TrainModule(model.hf, None, bidirectional=True)
    outcome = module(make_micro_batch([row], np.ones(8, np.float32)))
    outcome.total.backward()
    gradients = [p.grad.clone() for p in model.hf.parameters()]
    model.hf.zero_grad()
    module.eval()
    expected = []
    from unified.training.train_module import use_attention

    use_attention(module.positions.inner, "eager")
    for number in range(2):
        start, stop = row.starts[number : number + 2].tolist()
        seen = torch.ones(stop - start, stop - start).tril().bool()
        for first, last in row.spans:
            if start <= first < stop:
                seen[first - start : last - start, first - start : last - start] = True
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        labels = torch.from_numpy(row.labels[start:stop].astype(np.int64))
        logits = model.hf(input_ids=labels[None], attention_mask=mask[None, None]).logits[0]
        for at in range(1, stop - start):
            weight = float(row.loss_weights[start + at])
            if weight:
                ids = [i for a, b in row.ranges[row.allowed[start + at]] for i in range(a, b)]
                loss = torch.logsumexp(logits[at - 1, ids], 0) - logits[at - 1, labels[at]]
                expected.append(weight * loss)
    total = torch.stack(expected).sum()
    torch.testing.assert_close(outcome.total, total, rtol=1e-5, atol=1e-5)
    total.backward()
    for own, parameter in zip(gradients, model.hf.parameters()):
        torch.testing.assert_close(own, parameter.grad, rtol=0, atol=1e-5)


def test_training_lays_spans_out_as_the_engine_does(folders, case):
    model = UnifiedModel.from_pretrained(folders / case)
    coded = model.sequencer.code(DOCUMENTS[1])
    segments = [
        Text("a cat", "prompt", 0.0),
        coded[1],
        Text("eats", "prompt", 0.0),
        Text("it", "response", 1.0),
    ]
    row = packed(model, [segments], 64)
    active = ActiveRequest(
        0, request_of(model, DOCUMENTS[1]), model.grammar, GREEDY, 60, model.text_tokenizer
    )
    assert list(row.spans) == active.branches[FULL].spans
    if case == "prompt":
        with pytest.raises(ValueError, match=r"segment 0 .text.: it has loss 1 in role prompt"):
            packed(model, [[replace(segments[0], loss=1.0), *segments[1:]]], 64)
