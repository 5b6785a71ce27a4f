"""The depth decoder in torch, beside a Llama of transformers and one id at a time."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from unified.engine.backends.depth_config import DepthConfig
from unified.engine.backends.depth_module import DepthDecoder

RANGES = ((3, 7), (20, 33))


def config(**changes) -> DepthConfig:
    sizes = {
        "input_size": 12, "hidden_size": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
        "head_dim": 6, "intermediate_size": 20, "num_ids": 4, "ranges": RANGES,
    }  # fmt: skip
    return DepthConfig(**{**sizes, **changes})


def decoder(seed: int = 0, **changes) -> DepthDecoder:
    torch.manual_seed(seed)
    module = DepthDecoder(config(**changes))
    for parameter in module.parameters():  # norms of one would hide a lost norm
        torch.nn.init.normal_(parameter, std=0.3)
    return module


HIDDEN = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([[3, 20, 32], [6, 6, 21], [25, 3, 3], [4, 5, 6], [30, 31, 32]])


def test_it_is_a_llama_over_the_ids_of_a_position():
    ours = decoder()
    llama = LlamaModel(
        LlamaConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=6,
            intermediate_size=20,
            vocab_size=17,
            rms_norm_eps=1e-6,
        )
    )
    names = {name for name, _ in llama.named_parameters()}
    state = {name: value for name, value in ours.state_dict().items() if name in names}
    assert set(state) == names
    llama.load_state_dict(state)
    embedded = torch.cat(
        [(HIDDEN @ ours.projection.weight.T)[:, None], ours.embed_tokens(ours.row_of_id[IDS])], 1
    )
    expected = llama(inputs_embeds=embedded).last_hidden_state
    torch.testing.assert_close(ours(HIDDEN, IDS), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("per_level", [False, True])
def test_an_id_sees_those_before_it_alone(per_level):
    ours = decoder(per_level=per_level)
    whole = ours(HIDDEN, IDS)
    for count in range(4):
        torch.testing.assert_close(ours(HIDDEN, IDS[:, :count]), whole[:, : count + 1])


def test_every_depth_has_weights_of_its_own_where_declared():
    ours = decoder(per_level=True)
    assert ours.layers[0].self_attn.q_proj.weight.shape == (4, 24, 16)
    before = ours(HIDDEN, IDS)
    with torch.no_grad():
        ours.layers[1].mlp.up_proj.weight[3] += 1
    changed = (ours(HIDDEN, IDS) != before).any(-1).any(0)
    assert changed.tolist() == [False, False, False, True]


def test_logits_are_of_the_ids_asked_for():
    ours = decoder()
    states = ours(HIDDEN, IDS)
    everything = ours.logits(states, RANGES)
    assert everything.shape == (5, 4, 17)
    some = ours.logits(states, ((4, 6), (20, 21)))
    torch.testing.assert_close(some, everything[..., [1, 2, 4]])
    with pytest.raises(ValueError, match="no rows for ids 6 to 7; it has those of 3 to 6, 20 to 3"):
        ours.logits(states, ((6, 8),))


def test_a_config_survives_json_and_names_what_is_wrong():
    ours = config(per_level=True)
    assert DepthConfig.from_json(ours.to_json()) == ours
    for changes, message in [
        ({"num_ids": 1}, "positions of 2 ids and more"),
        ({"hidden_size": 0}, "hidden_size is 0, expected 1 to"),
        ({"num_heads": 3}, "heads that divide"),
        ({"ranges": [[5, 3]]}, "sorted, disjoint"),
        ({"ranges": []}, "sorted, disjoint"),
        ({"per_level": 1}, "per_level is 1"),
        ({"rope_theta": 0}, "rope_theta is 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            DepthConfig.from_json({**ours.to_json(), **changes})
    with pytest.raises(ValueError, match=r"depth has .*, expected head_dim"):
        DepthConfig.from_json({"width": 3})


@pytest.mark.parametrize("per_level", [False, True])
def test_a_config_knows_the_shape_of_every_parameter(per_level):
    ours = decoder(per_level=per_level)
    shapes = {name: tuple(parameter.shape) for name, parameter in ours.named_parameters()}
    assert ours.config.shapes() == shapes
    assert set(ours.state_dict()) == set(shapes)
