"""Published checkpoints open with their own files, and sample what transformers samples."""

import json

import numpy as np
import pytest
import torch

from unified import Guidance, Sampling, SpanSampling, UnifiedModel
from unified.engine.engine import Engine
from unified.engine.request import CodedSlot, Finished, Request
from unified.formats.coded import CodedImage, CodedText
from unified_data.document import Document, Image, Slot, Text

KINDS = ["emu3", "chameleon", "janus", "liquid", "orpheus"]
GREEDY = SpanSampling()
PROMPTS = ["a red fox", "two owls and a lamp on a green ground"]


def sampled(model, requests, sampling):
    sampler = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    ids_by_row = {e.row: e.ids for e in sampler.run(requests, sampling) if isinstance(e, Finished)}
    return [ids_by_row[row].tolist() for row in range(len(requests))]


def drawing(model, prompt, grid):
    ids = model.text_tokenizer.encode(prompt)
    return Request((CodedText(tuple(ids)), CodedSlot("image", grid)), 0)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_checkpoint(kind, checkpoints, opened):
    hf, text = checkpoints[kind].hf, checkpoints[kind].text
    model, tokens = opened[kind], text.tokens
    vocabulary = model.vocabulary
    assert model.grammar.format.name == {"emu3": "emu3-chat"}.get(kind, kind)
    rows = hf.get_input_embeddings().weight.shape[0]
    assert vocabulary.size == (rows + 24 if kind == "janus" else rows)
    if kind == "emu3":
        at = [tokens[f"<|visual token {code:06d}|>"] for code in range(24)]
        assert vocabulary.to_ids("image.0", np.arange(24)).tolist() == at
        assert vocabulary.marker("<line>") == tokens["<|extra_200|>"]
    elif kind == "chameleon":
        assert vocabulary.to_ids("image.0", 17) == tokens["IMGIMGBHZ"]
        mapping = hf.model.vocabulary_mapping.img2bpe
        ids = vocabulary.to_ids("image.0", np.arange(24)).tolist()
        assert ids == [mapping[code] for code in range(24)]
    elif kind == "liquid":
        assert vocabulary.to_ids("image.0", 5) == text.size + 5
    elif kind == "orpheus":
        ids = vocabulary.to_ids("audio.6", np.array([0, 4095]))
        assert ids.tolist() == [tokens[f"<custom_token_{10 + 6 * 4096 + n}>"] for n in (0, 4095)]
    # What is special in the checkpoint is no text here, whatever a user types.
    for token in checkpoints[kind].special[:9]:
        assert not vocabulary.is_text(tokens[token])
        assert tokens[token] not in model.text_tokenizer.encode(f"say {token} now")


def constrained(hf, model, grid):
    """transformers' own way to keep Emu3's layout: what may follow by how far a picture is."""
    height, width = grid
    code = model.vocabulary.levels("image")[0]
    codes = [code.id(n) for n in range(24)]
    line, frame, eoi, eos = (model.vocabulary.marker(m)
                             for m in ("<line>", "<frame>", "<eoi>", "<eos>"))  # fmt: skip
    begin = model.vocabulary.marker("<img>")

    def allowed(_, ids):
        ids = ids.tolist()
        at = len(ids) - 1 - ids.index(begin)
        if at < height * (width + 1):
            return [line] if at % (width + 1) == width else codes
        ends = [frame, eoi, eos]
        return [ends[min(at - height * (width + 1), 2)]]

    return allowed


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_emu3_draws_what_generate_draws(scale, checkpoints, opened):
    """A prefix constraint, guidance of 3, unequal prompts padded on the left."""
    hf, text = checkpoints["emu3"].hf, checkpoints["emu3"].text
    model, grid = opened["emu3"], (3, 4)
    tokens = text.tokens
    head = [*text.encode("3*4"), tokens["<|image token|>"]]
    bos, pad = tokens["<|extra_203|>"], tokens["<|endoftext|>"]
    rows = [[bos, *text.encode(p), tokens["<|image start|>"], *head] for p in PROMPTS]
    blank = [bos, tokens["<|image start|>"], *head]

    def padded(rows):
        longest = max(map(len, rows))
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        return ids, mask

    ids, mask = padded(rows)
    options = {}
    if scale != 1:
        negative, negative_mask = padded([blank] * len(rows))
        options = {"guidance_scale": scale, "negative_prompt_ids": negative,
                   "negative_prompt_attention_mask": negative_mask}  # fmt: skip
    with torch.no_grad():
        out = hf.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=18, do_sample=False,
            prefix_allowed_tokens_fn=constrained(hf, model, grid), **options,
        )  # fmt: skip
    sampling = Sampling(image=SpanSampling(guidance=Guidance(scale)), max_ids=100)
    drawn = sampled(model, [drawing(model, prompt, grid) for prompt in PROMPTS], sampling)
    for row, theirs in zip(rows, out.tolist()):
        ours = drawn[rows.index(row)]
        assert ours == row + theirs[ids.shape[1] :]
    assert len(set(drawn[0])) > 8


