"""Positions of several ids in training: packed, embedded and learnt as a plain loop does it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import transformers
from together_cases import (
    SIZES,
    depth_decoder,
    documents,
    grammar_of,
    packed,
    plain_documents,
    plain_total,
)

from unified.formats.grammar import MODALITIES
from unified.training.loss_factors import level_factors, modality_factors
from unified.training.micro_batch import blank_micro_batch, make_micro_batch
from unified.training.several_ids import DepthSubset
from unified.training.train_module import TrainModule
from unified.training.weights import choose_trained, merge_trained

SEQ_LEN = 60
FACTORS = {"text": 2.0, "audio": 0.5}
LEVELS = {"audio": [1.0, 0.5, 0.25], "image": [1.0, 3.0]}


def decoder_of(grammar, output: str, kind: str = "Llama", **more):
    torch.manual_seed(4)
    tied = kind == "Qwen3"
    config = getattr(transformers, f"{kind}Config")(
        **{**SIZES, "tie_word_embeddings": tied, "vocab_size": grammar.vocabulary.size}
    )
    decoder = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in decoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    if output == "depth":
        decoder.depth_decoder = depth_decoder(grammar, config.hidden_size, **more)
    return decoder.train()


@pytest.fixture(scope="module")
def case():
    """(grammar, stored documents, their sequences)."""
    grammar = grammar_of()
    stored = documents(9, seed=3)
    return grammar, stored, packed(grammar, stored, SEQ_LEN)


def flat(sequence, start: int, stop: int) -> list[tuple[int, int, float, int]]:
    """The ids of some positions in reading order: (id, depth, weight, allowed)."""
    rows = [
        (position, 0, int(sequence.labels[position]), float(sequence.loss_weights[position]),
         sequence.ranges[sequence.allowed[position]])
        for position in range(start, stop)
    ]  # fmt: skip
    deeper = sequence.deeper
    rows += [
        (int(deeper.position[i]), int(deeper.depth[i]), int(deeper.labels[i]),
         float(deeper.loss_weights[i]), sequence.ranges[deeper.allowed[i]])
        for i in range(0 if deeper is None else len(deeper))
        if start <= deeper.position[i] < stop
    ]  # fmt: skip
    return [row[1:] for row in sorted(rows, key=lambda row: row[:2])]


def test_a_sequence_holds_every_id_at_its_position_and_depth(case):
    grammar, stored, sequences = case
    plain = plain_documents(grammar, stored)
    seen = []
    for sequence in sequences:
        for key, start, stop in zip(sequence.keys, sequence.starts, sequence.starts[1:]):
            document = plain[int(key.removeprefix("a/"))]
            seen.append(key)
            rows = flat(sequence, int(start), int(stop))
            assert [row[0] for row in rows] == document.depth
            assert [row[1] for row in rows] == document.ids
            assert [row[2] for row in rows] == document.weights.tolist()
            assert [row[3] for row in rows] == document.allowed
            assert stop - start == document.depth.count(0)
    assert sorted(seen) == sorted(f"a/{n}" for n in range(9))
    ids = sum(len(document.ids) for document in plain)
    assert sum(sequence.num_ids for sequence in sequences) == ids
    assert sum(s.num_positions for s in sequences) < ids - 50


def test_a_split_document_counts_positions_and_its_first_position_has_no_loss():
    grammar = grammar_of()
    stored = [[*documents(1, seed=s)[0], *documents(1, seed=s + 1)[0][1:]] for s in range(6)]
    sequences = packed(grammar, stored, 24)
    keys = [key for sequence in sequences for key in sequence.keys]
    assert len(keys) > len(set(keys)), "none was split"
    for sequence in sequences:
        assert sequence.num_positions <= 24
        assert not sequence.loss_weights[sequence.starts[:-1]].any()
        if sequence.deeper is None:  # of text alone
            continue
        firsts = np.isin(sequence.deeper.position, sequence.starts[:-1])
        assert not sequence.deeper.loss_weights[firsts].any()


def test_a_format_without_positions_of_several_has_arrays_of_positions_alone():
    grammar = grammar_of("pocket")
    stored = documents(9, seed=3)
    in_a_row = packed(grammar, stored, 100)
    assert all(sequence.deeper is None for sequence in in_a_row)
    micro_batch = make_micro_batch(in_a_row, modality_factors({}))
    assert micro_batch.deeper is None
    assert micro_batch.num_ids == micro_batch.num_positions
    together = packed(grammar_of(), stored, 100)
    assert sum(s.num_ids for s in together) == micro_batch.num_ids


@pytest.mark.parametrize(
    ("output", "kind", "more"),
    [
        ("depth", "Llama", {}), ("depth", "Qwen3", {"per_level": True}), ("heads", "Llama", {}),
        ("heads", "Qwen3", {}),
    ],
)  # fmt: skip
def test_losses_and_gradients_are_those_of_a_plain_loop(case, output, kind, more):
    grammar, stored, sequences = case
    decoder = decoder_of(grammar, output, kind, **more)
    plain = copy.deepcopy(decoder)
    plain.set_attn_implementation("eager")
    levels = level_factors(LEVELS, grammar)
    micro_batch = make_micro_batch(sequences, modality_factors(FACTORS), levels)
    outcome = TrainModule(decoder, None)(micro_batch)
    expected = plain_total(plain, plain_documents(grammar, stored), FACTORS, LEVELS, grammar)
    torch.testing.assert_close(outcome.total, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close((outcome.losses * micro_batch.weights).sum(), outcome.total)
    outcome.total.backward()
    expected.backward()
    for (name, ours), other in zip(decoder.named_parameters(), plain.parameters()):
        bound = 2e-5 * float(other.grad.abs().max())
        assert bound > 0, name
        torch.testing.assert_close(ours.grad, other.grad, rtol=0, atol=bound, msg=name)
    sums, counts = outcome.by_modality(micro_batch)
    expected_counts = sum(
        np.bincount(d.modality[d.weights > 0], minlength=len(MODALITIES))
        for d in plain_documents(grammar, stored)
    )
    assert counts.tolist() == expected_counts.tolist()
    torch.testing.assert_close(sums.sum(), outcome.losses.double().sum())


def test_a_blank_pass_reaches_every_weight_of_the_depth_decoder(case):
    """As FSDP2 needs it: processes that have no sequences left take part."""
    module = TrainModule(decoder_of(case[0], "depth"), None)
    outcome = module(blank_micro_batch(SEQ_LEN))
    outcome.total.backward()
    assert outcome.total == 0
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


LORA = {"rank": 3, "alpha": 6.0, "dropout": 0.0, "targets": "all-linear"}


def trained_by(what: str, lora: dict, first_new: int):
    """A decoder of which something is trained, each of its trained parameters by its name in a
    whole decoder, as a function of it; and a plain whole decoder with the same weights."""
    grammar = grammar_of()
    decoder = decoder_of(grammar, "depth")
    choose_trained(decoder, what, first_new, lora)
    torch.manual_seed(11)
    for parameter in decoder.parameters():
        if parameter.requires_grad:  # adapters begin at 0
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    merged = copy.deepcopy(decoder)
    merge_trained(merged)
    return decoder, merged


@pytest.mark.parametrize("depth", ["full", "lora"])
def test_adapters_have_the_gradients_that_the_whole_weights_give(case, depth):
    """Of B A the slope by B is the weight's slope times A transposed, and by A likewise."""
    grammar, stored, sequences = case
    decoder, plain = trained_by("lora", {**LORA, "depth": depth}, grammar.vocabulary.size)
    micro_batch = make_micro_batch(sequences, modality_factors(FACTORS))
    TrainModule(decoder, None)(micro_batch).total.backward()
    plain.requires_grad_(True)
    plain.set_attn_implementation("eager")
    plain_total(plain, plain_documents(grammar, stored), FACTORS, {}, grammar).backward()
    trained = {name: p for name, p in decoder.named_parameters() if p.requires_grad}
    own = [name for name in trained if name.startswith("depth_decoder.")]
    assert own
    assert all(("lora_" in name) == (depth == "lora") for name in own)
    scale = 2.0
    weights = {name: p.grad for name, p in plain.named_parameters()}
    adapted = 0
    for name, parameter in trained.items():
        stem, separator, which = name.partition(".lora_")
        if not separator:
            expected = weights[name]
        else:
            adapted += 1
            whole = weights[f"{stem}.weight"] * scale
            other = trained[f"{stem}.lora_{'B' if which[0] == 'A' else 'A'}.default.weight"]
            expected = other.T @ whole if which[0] == "A" else whole @ other.T
        bound = 2e-4 * float(expected.detach().abs().max())
        torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=bound, msg=name)
    layers = 2 * 7 * 2  # two matrices of each of seven in two layers
    assert adapted == layers + (layers + 2 if depth == "lora" else 0)


