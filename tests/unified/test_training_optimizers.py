"""Schedules, optimizers and their state, weights in two precisions, averages, adapters."""

import copy
from itertools import pairwise

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unified.training.config import OptimizerConfig
from unified.training.new_rows import NewRows
from unified.training.optimizers import make_optimizers
from unified.training.weights import MasterWeights, choose_trained, merge_trained
from unified_base.training.checkpoint import Checkpoint, save_checkpoint
from unified_base.training.dist import DistContext
from unified_base.training.ema import EMA
from unified_base.training.optimizer_state import load_optimizer_state, optimizer_tensors, set_lr
from unified_base.training.schedule import lr_ratio
from unified_base.training.settings import SCHEDULES, ScheduleConfig


@given(
    st.sampled_from(SCHEDULES), st.integers(1, 300), st.integers(0, 50), st.floats(0, 1),
    st.floats(0, 1),
)  # fmt: skip
def test_a_rate_rises_to_its_peak_and_never_above_then_never_rises(
    kind, steps, warmup, cooldown, final
):
    schedule = ScheduleConfig(
        name=kind, warmup_steps=warmup, cooldown=cooldown, final_lr_ratio=final
    )
    rates = [2.0 * lr_ratio(schedule, step, steps) for step in range(steps)]
    assert all(0 <= value <= 2.0 for value in rates)
    flat = 1 - cooldown if kind == "wsd" else 1.0
    if kind != "cosine" and warmup < flat * steps:
        assert max(rates) == pytest.approx(2.0)
    after = rates[max(warmup - 1, 0) :]
    assert all(first >= other - 1e-12 for first, other in pairwise(after))
    assert all(value >= final * 2.0 - 1e-12 for value in after)


def test_the_schedules_have_their_shapes():
    def rates(kind, warmup=10):
        schedule = ScheduleConfig(name=kind, warmup_steps=warmup, cooldown=0.25, final_lr_ratio=0.1)
        return [lr_ratio(schedule, step, 100) for step in range(100)]

    for kind in SCHEDULES:
        assert rates(kind)[:10] == pytest.approx([(step + 1) / 10 for step in range(10)], abs=1e-3)
    assert set(rates("constant")[10:]) == {1.0}
    assert set(rates("wsd")[10:76]) == {1.0}
    falling = rates("wsd")[75:]
    assert [b - a for a, b in pairwise(falling)] == pytest.approx([-0.9 / 25] * 24)
    cosine = rates("cosine")
    assert cosine[55] == pytest.approx(0.1 + 0.9 / 2)
    assert cosine[99] == pytest.approx(0.1, abs=1e-3)
    assert rates("cosine", warmup=0)[0] == 1.0


def config(name):
    return OptimizerConfig(name=name, lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)


def tiny(tied=True):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=12, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=20, vocab_size=30, tie_word_embeddings=tied,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)


IDS = torch.randint(0, 30, (2, 9), generator=torch.Generator().manual_seed(1))


def step(model, master_weights, optimizers, value=0.01):
    master_weights.copy_to_model()
    model(input_ids=IDS, labels=IDS).loss.backward()
    master_weights.accumulate_grads()
    set_lr(optimizers, value)
    for optimizer in optimizers.values():
        optimizer.step()
        optimizer.zero_grad()


def test_only_matrices_inside_layers_decay_and_take_muon():
    model = tiny(tied=False)
    parameters = dict(model.named_parameters())
    inside = {n for n, p in parameters.items() if ".layers." in n and p.ndim == 2}
    names = {id(p): n for n, p in parameters.items()}

    def held(optimizer, decay=None):
        return {
            names[id(p)] for group in optimizer.param_groups for p in group["params"]
            if decay is None or (group["weight_decay"] > 0) == decay
        }  # fmt: skip

    (adamw,) = make_optimizers(config("adamw"), parameters).values()
    assert held(adamw, True) == inside
    assert held(adamw, False) == set(parameters) - inside
    both = make_optimizers(config("muon"), parameters)
    assert held(both["muon"], True) == inside
    assert held(both["adamw"], False) == set(parameters) - inside


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_an_optimizer_goes_on_from_its_state_as_if_never_stopped(kind, tmp_path):
    """Also where one of the parameters never had a gradient."""

    def begin(model):
        model.model.register_parameter("unused", nn.Parameter(torch.ones(3)))
        master_weights = MasterWeights(model, "float32")
        return master_weights, make_optimizers(config(kind), master_weights.parameters)

    model = tiny()
    master_weights, optimizers = begin(model)
    for _ in range(2):
        step(model, master_weights, optimizers)
    state = optimizer_tensors(optimizers, master_weights.parameters)
    assert not any("unused" in name for name in state)
    tensors = {f"optimizer/{name}": value for name, value in state.items()}
    saved = Checkpoint(save_checkpoint(tmp_path, 2, DistContext(), tensors, {}, {}, False, 1))

    other = tiny()
    again, fresh = begin(other)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    load_optimizer_state(fresh, again.parameters, saved, "optimizer/")
    for first, two, three in ((model, master_weights, optimizers), (other, again, fresh)):
        for value in (0.02, 0.005):
            step(first, two, three, value)
    for name, value in master_weights.parameters.items():
        assert torch.equal(again.parameters[name], value), name
    few = {name: p for name, p in again.parameters.items() if "mlp" in name}
    with pytest.raises(ValueError, match="trains other parameters than the configuration, among"):
        load_optimizer_state(make_optimizers(config(kind), few), few, saved, "optimizer/")