def test_janus_draws_what_its_own_generate_draws(checkpoints, opened):
    """Guidance of 5, the prompt blanked out in the other branch; the same codes, and pictures."""
    hf, text = checkpoints["janus"].hf, checkpoints["janus"].text
    model = opened["janus"]
    bos, pad, boi = (model.vocabulary.marker(m) for m in ("<bos>", "<pad>", "<boi>"))
    settings = {"bos_token_id": bos, "pad_token_id": pad, "guidance_scale": 5, "do_sample": False,
                "generation_kwargs": {"boi_token_id": boi}}  # fmt: skip
    for name, value in settings.items():
        setattr(hf.generation_config, name, value)
    sampling = Sampling(image=SpanSampling(guidance=Guidance(5.0)))
    for prompt in PROMPTS:
        ids = torch.tensor([[bos, *text.encode(prompt), boi]])
        with torch.no_grad():
            codes = hf.generate(ids, attention_mask=torch.ones_like(ids), generation_mode="image")[
                0
            ]
            pixels = hf.decode_image_tokens(codes[None])[0]
        (drawn,) = sampled(model, [drawing(model, prompt, None)], sampling)
        (image,) = [s for s in model.grammar.parse(drawn) if isinstance(s, CodedImage)]
        assert image.codes.reshape(-1).tolist() == codes.tolist()
        ours = model.sequencer.decode_image(image.codes).astype(float)
        theirs = (pixels.float() / 2 + 0.5).clamp(0, 1) * 255
        assert np.abs(ours - theirs.reshape(ours.shape).numpy()).max() <= 1.01


def test_chameleon_writes_what_generate_writes(checkpoints, opened):
    hf, text = checkpoints["chameleon"].hf, checkpoints["chameleon"].text
    model = opened["chameleon"]
    text_ids = [id for start, stop in model.vocabulary.text_ranges for id in range(start, stop)]
    end = model.vocabulary.marker("</s>")
    sampling = Sampling(max_ids=40)
    for prompt in PROMPTS:
        ids = [
            model.vocabulary.marker("<s>"),
            *text.encode(prompt),
            model.vocabulary.marker("<sep>"),
        ]
        with torch.no_grad():
            out = hf.generate(
                torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False,
                max_new_tokens=39 - len(ids),
                prefix_allowed_tokens_fn=lambda _, ids: [*text_ids, end],
            )[0].tolist()  # fmt: skip
        request = Request(
            (CodedText(tuple(text.encode(prompt)), "prompt"), CodedSlot("text", role="response")), 0
        )
        (written,) = sampled(model, [request], sampling)
        assert written[: len(out)] == out
        assert len(out) > len(ids) + 3


def test_chameleon_draws_by_its_hidden_states_and_head(checkpoints, opened):
    """transformers rules codes of pictures out; hidden states times the head do not."""
    hf = checkpoints["chameleon"].hf
    model = opened["chameleon"]
    request = Request((CodedText((5, 6), "prompt"), CodedSlot("image", role="response")), 0)
    (drawn,) = sampled(model, [request], Sampling(image=GREEDY, max_ids=1100))
    image = next(s for s in model.grammar.parse(drawn) if isinstance(s, CodedImage))
    with torch.no_grad():
        hidden = hf.model(input_ids=torch.tensor([drawn])).last_hidden_state[0]
        logits = hidden @ hf.lm_head.weight.T
    block = model.vocabulary.levels("image")[0]
    ids = [block.id(code) for code in range(24)]
    begin = drawn.index(model.vocabulary.marker("<boi>"))
    likeliest = logits[begin : begin + 1024, ids].argmax(1)
    assert image.codes.reshape(-1).tolist() == likeliest.tolist()