def test_the_depth_decoder_alone_is_trained_and_the_rest_stays(case):
    grammar, _, sequences = case
    decoder = decoder_of(grammar, "depth")
    whole = copy.deepcopy(decoder)
    choose_trained(decoder, "depth", grammar.vocabulary.size, {})
    micro_batch = make_micro_batch(sequences, modality_factors({}))
    ours, other = TrainModule(decoder, None)(micro_batch), TrainModule(whole, None)(micro_batch)
    torch.testing.assert_close(ours.losses, other.losses)
    ours.total.backward()
    other.total.backward()
    for (name, parameter), same in zip(decoder.named_parameters(), whole.parameters()):
        assert (parameter.grad is not None) == name.startswith("depth_decoder.")
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, same.grad, msg=name)
    with pytest.raises(ValueError, match="train is depth, but the decoder has no depth decoder"):
        choose_trained(decoder_of(grammar, "heads"), "depth", 0, {})


def test_new_rows_are_trained_with_the_whole_depth_decoder(case):
    grammar = case[0]
    decoder = decoder_of(grammar, "depth")
    choose_trained(decoder, "new_rows", 20, {})
    trained = {name for name, p in decoder.named_parameters() if p.requires_grad}
    assert {name for name in trained if not name.startswith("depth_decoder.")} == {
        "model.embed_tokens.rows", "lm_head.rows",
    }  # fmt: skip
    assert all(p.requires_grad for p in decoder.depth_decoder.parameters())
    merge_trained(decoder)
    assert type(decoder.lm_head) is torch.nn.Linear


