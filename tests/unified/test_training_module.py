"""The module that is trained: packed rows have the losses and gradients of documents alone."""

import copy

import numpy as np
import pytest
import torch
import transformers

from unified.dataloading import Source, validation_sequences
from unified.formats.grammar import MODALITIES
from unified.training import document_attention
from unified.training.loss_factors import modality_factors
from unified.training.micro_batch import blank_micro_batch, make_micro_batch
from unified.training.new_rows import NewRows, merge_new_rows, split_rows
from unified.training.train_module import TrainModule, check_head, layers_of, recompute_activations

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "head_dim": 8, "max_position_embeddings": 256,
    "tie_word_embeddings": False, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
KINDS = {
    "llama": ("Llama", {}),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {}),
    "mistral": ("Mistral", {"sliding_window": 7}),
    "gemma2": ("Gemma2", {
        "tie_word_embeddings": True, "sliding_window": 9, "final_logit_softcapping": 3.0,
        "attn_logit_softcapping": 5.0, "query_pre_attn_scalar": 8,
    }),
    "gpt2": ("GPT2", {
        "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 256, "resid_pdrop": 0.0,
        "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    }),
    "mixtral": ("Mixtral", {"num_local_experts": 3, "num_experts_per_tok": 2}),
    "stablelm": ("StableLm", {}),
}  # fmt: skip


def decoder_of(kind, vocabulary, **more):
    torch.manual_seed(4)
    name, changes = KINDS.get(kind, (kind, {}))
    sizes = {} if kind == "gpt2" else SIZES
    config = getattr(transformers, f"{name}Config")(
        **{**sizes, **changes, **more, "vocab_size": vocabulary}
    )
    decoder = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in decoder.parameters():  # nothing is small enough to be overlooked
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return decoder.train()


@pytest.fixture(scope="module")
def case(tiny_sequencer, write_codes, random_documents, tmp_path_factory):
    """(pass of three rows, their rows, factors by modality, size of the vocabulary)."""
    folder = write_codes(tmp_path_factory.mktemp("codes"), {"a": random_documents(14, seed=2)})
    source = Source(str(folder), weight=0.5, media_loss=0.25)
    rows = list(validation_sequences(source, tiny_sequencer, 100))[:3]
    assert all(len(row.keys) > 1 for row in rows)
    assert any(row.num_ids < 100 for row in rows)
    factors = modality_factors({"text": 2.0, "audio": 0.5})
    return make_micro_batch(rows, factors), rows, factors, tiny_sequencer.vocabulary.size


def test_a_pass_has_every_position_with_loss_once(case):
    micro_batch, rows, factors, _ = case
    expected, spans, document = set(), [], -1
    for number, row in enumerate(rows):
        for start, stop in zip(row.starts[:-1].tolist(), row.starts[1:].tolist()):
            spans.append((100 * number + start, 100 * number + stop))
            document += 1
            for position in range(start, stop):
                if row.loss_weights[position]:
                    weight = float(row.loss_weights[position] * factors[row.modality[position]])
                    allowed = row.ranges[row.allowed[position]]
                    at = 100 * number + position - 1
                    expected.add((at, int(row.labels[position]), weight, allowed, document))
    groups = [ranges for ranges, count in micro_batch.groups for _ in range(count)]
    columns = (micro_batch.predict_from, micro_batch.labels, micro_batch.weights)
    actual = zip(*(c.tolist() for c in columns), groups, micro_batch.document.tolist())
    assert set(actual) == expected
    assert len(micro_batch.predict_from) == len(expected)
    assert len({ranges for ranges, _ in micro_batch.groups}) == len(micro_batch.groups)
    assert [tuple(span) for span in micro_batch.document_spans.tolist() if span[1]] == spans
    assert len(micro_batch.keys) == len(spans)
    assert micro_batch.num_ids == sum(stop - start for start, stop in spans)
    assert micro_batch.weight == pytest.approx(sum(row[2] for row in expected))
    begins = [100 * n + start for n, row in enumerate(rows) for start in row.starts if start < 100]
    assert micro_batch.position_ids.flatten()[begins].tolist() == [0] * len(begins)


def dense(decoder, rows, factors, dense_losses):
    """The weighted sum of the losses of documents, each alone, with gradient."""
    total = torch.zeros(())
    for row in rows:
        weights = torch.from_numpy(row.loss_weights * factors[row.modality])
        for start, stop in zip(row.starts[:-1].tolist(), row.starts[1:].tolist()):
            allowed = [row.ranges[number] for number in row.allowed[start:stop]]
            losses = dense_losses(decoder, row.labels[start:stop], allowed)
            counted = weights[start + 1 : stop] > 0
            total = total + (losses * weights[start + 1 : stop])[counted].sum()
    return total


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("llama", "documents"), ("llama", "sdpa"), ("qwen3", "documents"), ("qwen2", "documents"),
        ("mixtral", "documents"), ("gpt2", "eager"), ("gpt2", None), ("mistral", None),
        ("mistral", "sdpa"), ("gemma2", None), ("stablelm", None),
    ],
)  # fmt: skip
def test_packed_rows_have_the_losses_and_gradients_of_documents_alone(
    kind, name, case, dense_losses
):
    micro_batch, rows, factors, vocabulary = case
    decoder = decoder_of(kind, vocabulary)
    plain = copy.deepcopy(decoder)
    plain.set_attn_implementation("eager")
    check_head(decoder)
    module = TrainModule(decoder, name, router_loss=0.0)
    whole = kind not in ("mistral", "gemma2", "stablelm")
    assert module.by_documents == (name == document_attention.NAME or (name is None and whole))
    outcome = module(micro_batch)
    expected = dense(plain, rows, factors, dense_losses)
    torch.testing.assert_close(outcome.total, expected, rtol=1e-5, atol=1e-4)
    outcome.total.backward()
    expected.backward()
    for (label, single), other in zip(decoder.named_parameters(), plain.parameters()):
        assert (single.grad is None) == (other.grad is None), label
        if single.grad is not None:
            bound = 2e-5 * float(other.grad.abs().max())
            torch.testing.assert_close(single.grad, other.grad, rtol=0, atol=bound, msg=label)
    sums, counts = outcome.by_modality(micro_batch)
    assert counts.tolist() == np.bincount(micro_batch.modality, minlength=len(MODALITIES)).tolist()
    torch.testing.assert_close(sums.sum(), outcome.losses.double().sum())


