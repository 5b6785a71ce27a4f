"""Any causal LM is given pictures and sound, and its text stays what it was, bit for bit."""

import json

import pytest
import torch
import transformers as tr

from tokenizers import AddedToken
from unified import Sampling, SpanSampling, TextTokenizer, UnifiedModel
from unified.engine.backends.cpu.decoder import LlamaCpuDecoder
from unified.engine.backends.torch_static.static_decoder import TorchStaticDecoder
from unified.engine.events import Done
from unified.sequence.sequencer import Sequencer
from unified_data.document import Audio, Document, Image, Slot, Text

PADDING = 5  # rows of the checkpoint that its tokenizer has no ids for
SHAPE = {
    "hidden_size": 24, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 130,
}  # fmt: skip
WARM = SpanSampling(1.0)


def text_tokenizer() -> TextTokenizer:
    backend = TextTokenizer.train(["a cat and a dog", "the dog is red"], 271)._tokenizer
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}
    return TextTokenizer(backend, {"tokenizer_config.json": json.dumps(config).encode()})


TEXT = text_tokenizer()
ROWS = TEXT.size + PADDING
IDS = {"vocab_size": ROWS, "bos_token_id": TEXT.tokens["<s>"], "eos_token_id": TEXT.tokens["</s>"]}
MODELS = {
    "llama": ("Llama", {**SHAPE, "head_dim": 10}),
    "qwen3": ("Qwen3", {**SHAPE, "head_dim": 10, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2", {**SHAPE, "head_dim": 10, "sliding_window": 8}),
    "gemma3": ("Gemma3", {**SHAPE, "head_dim": 10, "sliding_window": 8}),
    "mistral": ("Mistral", {**SHAPE, "sliding_window": 30}),
    "gpt2": ("GPT2", {"n_embd": 12, "n_layer": 1, "n_head": 2, "n_positions": 130}),
    "mixtral": ("Mixtral", {**SHAPE, "num_local_experts": 3}),
    "qwen3_moe": (
        "Qwen3Moe",
        {
            **SHAPE,
            "head_dim": 10,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 12,
            "decoder_sparse_step": 2,
            "norm_topk_prob": True,
        },
    ),
    "phi": ("Phi", {**SHAPE, "num_key_value_heads": 2}),
}


def language_model(kind: str, **more):
    name, shape = MODELS[kind]
    config = getattr(tr, f"{name}TextConfig" if name == "Gemma3" else f"{name}Config")
    model = tr.GPT2LMHeadModel if kind == "gpt2" else getattr(tr, f"{name}ForCausalLM")
    torch.manual_seed(2)
    decoder = model(config(**{**shape, **IDS, "pad_token_id": None, **more})).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return decoder


def save(model, folder):
    model.save_pretrained(folder)
    TEXT.save(folder)
    return folder


@pytest.fixture(scope="module")
def media(tiny_tokenizers):
    image, audio = tiny_tokenizers
    return {"image_tokenizer": image, "audio_tokenizer": audio, "max_grid": 5}


@torch.no_grad()
@pytest.mark.parametrize("kind", MODELS)
def test_old_text_logits_stay_bit_for_bit_and_every_loader_has_the_same_model(
    kind, media, tmp_path
):
    before = language_model(kind)
    folder = save(before, tmp_path / "llm")
    ids = torch.randint(TEXT.size, (2, 17))
    model = UnifiedModel.extend(folder, **media)
    model.save_pretrained(tmp_path / "unified", dtype=None)

    vocabulary = model.vocabulary
    assert (vocabulary.text_size, vocabulary.text_rows) == (TEXT.size, ROWS)
    assert vocabulary.block("markers").start == ROWS  # behind the padding, which is kept
    plain = tr.AutoModelForCausalLM.from_pretrained(tmp_path / "unified").eval()
    assert type(plain) is type(before)
    logits = plain(ids).logits
    assert logits.shape[-1] == vocabulary.size == plain.config.vocab_size
    assert torch.equal(logits[..., :ROWS], before(ids).logits)
    assert torch.isfinite(logits).all()

    tied = before.get_output_embeddings().weight is before.get_input_embeddings().weight
    assert (plain.get_output_embeddings().weight is plain.get_input_embeddings().weight) == tied
    for table in (plain.get_input_embeddings(), plain.get_output_embeddings()):
        new = table.weight[ROWS:]
        assert len(new.unique(dim=0)) == len(new)
    if kind == "phi":
        bias, old = plain.lm_head.bias, before.lm_head.bias
        torch.testing.assert_close(bias, torch.cat([old, old.mean().expand(len(bias) - ROWS)]))

    loaded = UnifiedModel.from_pretrained(tmp_path / "unified")
    compiled = kind in ("llama", "qwen3")
    assert isinstance(loaded.decoder(), LlamaCpuDecoder if compiled else TorchStaticDecoder)
    document = Document((Text("a cat"), Slot("image", 48, 72), Slot("text"), Slot("audio")))
    sampling = Sampling(WARM, WARM, WARM, max_ids=60, max_audio_frames=4)
    dones = [e for e in loaded.stream([document] * 2, sampling) if isinstance(e, Done)]
    assert len(dones) == 2
    for done in dones:
        loaded.grammar.validate(done.ids)
        assert [type(segment) for segment in done.document] == [Text, Image, Text, Audio]
        # What is special in the checkpoint is never sampled as text.
        assert not set(done.ids.tolist()) & set(TEXT.special_ids)


def test_the_text_tokenizer_that_transformers_loads_stays_the_one_that_it_was(media, tmp_path):
    folder = save(language_model("llama"), tmp_path / "llm")
    UnifiedModel.extend(folder, **media).save_pretrained(tmp_path / "unified")
    old, new = (tr.AutoTokenizer.from_pretrained(tmp_path / name) for name in ("llm", "unified"))
    text = "the red dog </s> \u00e9"
    assert new(text)["input_ids"] == old(text)["input_ids"]
    assert new.bos_token == "<s>"
    loaded = UnifiedModel.from_pretrained(tmp_path / "unified")
    loaded.save_pretrained(tmp_path / "again")
    config = (tmp_path / "again" / "tokenizer_config.json").read_bytes()
    assert config == (folder / "tokenizer_config.json").read_bytes()


def test_generation_settings_of_the_language_model_are_kept(media, tmp_path):
    model = language_model("llama")
    model.generation_config = tr.GenerationConfig(do_sample=True, temperature=0.6, eos_token_id=3)
    UnifiedModel.extend(save(model, tmp_path / "llm"), **media).save_pretrained(tmp_path / "new")
    generation = tr.GenerationConfig.from_pretrained(tmp_path / "new")
    assert (generation.temperature, generation.eos_token_id, generation.do_sample) == (0.6, 3, True)


@pytest.mark.parametrize(
    ("stored", "dtype"), [("bfloat16", None), ("float16", None), ("bfloat16", "float32")]
)
def test_weights_keep_the_type_they_are_stored_in_unless_told(stored, dtype, media, tmp_path):
    before = language_model("llama").to(getattr(torch, stored))
    folder = save(before, tmp_path / "llm")
    model = UnifiedModel.extend(folder, dtype=dtype, **media)
    model.save_pretrained(tmp_path / "unified", dtype=None)
    wanted = getattr(torch, dtype or stored)
    plain = tr.AutoModelForCausalLM.from_pretrained(tmp_path / "unified")
    assert {p.dtype for p in plain.parameters()} == {wanted}
    rows = plain.get_input_embeddings().weight
    assert torch.equal(rows[:ROWS], before.get_input_embeddings().weight.to(wanted))
    assert len(rows[ROWS:].unique(dim=0)) == len(rows) - ROWS
    document = Document((Text("a"), Slot("image", 24, 24)))
    assert UnifiedModel.from_pretrained(tmp_path / "unified").generate(document)


def test_a_seed_gives_the_same_rows(media, tmp_path):
    folder = save(language_model("llama"), tmp_path)

    def rows(seed):
        torch.manual_seed(seed)
        return UnifiedModel.extend(folder, **media).hf.get_input_embeddings().weight

    assert torch.equal(rows(3), rows(3))
    assert not torch.equal(rows(3)[ROWS:], rows(4)[ROWS:])


def test_a_model_without_sound_takes_a_format_that_has_it(media, tmp_path):
    folder = save(language_model("llama"), tmp_path / "llm")
    only = UnifiedModel.extend(folder, image_tokenizer=media["image_tokenizer"], max_grid=5)
    assert list(only.grammar.span_grammars) == ["image"]
    assert not only.vocabulary.levels("audio")
    only.save_pretrained(tmp_path / "unified")
    loaded = UnifiedModel.from_pretrained(tmp_path / "unified")
    (document,) = loaded.generate(Document((Text("a"), Slot("image", 24, 48))))
    assert document.segments[1].pixels.shape == (24, 48, 3)


def test_the_literals_of_a_format_are_recorded(media, tmp_path):
    source = """
name: worded
markers: [<pad>, <bos>, <eos>, <image>, </image>]
padding: <pad>
document: {begin: <bos>, end: <eos>}
roles: {}
text: {separator: null}
spans:
  image:
    - marker: <image>
    - {register: h, digits: 2}
    - literal: " by "
    - {register: w, digits: 2}
    - marker: </image>
    - repeat: h
      of: [{repeat: w, of: [{codes: image}]}]
"""
    (tmp_path / "f.yaml").write_text(source)
    folder = save(language_model("llama"), tmp_path / "llm")
    model = UnifiedModel.extend(
        folder, image_tokenizer=media["image_tokenizer"], format=tmp_path / "f.yaml", max_grid=5
    )
    assert model.vocabulary.literal(" by ") == tuple(TEXT.encode(" by "))
    (document,) = model.generate(Document((Slot("image", 24, 48),)))
    assert isinstance(document.segments[0], Image)


def test_what_cannot_be_extended_is_refused_with_its_reason(media, tmp_path):
    folder = save(language_model("llama"), tmp_path / "llm")

    def extend(llm=folder, **more):
        return UnifiedModel.extend(llm, **{**media, **more})

    with pytest.raises(ValueError, match="initialise is 'mean', expected one of mean-covariance"):
        extend(initialise="mean")
    with pytest.raises(ValueError, match="dtype is 'int8', expected one of float32, bfloat16"):
        extend(dtype="int8")
    with pytest.raises(ValueError, match="no model 'nowhere': expected"):
        extend("nowhere")
    with pytest.raises(ValueError, match="is a unified model already; take the language model"):
        extend("pocket")
    with pytest.raises(ValueError, match="has no chat template"):
        extend(format="chat")
    with pytest.raises(ValueError, match=r"no format 'pockets'"):
        extend(format="pockets")

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    with pytest.raises(ValueError, match="cannot be loaded: Unrecognized"):
        extend()
    mapped = {**config, "model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "own.py").write_text("raise SystemExit('this code was run')")
    (folder / "config.json").write_text(json.dumps(mapped))
    with pytest.raises(ValueError, match="cannot be loaded") as refused:
        extend()
    assert "\n" not in str(refused.value)
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"has no config\.json"):
        extend()


def test_checkpoints_that_lack_weights_or_rows_are_refused(media, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save(language_model("llama"), tmp_path)
    # Copies: what lies mapped in memory would be torn by saving over it.
    weights = {k: v.clone() for k, v in load_file(folder / "model.safetensors").items()}
    head = weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    # transformers would draw them at random.
    with pytest.raises(ValueError, match=r"lacks 1 weights, such as lm_head\.weight"):
        UnifiedModel.extend(folder, **media)
    longer = torch.cat([weights["model.embed_tokens.weight"], torch.zeros(3, 24)])
    weights |= {"model.embed_tokens.weight": longer, "lm_head.weight": head}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="cannot be loaded"):  # config.json has other rows
        UnifiedModel.extend(folder, **media)


def test_a_model_of_several_parts_and_a_quantised_one_are_refused(media):
    model = language_model("llama")
    model.config.get_text_config = lambda **_: tr.LlamaConfig()
    with pytest.raises(ValueError, match="a llama is more than a language model"):
        UnifiedModel.extend(model, text_tokenizer=TEXT, **media)
    model = language_model("llama")
    model.hf_quantizer = object()
    with pytest.raises(ValueError, match="weights are quantised"):
        UnifiedModel.extend(model, text_tokenizer=TEXT, **media)


def test_a_loaded_model_is_extended_in_place_and_its_type_can_be_changed(media):
    hf = language_model("gpt2")
    model = UnifiedModel.extend(hf, text_tokenizer=TEXT, dtype="bfloat16", **media)
    assert model.hf is hf
    assert hf.transformer.wte.weight.dtype == torch.bfloat16
    assert isinstance(model.sequencer, Sequencer)


@torch.no_grad()
def test_rows_that_the_config_does_not_know_of_are_kept_too(media):
    hf = language_model("llama")
    before = hf.get_input_embeddings().weight.clone()
    hf.config.vocab_size = TEXT.size  # the table has PADDING more
    model = UnifiedModel.extend(hf, text_tokenizer=TEXT, **media)
    assert model.vocabulary.text_rows == ROWS
    assert torch.equal(hf.get_input_embeddings().weight[:ROWS], before)
    assert hf.config.vocab_size == model.vocabulary.size