def test_adapters_of_a_depth_decoder_with_weights_by_level_are_refused(case):
    decoder = decoder_of(case[0], "depth", per_level=True)
    with pytest.raises(ValueError, match="weights of its own at every depth"):
        choose_trained(decoder, "lora", case[0].vocabulary.size, {**LORA, "depth": "lora"})


def test_a_part_of_the_positions_is_learnt_for_all_on_average(case):
    """The loss of draws over many seeds has the mean of the whole, each a share of the work."""
    grammar, _, sequences = case
    module = TrainModule(decoder_of(grammar, "depth"), None)
    factors = modality_factors(FACTORS)
    whole = make_micro_batch(sequences, factors)
    first = whole.num_first
    with torch.no_grad():
        outcome = module(whole)
        of_first = (outcome.losses * whole.weights)[:first].sum()
        totals = []
        for seed in range(200):
            part = make_micro_batch(sequences, factors, None, DepthSubset(0.25, seed))
            assert torch.equal(part.weights[:first], whole.weights[:first])
            outcome_of_part = module(part)
            totals.append(float(outcome_of_part.total - of_first))
    learnt = sum(len(several.learnt) for several in part.deeper.several)
    everything = sum(len(several.learnt) for several in whole.deeper.several)
    assert 0.25 * everything <= learnt <= 0.25 * everything + len(sequences)
    assert part.deeper.several[0].ids.shape == whole.deeper.several[0].ids.shape  # all are read
    error = np.std(totals) / np.sqrt(len(totals))
    assert abs(np.mean(totals) - float(outcome.total - of_first)) < 4 * error


def test_which_positions_are_learnt_follows_from_the_sequence_alone(case):
    """Not from the sequences beside it, so not from the number of processes either."""
    sequences, factors = case[2], modality_factors({})
    subset = DepthSubset(0.3, 5)
    together = make_micro_batch(sequences, factors, None, subset)
    alone = [make_micro_batch([sequence], factors, None, subset) for sequence in sequences]
    assert together.weight == pytest.approx(sum(batch.weight for batch in alone))
    positions = set(together.predict_from[together.num_first :].tolist())
    separate = {
        index * SEQ_LEN + position
        for index, batch in enumerate(alone)
        for position in batch.predict_from[batch.num_first :].tolist()
    }
    assert positions == separate
    other = make_micro_batch(sequences, factors, None, DepthSubset(0.3, 6))
    assert set(other.predict_from[other.num_first :].tolist()) != positions


def test_weights_of_levels_that_the_format_has_not_are_refused():
    grammar = grammar_of()
    with pytest.raises(ValueError, match="2 weights for audio, whose audio spans have 3 levels"):
        level_factors({"audio": [1.0, 0.5]}, grammar)
    with pytest.raises(ValueError, match="has 'smell', but format 'pocket-together' has no such"):
        level_factors({"smell": [1.0]}, grammar)


def test_an_id_without_a_row_is_named_before_its_loss(case):
    grammar, _, sequences = case
    start = grammar.vocabulary.levels("audio")[0].start
    decoder = decoder_of(grammar, "depth", ranges=((start, start + 17),))
    with pytest.raises(ValueError, match=r"the depth decoder has no rows for ids \d+ to \d+; it"):
        TrainModule(decoder, None)(make_micro_batch(sequences, modality_factors({})))
