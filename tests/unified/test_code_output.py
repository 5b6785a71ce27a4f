"""What writes the codes of positions that hold several: declared, attached, saved and opened."""

import json
import shutil

import pytest
import torch
import transformers as tr
from safetensors.torch import load_file, save_file
from small_together import level_tokenizers, together_model

from unified import TextTokenizer, UnifiedModel
from unified.engine.backends.depth_config import DepthConfig
from unified.formats.coded import CodedImage, CodedText
from unified.formats.load import load_format
from unified.formats.together import together_kinds, with_layouts
from unified.models.code_output import (
    CodesOutput,
    check_codes,
    depth_decoder_of,
    ranges_together,
)
from unified.models.depth_files import DEPTH_FILE
from unified.models.info import codes_in_words, describe_model

TEXT = TextTokenizer.train(["a cat and a dog", "the dog is red"], 271)


def opened(folder, **options):
    return UnifiedModel.from_pretrained(folder, backend="transformers", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    together_model(depth={"num_layers": 2, "per_level": True}).save_pretrained(folder)
    return folder


def test_a_folder_holds_the_plain_checkpoint_and_the_depth_decoder_beside_it(
    folder,
):
    model = together_model(depth={"num_layers": 2, "per_level": True})
    plain, report = tr.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    state = model.hf.state_dict()
    assert set(plain.state_dict()) == {name for name in state if "depth_decoder" not in name}
    ids = torch.randint(model.vocabulary.size, (2, 9))
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, model.hf.eval()(ids).logits)
    beside = load_file(folder / DEPTH_FILE)
    assert set(beside) == set(model.codes.depth.shapes())
    for name, tensor in beside.items():
        assert torch.equal(tensor, state[f"depth_decoder.{name}"])


def test_it_opens_as_it_was_saved_and_says_what_it_is(folder):
    model, again = together_model(depth={"num_layers": 2, "per_level": True}), opened(folder)
    assert again.codes == model.codes
    assert again.codes.depth.num_ids == 3
    levels = [again.vocabulary.block(name) for name in ("image.0", "image.1", "audio.0", "audio.2")]
    first, last = min(b.start for b in levels), max(b.stop for b in levels)
    assert again.codes.depth.ranges == ((first, last),)
    before, after = model.hf.state_dict(), again.hf.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    description = describe_model("together", folder)
    assert description["codes"] == model.codes.to_json()
    words = codes_in_words(description)
    assert (
        words == "2 of image, 3 of audio in a position, by a depth decoder of 2 layers of width 12"
    )


def test_the_depth_decoder_goes_with_the_model_to_types_and_devices(folder):
    again = opened(folder, dtype="bfloat16")
    module = depth_decoder_of(again.hf)
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    again.to("meta")
    assert next(depth_decoder_of(again.hf).parameters()).device.type == "meta"
    again.to("cpu", "float32")
    module = depth_decoder_of(again.hf)
    assert torch.equal(module.row_of_id, torch.from_numpy(again.codes.depth.rows))
    stored = load_file(folder / DEPTH_FILE)
    assert torch.equal(module.lm_head.weight, stored["lm_head.weight"])
    assert opened(folder, device="meta").hf.depth_decoder.lm_head.weight.is_meta


def test_saving_rounds_it_too_and_leaves_the_model_as_it_was(tmp_path):
    model = together_model()
    model.save_pretrained(tmp_path, dtype="bfloat16")
    assert {t.dtype for t in load_file(tmp_path / DEPTH_FILE).values()} == {torch.bfloat16}
    assert model.hf.depth_decoder.lm_head.weight.dtype == torch.float32
    together_model("heads").save_pretrained(tmp_path)  # another's depth decoder does not stay
    assert not (tmp_path / DEPTH_FILE).exists()
    assert opened(tmp_path).codes == CodesOutput("heads")


@pytest.fixture(scope="module")
def media():
    image, audio = level_tokenizers()
    return {"image_tokenizer": image, "audio_tokenizer": audio, "max_grid": 5}


def language_model(kind="Llama"):
    torch.manual_seed(2)
    config = getattr(tr, f"{kind}Config")(
        vocab_size=TEXT.size + 5, hidden_size=24, intermediate_size=28, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=10, max_position_embeddings=130,
    )  # fmt: skip
    return getattr(tr, f"{kind}ForCausalLM")(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "Gemma2"])