@pytest.mark.slow
def test_liquid_has_its_own_word_where_the_prompt_was(checkpoints, opened):
    hf = checkpoints["liquid"].hf
    model = opened["liquid"]
    sampling = Sampling(image=SpanSampling(guidance=Guidance(7.0)), max_ids=1100)
    request = drawing(model, PROMPTS[0], None)
    (drawn,) = sampled(model, [request], sampling)
    marker = model.vocabulary.marker
    codes = drawn[drawn.index(marker("<boi>")) + 1 : -2]
    prompt = drawn[: drawn.index(marker("<boi>")) + 1]
    blank = [marker("<bos>"), marker("<unconditional>"), marker("<boi>")]
    with torch.no_grad():
        c, u = (
            hf(torch.tensor([head + codes])).logits[0, len(head) - 1 : -1, -8192:]
            for head in (prompt, blank)
        )
    guided = u + 7 * (c - u)
    assert (guided.argmax(1) + hf.config.vocab_size - 8192).tolist() == codes


def test_orpheus_speaks_frames_of_seven_slots(checkpoints, opened):
    hf, text = checkpoints["orpheus"].hf, checkpoints["orpheus"].text
    model = opened["orpheus"]
    tokens = text.tokens
    words = text.encode(PROMPTS[0])
    request = Request(
        (CodedText(tuple(words), "prompt"), CodedSlot("audio", role="response")),
        0, Sampling(audio=GREEDY, max_audio_frames=4),
    )  # fmt: skip
    (spoken,) = sampled(model, [request], Sampling())
    named = [tokens[name] for name in ("<custom_token_3>", "<|begin_of_text|>")]
    heads = [tokens[f"<custom_token_{n}>"] for n in (4, 5, 1)]
    prompt = [*named, *words, tokens["<|eot_id|>"], *heads]
    assert spoken[: len(prompt)] == prompt
    with torch.no_grad():
        logits = hf(torch.tensor([spoken])).logits[0]
    for at in range(len(prompt), len(spoken) - 2):
        slot = (at - len(prompt)) % 7
        start = tokens[f"<custom_token_{10 + 4096 * slot}>"]
        likeliest = start + int(logits[at - 1, start : start + 4096].argmax())
        if slot or at == len(prompt):
            assert spoken[at] == likeliest


def test_a_published_model_draws_through_the_same_door(opened):
    model = opened["janus"]
    document = Document((Text("a red fox"), Slot("image", 48, 48)))
    (done,) = model.generate(document, sampling=Sampling(image=GREEDY))
    assert isinstance(done.segments[-1], Image)
    assert done.segments[-1].pixels.shape == (48, 48, 3)


@pytest.mark.parametrize(
    ("kind", "medium", "count"),
    [("liquid", "image", "num_images"), ("orpheus", "audio", "num_audios")],
)
def test_what_comes_without_its_codec_gives_text_alone(opened, kind, medium, count):
    model = opened[kind]
    roles = ("prompt", "response") if "response" in model.grammar.roles else (None, None)
    sampling = Sampling(text=SpanSampling(1.0), max_ids=120)
    document = Document((Text("a fox", roles[0]), Slot("any", role=roles[1])))
    for done in model.generate(document, 4, sampling=sampling):
        assert {type(segment) for segment in done} == {Text}
    for slot in (Slot(medium, role=roles[1]), Slot("any", role=roles[1], **{count: 1})):
        with pytest.raises(ValueError, match=f"no {medium} tokenizer"):
            model.generate(Document((Text("a fox", roles[0]), slot)), sampling=sampling)


def test_folders_that_are_no_model_say_what_was_expected(tmp_path, checkpoints):
    config = {"model_type": "qwen3", "vocab_size": 300}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"has no\s+unified\.json|cannot read text tokenizer"):
        UnifiedModel.from_pretrained(tmp_path)
    checkpoints["janus"].text.save(tmp_path)
    with pytest.raises(ValueError, match=r"a qwen3 that is neither .*extend"):
        UnifiedModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="expected 'pocket', a model's folder, or a name"):
        UnifiedModel.from_pretrained("no/such/folder")
