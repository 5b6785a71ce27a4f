"""The parts of an engine by themselves: the radix tree, the budget of prompts, memory."""

import random

import pytest

from unified.engine.backends.cpu.cache import MemoryPool
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


def budget_of(step, seconds_per_id, passes=40):
    """A budget that has seen passes of one stream, and then as many with a prompt beside it."""
    budget = PrefillBudget(512)
    for _ in range(passes):
        budget.observe(step, 1, 0)
    for _ in range(passes):
        ids = budget.ids(decoding=True)
        budget.observe(step + ids * seconds_per_id, 1, ids)
    return budget


def test_a_prompt_gets_what_keeps_a_pass_within_a_little_over_two_steps():
    budget = PrefillBudget(512)
    assert budget.ids(decoding=False) == 512
    assert budget.ids(decoding=True) == 16
    budget = budget_of(1e-3, 1e-4)
    assert budget.ids(decoding=True) == 12
    assert not budget.wants_layers()
    # After enough passes with a prompt, two without: a step may take longer by now, and the first
    # is not one that counts.
    while (ids := budget.ids(decoding=True)) > 0:
        budget.observe(1e-3 + ids * 1e-4, 1, ids)
    for seconds in [9, 3e-3, 3e-3, 3e-3, 3e-3, 3e-3]:
        budget.observe(seconds, 1, 0)
    assert budget.ids(decoding=True) == 36
    # With more streams what was measured of fewer is forgotten.
    for _ in range(6):
        budget.observe(5e-2, 64, 0)
    assert budget.ids(decoding=True) == 512


def test_a_prompt_goes_by_layers_where_a_pass_has_time_for_few_ids():
    budget = budget_of(1e-3, 5e-4)
    assert budget.wants_layers()
    assert (budget.chunk(), budget.layers()) == (16, 1)  # before a layer has been measured
    budget.observe_layers(2e-4, 1, ended=False)
    assert budget.layers() == 6  # 1.2 ms beside a step of 1
    # Layers that take too long for the time there is: smaller chunks; the other way: larger ones.
    budget.observe_layers(16e-3, 8, ended=False)
    budget.observe_layers(16e-3, 8, ended=True)
    assert budget.chunk() == 8
    for chunk in (8, 16, 32, 64, 64):
        assert budget.chunk() == chunk
        budget.observe_layers(2e-3, 8, ended=True)
    # What a prompt has driven out of the caches comes back in the pass between its layers.
    for _ in range(5):
        budget.observe_layers(2e-3, 8, ended=False)
        budget.observe(1.5e-3, 1, 0)
    assert budget.layers() == 2


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


def test_memory_of_a_long_slot_is_zero_in_whole_lines_and_refused_where_there_is_none():
    pool = MemoryPool()
    memory = pool.get((4 << 20) + 5)  # 16 MB, in pages of its own
    assert memory.shape == ((4 << 20) + 5,)
    assert not memory.any()
    assert memory.ctypes.data % 64 == 0
    memory[-1] = 1
    with pytest.raises(MemoryError):
        pool.get(1 << 45)