def test_extending_adds_it_to_any_language_model_whose_text_stays(kind, media, tmp_path):
    before = language_model(kind)
    before.save_pretrained(tmp_path / "llm")
    TEXT.save(tmp_path / "llm")
    model = UnifiedModel.extend(
        tmp_path / "llm", audio_codes="depth", depth={"num_heads": 2}, **media
    )
    ids = torch.randint(TEXT.size, (2, 17))
    expected = before(ids).logits
    rows = expected.shape[-1]
    assert torch.equal(model.hf(ids).logits[..., :rows], expected)
    model.save_pretrained(tmp_path / "unified")
    plain = tr.AutoModelForCausalLM.from_pretrained(tmp_path / "unified").eval()
    assert torch.equal(plain(ids).logits[..., :rows], expected)
    again = opened(tmp_path / "unified")
    assert torch.equal(again.hf(ids).logits[..., :rows], expected)
    assert again.grammar.format.name == "pocket-together"
    assert together_kinds(again.grammar.format) == ("audio",)  # pictures as the format has them
    assert (again.codes.depth.num_ids, again.codes.depth.num_kv_heads) == (3, 2)
    assert again.codes.depth.input_size == 24


def test_layouts_are_chosen_by_modality(media):
    def extended(**options):
        return UnifiedModel.extend(language_model(), text_tokenizer=TEXT, **media, **options)

    assert extended().codes is None
    assert extended(format="pocket-together", image_codes="row", audio_codes="row").codes is None
    heads = extended(image_codes="heads")
    assert (heads.codes, heads.grammar.num_together) == (CodesOutput("heads"), 2)
    assert depth_decoder_of(heads.hf) is None
    both = extended(image_codes="depth", audio_codes="depth")
    assert together_kinds(both.grammar.format) == ("image", "audio")
    assert both.codes == extended(format="pocket-together").codes
    for options, message in [
        ({"audio_codes": "deep"}, "audio_codes is 'deep', expected one of row, depth, heads"),
        ({"audio_codes": "depth", "image_codes": "heads"}, "one output for its codes"),
        ({"depth": {"num_layers": 1}}, "in format 'pocket' with these tokenizers every position"),
        ({"audio_codes": "heads", "depth": {"num_layers": 1}}, "codes is heads; leave it out"),
        ({"audio_codes": "depth", "depth": {"layers": 1}}, r"depth has \['layers'\], expected"),
        ({"audio_codes": "depth", "depth": {"num_layers": 0}}, "num_layers is 0, expected 1 to"),
        ({"format": "emu3", "audio_codes": "depth"}, "audio_codes is depth, but format 'emu3' has"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            extended(**options)


def test_the_pocket_format_rewritten_is_the_one_that_is_shipped():
    pocket, together = load_format("pocket"), load_format("pocket-together")
    rewritten = with_layouts(pocket, {"image": True, "audio": True})
    assert rewritten.name == "pocket-together"
    assert (rewritten.spans, rewritten.markers) == (together.spans, together.markers)
    back = with_layouts(rewritten, {"image": False, "audio": False})
    assert (back.name, back.spans) == ("pocket", pocket.spans)
    assert with_layouts(pocket, {"audio": False}) is pocket
    with pytest.raises(ValueError, match="format 'emu3' has no audio spans; it has image"):
        with_layouts(load_format("emu3"), {"audio": True})
    with pytest.raises(ValueError, match=r"lays audio codes out block by block \('audio.0'"):
        with_layouts(load_format("mio"), {"audio": True})


@pytest.fixture
def damaged(folder, tmp_path):
    """A function: a copy of the folder, its unified.json changed, and its depth decoder."""

    def make(codes=lambda codes: codes, tensors=None):
        copy = tmp_path / "model"
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        path = copy / "unified.json"
        manifest = json.loads(path.read_text())
        manifest["codes"] = codes(manifest["codes"])
        if manifest["codes"] is None:
            del manifest["codes"]
        path.write_text(json.dumps(manifest))
        if tensors is not None:
            weights = load_file(copy / DEPTH_FILE)
            tensors(weights)
            save_file(weights, copy / DEPTH_FILE)
        return copy

    return make


def sizes(**changes):
    return lambda codes: {**codes, "depth": {**codes["depth"], **changes}}


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (lambda codes: None, "unified.json has no codes, but format 'pocket-together' puts up"),
        (lambda codes: {"output": "deep"}, "unified.json: codes.output is 'deep', expected depth"),
        (lambda codes: {"output": "depth"}, "unified.json: codes.depth has the sizes of a depth"),
        (lambda codes: {**codes, "output": "heads"}, "unified.json: codes.depth has the sizes"),
        (lambda codes: [1], r"unified.json: codes is \[1\], expected output"),
        (sizes(num_ids=2), "unified.json: codes.depth.num_ids is 2, expected 3: the most ids of a"),
        (sizes(num_ids=4), "unified.json: codes.depth.num_ids is 4, expected 3: the most ids of a"),
        (sizes(input_size=25), "codes.depth.input_size is 25, expected 24: the width of the dec"),
        (sizes(ranges=[[1, 9]]), r"codes.depth.ranges is \[\[1, 9\]\], expected \[\["),
        (sizes(num_layers=0), "unified.json: codes.depth: a depth decoder's num_layers is 0"),
        (sizes(hidden_size=14), r"safetensors: .*embed_tokens.weight has shape \(39, 12\)"),
        (sizes(num_layers=1), r"'layers.1.input_layernorm.weight' is unexpected"),
        (sizes(num_layers=3), r"layers.2.input_layernorm.weight is missing;"),
        (sizes(per_level=False), r"q_proj.weight has shape \(3, 12, 12\), expected"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_by_file_and_key(codes, message, damaged):
    with pytest.raises(ValueError, match=message) as error:
        opened(damaged(codes))
    assert "\n" not in str(error.value)


def test_a_missing_or_damaged_depth_decoder_is_refused(damaged):
    folder = damaged()
    (folder / DEPTH_FILE).unlink()
    with pytest.raises(ValueError, match=f"has no {DEPTH_FILE}, but its unified.json says"):
        opened(folder)
    folder = damaged(tensors=lambda weights: weights.pop("norm.weight"))
    with pytest.raises(ValueError, match=r"safetensors: .*: norm.weight is missing .codes"):
        opened(folder)
    folder = damaged()
    (folder / DEPTH_FILE).write_bytes(b"\x09" + bytes(30))
    with pytest.raises(ValueError, match=r"depth_decoder.safetensors"):
        opened(folder)


def test_a_declaration_without_use_is_refused(folder, tmp_path):
    row = together_model(None, format="pocket")
    assert row.codes is None
    row.save_pretrained(tmp_path)
    path = tmp_path / "unified.json"
    manifest = json.loads(path.read_text())
    declared = json.loads((folder / "unified.json").read_text())["codes"]
    path.write_text(json.dumps({**manifest, "codes": declared}))
    with pytest.raises(
        ValueError, match=r"codes.output is depth, but in format 'pocket' every pos"
    ):
        opened(tmp_path)
    with pytest.raises(ValueError, match="codes=depth is for positions of several codes"):
        together_model("depth", format="pocket")
    with pytest.raises(ValueError, match="codes is 'deep', expected depth or heads"):
        together_model("deep")


def test_the_ids_of_positions_of_several_are_codes_and_fill_markers():
    grammar = together_model().grammar
    ids = [id for start, stop in ranges_together(grammar) for id in range(start, stop)]
    assert len(ids) == 2 * 6 + 3 * 9
    assert {grammar.modality(id) for id in ids} == {"image", "audio"}
    check_codes(CodesOutput("heads"), grammar, 24, "here")
    depth = DepthConfig(24, 4, 1, 1, 1, 2, 4, 3, ranges_together(grammar))
    check_codes(CodesOutput("depth", depth), grammar, 24, "here")


@torch.no_grad()
def test_a_model_in_a_row_becomes_one_with_a_depth_decoder_and_loses_nothing(tmp_path):
    row = together_model(None, format="pocket")
    picture = CodedImage(torch.tensor([[[1, 5, 2]], [[4, 0, 3]]]).numpy())
    ids = row.grammar.serialize([CodedText((1, 2)), picture]).ids
    before = row.hf.eval()(torch.from_numpy(ids)[None]).logits
    weights = {name: value.clone() for name, value in row.hf.state_dict().items()}
    model = row.together(depth={"hidden_size": 8}, modalities=("image",))
    assert model.hf is row.hf  # one copy in memory
    assert model.vocabulary.hash == row.vocabulary.hash
    assert torch.equal(model.hf(torch.from_numpy(ids)[None]).logits, before)
    laid = model.grammar.serialize([CodedText((1, 2)), picture])
    assert (laid.ids == ids).all()
    assert len(ids) - laid.num_positions == 3
    assert together_kinds(model.grammar.format) == ("image",)
    assert (model.codes.depth.num_ids, model.codes.depth.hidden_size) == (2, 8)
    model.save_pretrained(tmp_path)
    again = opened(tmp_path)
    assert all(torch.equal(again.hf.state_dict()[name], value) for name, value in weights.items())


@torch.no_grad()
def test_a_depth_decoder_begins_with_the_rows_of_the_decoder_in_fewer_dimensions():
    row = together_model(None, format="pocket")
    table = row.hf.get_input_embeddings().weight
    rows = torch.randn(39, 7) @ torch.randn(7, 24)  # of seven dimensions
    first = row.vocabulary.block("image.0").start
    table[first : first + 39] = rows
    depth = depth_decoder_of(row.together(depth={"hidden_size": 10}).hf)
    expected = rows - rows.mean(0)
    for begun in (depth.embed_tokens.weight, depth.lm_head.weight):
        # Distances between codes are kept, but for one factor.
        ratio = torch.pdist(begun[:, :7]) / torch.pdist(expected)
        torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)


def test_what_cannot_be_put_together_is_refused():
    row = together_model(None, format="pocket")
    with pytest.raises(
        ValueError, match=r"found \['text'\] to put together, expected some of audio"
    ):
        row.together(modalities=("text",))
    with pytest.raises(ValueError, match="codes is 'deep', expected depth or heads"):
        row.together("deep")
    with pytest.raises(ValueError, match="codes are together already"):
        row.together("heads").together()
