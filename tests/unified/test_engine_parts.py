"""The parts of an engine by themselves: the radix tree, the budget of prompts, memory."""

import random

import pytest

from unified.engine.memory import _of_group, available_bytes
from unified.engine.prefill import PrefillBudget
from unified.engine.prefix_cache import RadixTree, common_prefix


def test_the_radix_tree_finds_what_a_search_through_all_finds():
    rng = random.Random(0)
    for _ in range(60):
        tree, sequences = RadixTree(), {}
        for step in range(60):
            if sequences and rng.random() < 0.3:
                slot = rng.choice(list(sequences))
                tree.remove(slot)
                del sequences[slot]
            else:
                ids = [rng.randrange(3) for _ in range(rng.randrange(9))]
                tree.insert(step, ids)
                sequences[step] = ids
            assert len(tree) == len(sequences)
            wanted = [rng.randrange(3) for _ in range(rng.randrange(9))]
            matches = list(tree.matches(wanted))
            assert [common for _, common in matches] == sorted(
                (common for _, common in matches), reverse=True
            )
            assert dict(matches) == {
                slot: common_prefix(ids, wanted) for slot, ids in sequences.items()
            }
            assert len(matches) == len(sequences)
        for slot in sequences:
            tree.remove(slot)
        assert not tree._root.children


def test_what_is_registered_stays_as_it_was_when_its_list_grows():
    tree, ids = RadixTree(), [1, 2, 3]
    tree.insert(0, ids)
    ids += [4, 5]
    assert list(tree.matches([1, 2, 3, 4])) == [(0, 3)]


def test_a_prompt_gets_what_keeps_a_pass_within_a_little_over_two_steps():
    budget = PrefillBudget(512)
    assert budget.ids(decoding=False) == 512
    assert budget.ids(decoding=True) == 16
    for _ in range(40):
        budget.observe(1e-3, 1, 0)
    for _ in range(40):
        ids = budget.ids(decoding=True)
        budget.observe(1e-3 + ids * 1.9e-4, 1, ids)
    assert budget.ids(decoding=True) == 6
    # After enough passes with a prompt, one without: a step may take longer by now.
    while (ids := budget.ids(decoding=True)) > 0:
        budget.observe(1e-3 + ids * 1.9e-4, 1, ids)
    for _ in range(40):
        budget.observe(5e-2, 64, 0)
    assert budget.ids(decoding=True) == pytest.approx(316, abs=5)


def test_memory_is_what_the_machine_and_its_group_leave(tmp_path):
    assert 1 << 20 < available_bytes() < 1 << 50
    assert _of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    assert _of_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("3000\n")
    assert _of_group(tmp_path) == 2900
    (tmp_path / "memory.current").write_text("4000\n")
    assert _of_group(tmp_path) == 0