def test_masters_are_float32_and_what_computes_is_rounded_from_them():
    model = tiny()
    model.model.layers[0].requires_grad_(False)
    master_weights = MasterWeights(model, "bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in master_weights.parameters.values()} == {torch.float32}
    assert not any(".layers.0." in name for name in master_weights.parameters)
    for _ in range(2):  # sums over micro-batches are of float32
        model(input_ids=IDS, labels=IDS).loss.backward()
        master_weights.accumulate_grads()
        assert all(p.grad is None for p in model.parameters())
    name = "model.layers.1.mlp.up_proj.weight"
    twice = master_weights.parameters[name].grad.clone()
    model(input_ids=IDS, labels=IDS).loss.backward()
    torch.testing.assert_close(twice, 2 * model.get_parameter(name).grad.float())
    with torch.no_grad():
        master_weights.parameters[name] += 1e-4  # too little for bfloat16 alone
        master_weights.copy_to_model()
        before = master_weights.parameters[name].clone()
        for _ in range(100):
            master_weights.parameters[name] += 1e-4
    master_weights.copy_to_model()
    assert torch.equal(model.get_parameter(name), master_weights.parameters[name].bfloat16())
    assert not torch.equal(model.get_parameter(name), before.bfloat16())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_other_weights_are_held_for_a_while(precision):
    model = tiny()
    master_weights = MasterWeights(model, precision)
    average = EMA({n: p.detach().clone() for n, p in master_weights.parameters.items()}, 0.9)
    for value in average.values.values():
        value.zero_()
    before = {name: p.detach().clone() for name, p in master_weights.parameters.items()}
    with master_weights.swapped_for(average.values):
        assert all((p == 0).all() for p in model.parameters())
    for name, value in before.items():
        assert torch.equal(master_weights.parameters[name], value)
        assert torch.equal(model.get_parameter(name), value.to(model.dtype))


def test_an_average_forgets_its_start_and_then_follows_slowly():
    parameters = {"a": nn.Parameter(torch.zeros(2))}
    average = EMA({"a": torch.zeros(2)}, 0.99)
    parameters["a"].data += 1
    average.update(parameters, 1)
    assert average.values["a"].tolist() == pytest.approx([9 / 10] * 2)
    for number in range(2, 2000):
        average.update(parameters, number)
    assert average.values["a"].tolist() == pytest.approx([1, 1])
    parameters["a"].data += 1
    average.update(parameters, 2000)
    assert average.values["a"].tolist() == pytest.approx([1.01] * 2)


@pytest.mark.parametrize("tied", [True, False])
def test_adapters_and_new_rows_are_trained_and_merged(tied):
    """Those of a head of its own, too. What is merged computes what was trained."""
    model, before = tiny(tied), tiny(tied).state_dict()
    lora = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "targets": "all-linear"}
    choose_trained(model, "lora", 22, lora)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    rows = {name for name in trained if "lora" not in name}
    assert rows == {"model.embed_tokens.rows", *(() if tied else ("lm_head.rows",))}
    assert len(trained - rows) == 2 * 2 * 7
    torch.manual_seed(3)
    for name in trained:
        nn.init.normal_(model.get_parameter(name), std=0.3)
    trunk = model.model(input_ids=IDS)[0]
    merge_trained(model)
    assert {name for name, _ in model.named_parameters()} <= set(before)
    assert not any(isinstance(module, NewRows) for module in model.modules())
    torch.testing.assert_close(model.model(input_ids=IDS)[0], trunk, rtol=1e-4, atol=1e-5)
    for name, value in model.state_dict().items():
        table = "embed_tokens" in name or "lm_head" in name
        assert torch.equal(value[:22], before[name][:22]) == (table or "norm" in name), name
        assert torch.equal(value, before[name]) == ("norm" in name), name


def test_what_cannot_be_trained_is_said():
    with pytest.raises(
        ValueError, match="there are no new rows to train: all 30 rows are the model's own"
    ):
        choose_trained(tiny(), "new_rows", 30, {})
    with pytest.raises(ValueError, match=r"no adapters for targets \('no_such',\): No"):
        choose_trained(
            tiny(), "lora", 20,
            {"rank": 2, "alpha": 4.0, "dropout": 0.0, "targets": ("no_such",)},
        )  # fmt: skip
