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
from unified.training.micro_batch import (
    blank_micro_batch,
    level_factors,
    make_micro_batch,
    modality_factors,
)
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
        np.bincount(d.modality[d.weights > 0], minlength=4)
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