def test_activation_checkpointing_gives_the_same_gradients(case):
    micro_batch, *_, vocabulary = case
    actual, calls = [], []
    for stored in (True, False):
        decoder = decoder_of("qwen3", vocabulary)
        module = TrainModule(decoder, None)
        if not stored:
            recompute_activations(decoder)
            layers_of(decoder)[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
        module(micro_batch).total.backward()
        actual.append([p.grad for p in decoder.parameters()])
    assert len(calls) == 2
    for single, other in zip(*actual):
        assert torch.equal(single, other)


def test_a_blank_pass_counts_nothing_and_reaches_every_weight(case):
    module = TrainModule(decoder_of("qwen3", case[-1]), None)
    outcome = module(blank_micro_batch(100))
    outcome.total.backward()
    assert outcome.total == 0
    assert all((p.grad == 0).all() for p in module.parameters())
    assert [len(part) for part in outcome.by_modality(blank_micro_batch(100))] == [
        len(MODALITIES)
    ] * 2


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2", "gpt2"])
def test_new_rows_learn_what_the_whole_table_would(kind, case):
    """A head of its own, a tied one, scaled embeddings, embeddings of other names."""
    micro_batch, *_, vocabulary = case
    first = vocabulary - 40
    whole, split = decoder_of(kind, vocabulary), decoder_of(kind, vocabulary)
    names = dict(whole.named_parameters())
    outcome = TrainModule(whole, None)(micro_batch)
    outcome.total.backward()
    split_rows(split, first)
    actual = TrainModule(split, None)(micro_batch)
    actual.total.backward()
    torch.testing.assert_close(actual.losses, outcome.losses)
    trained = [p for p in split.parameters() if p.requires_grad]
    tables = [whole.get_input_embeddings().weight]
    if whole.get_output_embeddings().weight is not tables[0]:
        tables.append(whole.get_output_embeddings().weight)
    assert len(trained) == len(tables)
    for rows, table in zip(trained, tables):
        torch.testing.assert_close(rows.grad, table.grad[first:], rtol=1e-4, atol=1e-6)
        rows.data += 1
    assert sum(isinstance(m, NewRows) for m in split.modules()) == len(tables)
    merge_new_rows(split)
    for name, value in split.named_parameters():
        changed = any(names[name] is table for table in tables)
        assert torch.equal(value[:first], names[name][:first]) or not changed
        expected = names[name].detach().clone()
        if changed:
            expected[first:] += 1
        assert torch.equal(value, expected), name


@pytest.mark.parametrize(
    ("kind", "more"),
    [("Granite", {"logits_scaling": 4.0}), ("Cohere", {"logit_scale": 0.25})],
)
def test_a_decoder_that_scales_its_logits_is_refused(kind, more):
    with pytest.raises(ValueError, match=f"{kind}ForCausalLM does more to its logits than a prod"):
        check_head(decoder_of(kind, 50, **more))


@pytest.mark.parametrize(
    ("kind", "more", "ways"),
    [
        ("Bloom", {"n_head": 2}, "documents or eager"),  # ALiBi
        ("GptOss", {"num_local_experts": 2, "head_dim": 8}, "eager"),  # masks without places
    ],
)
def test_a_decoder_that_lets_documents_see_each_other_is_refused(kind, more, ways):
    decoder = decoder_of(kind, 50, **more)
    before = decoder.config._attn_implementation
    with pytest.raises(
        ValueError,
        match=f"{kind}ForCausalLM does not keep the documents of a"
        f" sequence apart under attention {ways}; such",
    ):
        TrainModule(decoder, None)
    assert (decoder.config._attn_implementation, decoder.training) == (before, True)
    with pytest.raises(ValueError, match="under attention no_such_way"):
        TrainModule(decoder_of("llama", 50), "no_such_way")
