"""Facts of connectors and of modules inside layers that need no trained weights."""

import pytest
import torch

from tests.helpers.grafted import text_tokenizer, tiny_llm
from unified.engine.backends.pass_media import SeenMedium, pass_media
from unified.models.grafting.connector_table import CONNECTORS, make_connector
from unified.models.grafting.connectors import pixel_shuffle
from unified.models.grafting.layer_table import make_layer_graft


@pytest.mark.parametrize(
    ("side", "patch", "options", "vectors"), [(336, 14, {}, 576), (448, 14, {"shuffle": 2}, 256)]
)
def test_pictures_become_as_many_vectors_as_published(side, patch, options, vectors):
    grid = (side // patch, side // patch)
    connector = make_connector("mlp", 5, 7, **options)
    reduced = connector.grid(grid)
    assert reduced[0] * reduced[1] == vectors
    features = torch.randn(2, grid[0] * grid[1], 5)
    assert connector(features, grid).shape == (2, vectors, 7)


def test_pixel_shuffle_is_that_of_internvl():
    from transformers.models.internvl.modeling_internvl import InternVLModel

    features = torch.randn(2, 4 * 6, 5)
    expected = InternVLModel.pixel_shuffle(None, features.view(2, 4, 6, 5), 0.5)
    assert torch.equal(pixel_shuffle(features, (4, 6), 2), expected.reshape(2, 6, 20))


def test_the_q_former_is_that_of_blip_2():
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    options = {"queries": 5, "layers": 4, "heads": 3, "width": 12}
    connector = make_connector("qformer", 10, 7, **options).eval()
    config = Blip2QFormerConfig(
        hidden_size=12, num_hidden_layers=4, num_attention_heads=3, intermediate_size=48,
        encoder_hidden_size=10,
    )  # fmt: skip
    theirs = Blip2QFormerModel(config).eval()
    theirs.load_state_dict(connector.qformer.state_dict())
    crossed = [hasattr(layer, "crossattention") for layer in theirs.encoder.layer]
    assert crossed == [True, False, True, False]  # every second layer
    features = torch.randn(2, 9, 10)
    with torch.no_grad():
        states = theirs(
            query_embeds=connector.query_tokens.expand(2, -1, -1), encoder_hidden_states=features
        )[0]
        expected = connector.language_projection(states)
        assert torch.equal(connector(features, (3, 3)), expected)
    assert connector.grid((3, 3)) == (5,)
    published = CONNECTORS["qformer"].defaults
    assert (published["queries"], published["layers"]) == (32, 12)


def test_the_resampler_gives_64_latents_of_any_grid():
    options = {"depth": 2, "heads": 2, "head_width": 4}
    connector = make_connector("resampler", 10, 7, **options).eval()
    for grid in ((3, 5), (2, 2), (11,)):
        count = torch.tensor(grid).prod()
        assert connector(torch.randn(2, count, 10), grid).shape == (2, 64, 7)
        assert connector.grid(grid) == (64,)


def test_connectors_refuse_what_they_cannot_take():
    assert set(CONNECTORS) == {"linear", "mlp", "qformer", "resampler", "pool", "merge"}
    with pytest.raises(ValueError, match="connector is 'cnn', expected one of linear"):
        make_connector("cnn", 5, 7)
    with pytest.raises(ValueError, match="connector mlp has no option sides; it has shuffle"):
        make_connector("mlp", 5, 7, sides=2)
    with pytest.raises(ValueError, match="shuffle of connector mlp is 0, expected at least 1"):
        make_connector("mlp", 5, 7, shuffle=0)
    with pytest.raises(ValueError, match="width 12 and 5 heads"):
        make_connector("qformer", 5, 7, width=12, heads=5)
    connector = make_connector("mlp", 5, 7, shuffle=2)
    with pytest.raises(ValueError, match="3x4 features does not divide into blocks of side 2"):
        connector.grid((3, 4))
    with pytest.raises(ValueError, match="features of width 6, connector mlp was made for 5"):
        connector(torch.randn(1, 4, 6), (2, 2))


LAYERS = {
    "visual-expert": {},
    "adaption-prompts": {"prompts": 3, "layers": 1},
    "gated-cross-attention": {"every": 2, "heads": 3},
    "modality-adapters": {"rank": 4},
}


@pytest.mark.parametrize("name", LAYERS)
def test_modules_in_layers_begin_as_if_they_were_not_there(name):
    """Logits are the same bits, of text alone and, but for the expert, with media in the pass."""
    hf = tiny_llm(text_tokenizer())
    ids = torch.tensor([[5, 9, 2, 17, 4], [1, 1, 8, 3, 30]])
    mask = torch.tensor([[False, True, True, False, False], [False] * 5])
    seen = [SeenMedium(0, torch.randn(6, 24)), SeenMedium(2, torch.randn(3, 24))]
    media = {"mask": mask, "media": seen, "latest": torch.tensor([[-1, 0, 0, 1, 1], [0] * 5])}
    with torch.no_grad():
        before = hf(input_ids=ids, use_cache=False).logits
        graft = make_layer_graft(name, hf, **LAYERS[name])
        graft.install(hf)
        assert torch.equal(hf(input_ids=ids, use_cache=False).logits, before)
        with pass_media(hf, **media):
            beside = hf(input_ids=ids, use_cache=False).logits
            if name == "visual-expert":  # whose products have fewer rows, and round otherwise
                assert torch.allclose(beside, before, atol=1e-5)
            else:
                assert torch.equal(beside, before)
            for parameter in graft.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
            changed = hf(input_ids=ids, use_cache=False).logits
        assert float((changed[0] - before[0]).abs().max()) > 1e-5
        if name == "visual-expert":
            assert torch.equal(hf(input_ids=ids, use_cache=False).logits, before)
            assert torch.allclose(changed[1], before[1], atol=1e-6)
        graft.remove(hf)
        assert torch.equal(hf(input_ids=ids, use_cache=False).logits, before)


def test_layer_grafts_refuse_what_they_cannot_take():
    hf = tiny_llm(text_tokenizer())
    with pytest.raises(ValueError, match="layers is 'lora', expected one of visual-expert"):
        make_layer_graft("lora", hf)
    with pytest.raises(ValueError, match="has no option size; it has prompts, layers"):
        make_layer_graft("adaption-prompts", hf, size=2)
    with pytest.raises(ValueError, match="heads of gated-cross-attention is 5, expected a divisor"):
        make_layer_graft("gated-cross-attention", hf, heads=5)
    from transformers import GPT2Config, GPT2LMHeadModel

    other = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=9, n_positions=8))
    with pytest.raises(ValueError, match="are not like Llama's"):
        make_layer_graft("visual-expert", other)
