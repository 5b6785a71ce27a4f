"""Published models are asked as their authors ask them: prompts, sizes, settings, refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from tokenizers import Tokenizer
from unified import Sampling, SpanSampling, UnifiedModel
from unified.engine.sampler import penalize
from unified.models.pretrained import Pretrained, pretrained_models, register_pretrained
from unified.tasks.task import VERBS
from unified_data.document import Document, Slot, Text


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def prompt_ids(model, verb, **asked):
    """The ids that stand before what the model writes."""
    request = model.request(verb, **asked)
    *before, slot = request.document.segments
    goes_on = slot.modality == "text" and isinstance(before[-1], Text) and slot.role is None
    return model.sequencer.encode_prefix(before, None if goes_on else slot).ids.tolist()


def codes_asked(model, pixels, index):
    """The codes of the picture in the request that describes it."""
    request = model.request("describe", image=pixels)
    return model.sequencer.code_segment(request.document.segments[index]).codes


def hf_ids(checkpoints, kind, text):
    """transformers' ids of a text whose special tokens are theirs."""
    tokenizer = Tokenizer.from_file(str(checkpoints[kind].folder / "tokenizer.json"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)(
        text, add_special_tokens=False
    )["input_ids"]


def test_emu3_draws_with_its_quality_words_and_negative_prompt(checkpoints, opened):
    model = opened["emu3"]
    request = model.request("draw", text="a portrait of young girl.", size="8x6")
    quality = " masterpiece, film grained, best quality."
    head = "<|extra_203|>a portrait of young girl."
    # What Emu3Processor writes before the picture begins.
    ids = prompt_ids(model, "draw", text="a portrait of young girl.", size="8x6")
    assert ids == hf_ids(checkpoints, "emu3", head + quality)
    assert request.negative.startswith("lowres, bad anatomy")
    assert request.sampling.image.guidance.scale == 3
    assert request.sampling.image.top_k == 2048
    assert request.document.segments[-1] == Slot("image", 6, 8)
    usual = model.request("draw", text="a fox")
    stride = model.image_tokenizer.stride
    assert usual.document.segments[-1] == Slot("image", 90 * stride, 90 * stride)
    with pytest.raises(ValueError, match=r"2000x2000 cannot be had here.*the nearest is"):
        model.draw("a fox", size="2000x2000")


def test_emu3_reads_a_picture_before_the_question(checkpoints, opened):
    model = opened["emu3"]
    pixels = picture(6, 8)
    ids = prompt_ids(model, "describe", image=pixels)
    codes = model.sequencer.code_segment(
        model.request("describe", image=pixels).document.segments[1]
    ).codes
    h, w = codes.shape[1:]
    rows = "".join(
        "".join(f"<|visual token {code:06d}|>" for code in row) + "<|extra_200|>"
        for row in codes[0].tolist()
    )
    before = "<|extra_203|>You are a helpful assistant. USER: <|image start|>"
    after = f"<|image token|>{rows}<|extra_201|><|image end|>"
    # The published tokenizer cuts numbers into digits; the tiny one does not.
    size = [id for digit in f"{h}*{w}" for id in hf_ids(checkpoints, "emu3", digit)]
    head = [*hf_ids(checkpoints, "emu3", before), *size]
    words = f"{after}Please describe the image. ASSISTANT:"
    assert ids == [*head, *hf_ids(checkpoints, "emu3", words)]
    asked = prompt_ids(model, "ask", image=pixels, question="What is on the left")
    words = f"{after}What is on the left. ASSISTANT:"
    assert asked == [*head, *hf_ids(checkpoints, "emu3", words)]


@pytest.mark.parametrize(("positions", "refused"), [(9216, "describe"), (131_072, "draw")])
def test_emu3s_weights_tell_by_their_positions_what_they_are(
    positions, refused, checkpoints, tmp_path_factory
):
    import shutil

    folder = tmp_path_factory.mktemp("emu3") / "model"
    shutil.copytree(checkpoints["emu3"].folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = positions
    (folder / "config.json").write_text(json.dumps(config))
    model = UnifiedModel.from_pretrained(folder)
    able = {"draw", "describe", "ask"} - ({"draw"} if refused == "draw" else {"describe", "ask"})
    assert set(model.tasks.able) == able
    with pytest.raises(ValueError, match=rf"cannot {refused}: Emu3-(Gen|Chat).*take Emu3-"):
        model.request(refused, **({"text": "a"} if refused == "draw" else {"image": picture(6, 8)}))


@pytest.mark.parametrize("kind", ["janus", "janus-pro"])
def test_janus_draws_in_its_turns(kind, checkpoints, opened):
    model = opened[kind]
    bos = model.vocabulary.marker("<bos>")
    turns = "<|User|>: a fox\n\n<|Assistant|>:" if kind == "janus-pro" else (
        "User: a fox\n\nAssistant:"
    )  # fmt: skip
    ids = prompt_ids(model, "draw", text="a fox")
    assert ids == [bos, *hf_ids(checkpoints, kind, turns)]
    request = model.request("draw", text="a fox")
    side = 24 * model.image_tokenizer.stride
    assert (request.document.segments[-1].height, request.document.segments[-1].width) == (
        side, side,
    )  # fmt: skip
    assert request.sampling.image.guidance.scale == 5
    assert request.sampling.image.temperature == 1


def test_janus_pro_draws_what_its_own_generate_draws(checkpoints, opened):
    """All between begin and picture is blanked out in the other branch, turns included."""
    hf, model = checkpoints["janus-pro"].hf, opened["janus-pro"]
    bos, pad, boi = (model.vocabulary.marker(m) for m in ("<bos>", "<pad>", "<boi>"))
    settings = {"bos_token_id": bos, "pad_token_id": pad, "guidance_scale": 5, "do_sample": False,
                "generation_kwargs": {"boi_token_id": boi}}  # fmt: skip
    for name, value in settings.items():
        setattr(hf.generation_config, name, value)
    ids = torch.tensor([[*prompt_ids(model, "draw", text="two owls"), boi]])
    with torch.no_grad():
        codes = hf.generate(ids, attention_mask=torch.ones_like(ids), generation_mode="image")[0]
    request = model.request("draw", text="two owls", temperature=0)
    (done,) = model.generate(request.document, sampling=request.sampling)
    with torch.no_grad():
        pixels = hf.decode_image_tokens(codes[None])[0]
    theirs = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).numpy()
    ours = done.segments[-1].pixels.astype(float)
    assert np.abs(ours - theirs.reshape(ours.shape)).max() <= 1.01


def test_chameleon_asks_as_its_processor_and_refuses_to_draw_without_a_decoder(checkpoints, opened):
    model = opened["chameleon"]
    pixels = picture(64, 64)
    codes = model.sequencer.code_segment(
        model.request("describe", image=pixels).document.segments[0]
    ).codes
    names = ["IMGIMG" + "".join(chr(65 + int(d)) for d in str(c)) + "Z" for c in codes.reshape(-1)]
    span = f"<racm3:break>{''.join(names)}<eoss>"
    # ChameleonProcessor: the picture, the question, and the separator of a chat.
    text = f"<s>{span}What do you see?<reserved08706>"
    ids = prompt_ids(model, "ask", image=pixels, question="What do you see?")
    assert ids == hf_ids(checkpoints, "chameleon", text)
    with pytest.raises(ValueError, match=r"holds no decoder.*leloy/Anole.*--image-tokenizer"):
        model.draw("a fox")
    with pytest.raises(ValueError, match="holds no decoder"):
        model.generate(Document((Text("a fox", "prompt"), Slot("image", role="response"))))


def test_liquid_has_its_instruction_and_says_which_codec_it_lacks(checkpoints, opened):
    model = opened["liquid"]
    for verb, asked in (("draw", {"text": "a dragon"}), ("describe", {"image": picture(8, 8)})):
        with pytest.raises(ValueError, match=r"cannot (draw|describe)"):
            model.request(verb, **asked)
    task = model._tasks.task("draw")
    assert task.words == "{text} Generate an image based on this description."
    with pytest.raises(ValueError, match=r"comes without its image codec.*leloy/Anole"):
        model.draw("a dragon")


def test_orpheus_speaks_with_its_voices(checkpoints, opened):
    model = opened["orpheus"]
    task = model._tasks.task("speak")
    assert task.voices[0] == task.voice == "tara"
    assert len(task.voices) == 8
    with pytest.raises(ValueError, match=r"comes without its audio codec.*SNAC.*--audio-tokenizer"):
        model.speak("hello", voice="leo")
    sound = model.sampling.audio
    assert (sound.temperature, sound.top_p, sound.repetition_penalty) == (0.6, 0.8, 1.1)
    from unified.tasks.asking import Inputs, ask_document

    document = ask_document(task, Inputs(text="hello", voice="leo"))
    assert document.segments[0] == Text("leo: hello", "prompt", 0.0)
    with pytest.raises(ValueError, match=r"no voice 'bob', expected one of tara"):
        ask_document(task, Inputs(text="hello", voice="bob"))


def test_a_repetition_penalty_is_that_of_transformers():
    columns = 156_940
    rng = np.random.default_rng(0)
    logits = rng.normal(size=columns).astype(np.float32) * 5
    logits[:100] = -np.inf
    seen = rng.integers(0, columns, 900)
    processor = transformers.RepetitionPenaltyLogitsProcessor(1.1)
    expected = processor(torch.from_numpy(seen[None]), torch.from_numpy(logits[None].copy()))[0]
    assert np.array_equal(penalize(logits, seen, 1.1), expected.numpy())


def test_a_repetition_penalty_of_sound_is_of_all_ids_before(checkpoints, opened):
    from unified.engine.engine import Engine
    from unified.engine.request import CodedSlot, Finished, Request
    from unified.formats.coded import CodedText

    hf, model = checkpoints["orpheus"].hf, opened["orpheus"]
    sound = SpanSampling(repetition_penalty=1.5)
    sampling = Sampling(audio=sound, max_audio_frames=6)
    words = CodedText(tuple(model.text_tokenizer.encode("tara: hello")), "prompt")
    request = Request((words, CodedSlot("audio", role="response")), 0)
    engine = Engine(model.decoder(), model.grammar, model.text_tokenizer)
    (done,) = [e for e in engine.run([request], sampling) if isinstance(e, Finished)]
    ids = done.ids.tolist()
    begin = ids.index(model.vocabulary.marker("<sos>")) + 1
    processor = transformers.RepetitionPenaltyLogitsProcessor(1.5)
    with torch.no_grad():
        logits = hf(torch.tensor([ids])).logits[0].float()
    for at in range(begin, begin + 6 * 7):
        block = model.vocabulary.block(f"audio.{(at - begin) % 7}")
        penalized = processor(torch.tensor([ids[:at]]), logits[at - 1 : at].clone())[0]
        if at == begin or (at - begin) % 7:
            best = int(penalized[block.start : block.stop].argmax()) + block.start
            assert ids[at] == best
    # Ids that are guessed ahead are penalized by those that stand before them.
    guessing = replace(sampling, audio=replace(sound, draft_tokens=4))
    (again,) = [e for e in engine.run([request], guessing) if isinstance(e, Finished)]
    assert again.ids.tolist() == ids


def test_apertus_reads_and_its_head_cannot_write_media(checkpoints, opened):
    model, hf = opened["apertus"], checkpoints["apertus"].hf
    pixels = picture(8, 6)
    ids = prompt_ids(model, "describe", image=pixels)
    config = hf.config
    codes = model.sequencer.code_segment(
        model.request("describe", image=pixels).document.segments[0]
    ).codes
    rows = codes[0] + config.image_token_offset
    tokens = checkpoints["apertus"].text.tokens
    line = tokens["<|img_end_of_row|>"]
    laid = [id for row in rows.tolist() for id in (*row, line)][:-1]
    system = (
        "<s><|system_start|>You are Apertus 1.5 Omni, a multimodal assistant developed by the Swiss"
        " AI Initiative. Extended from Apertus 1 via continued pretraining, you understand images"
        " and audio and respond in text.<|system_end|><|developer_start|>Deliberation: disabled\n"
        "Tool Capabilities: disabled<|developer_end|><|user_start|>"
    )
    h, w = codes.shape[1:]
    picture_ids = [
        tokens["<|img_start|>"],
        *[id for digit in f"{h}*{w}" for id in hf_ids(checkpoints, "apertus", digit)],
        tokens["<|img_token_start|>"], *laid, tokens["<|img_end|>"],
    ]  # fmt: skip
    question = hf_ids(checkpoints, "apertus", "Describe this image.<|user_end|><|assistant_start|>")
    assert ids == [*hf_ids(checkpoints, "apertus", system), *picture_ids, *question]
    assert isinstance(model.describe(pixels, max_text_ids=4), str)
    sound = np.random.default_rng(0).normal(size=(1, 90)).astype(np.float32) * 0.1
    assert isinstance(model.listen(sound, 24_000, max_text_ids=4), str)
    for verb, asked in (("draw", {}), ("speak", {}), ("write", {})):
        with pytest.raises(ValueError, match=r"head has \d+ rows.*UnifiedModel.extend"):
            model.request(verb, text="a fox", **asked)


def test_apertus_is_extended_to_write_and_trained(checkpoints, tmp_path):
    model = UnifiedModel.extend(checkpoints["apertus"].folder)
    hf, before = model.hf, checkpoints["apertus"].hf
    rows = len(hf.get_input_embeddings().weight)
    assert len(hf.lm_head.weight) == rows
    old = len(before.lm_head.weight)
    assert torch.equal(hf.lm_head.weight[:old], before.lm_head.weight)
    assert hf.config.text_config.output_vocab_size is None
    assert "write" in model.tasks.able
    # Its picture codec has no decoder; that is what is said now.
    with pytest.raises(ValueError, match="convert"):
        model.draw("a fox")
    model.save_pretrained(tmp_path / "extended")
    again = UnifiedModel.from_pretrained(tmp_path / "extended")
    theirs = transformers.Apertus1p5ForConditionalGeneration.from_pretrained(tmp_path / "extended")
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=ids).logits, again.hf(input_ids=ids).logits)
    with pytest.raises(ValueError, match=r"format is 'emu3', expected apertus"):
        UnifiedModel.extend(checkpoints["apertus"].folder, format="emu3")
    from unified.training.weights import choose_trained

    choose_trained(again.hf, "new_rows", again.vocabulary.text_rows, {})
    parameters = {name: p for name, p in again.hf.named_parameters() if p.requires_grad}
    assert {p.shape[0] for p in parameters.values()} == {rows - old}


@pytest.mark.parametrize("kind", ["emu3", "chameleon", "janus"])
def test_whole_checkpoints_are_trained_and_not_extended(kind, checkpoints):
    with pytest.raises(ValueError, match="has rows for all its ids: it is trained as it is"):
        UnifiedModel.extend(checkpoints[kind].folder)


@pytest.mark.parametrize(
    ("kind", "codec", "match"),
    [
        ("liquid", "chameleon", r"codebooks of \(24,\) codes.*trained on \(8192,\)"),
        ("apertus", "emu3", None),
    ],
)
def test_a_codec_of_other_codebooks_is_refused(kind, codec, match, checkpoints, opened):
    tokenizer = opened[codec].image_tokenizer
    if match is None:  # of the same size: it fits
        assert UnifiedModel.from_pretrained(checkpoints[kind].folder, image_tokenizer=tokenizer)
        return
    with pytest.raises(ValueError, match=match):
        UnifiedModel.from_pretrained(checkpoints[kind].folder, image_tokenizer=tokenizer)


def test_weights_of_another_class_are_one_line(checkpoints, tmp_path):
    import shutil

    folder = tmp_path / "mixed"
    shutil.copytree(checkpoints["emu3"].folder, folder)
    shutil.copy(checkpoints["janus"].folder / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(ValueError) as caught:
        UnifiedModel.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_published_model_joins_by_one_object():
    extra = Pretrained(
        name="toy", source="nowhere", checkpoints=(), model_type="toy", markers={}, codes={},
        sampling=Sampling(),
    )  # fmt: skip
    with pytest.raises(ValueError, match="expected a Pretrained"):
        register_pretrained("toy")
    with pytest.raises(ValueError, match="there is a published model named 'emu3' already"):
        register_pretrained(Pretrained(**{**vars(extra), "name": "emu3"}))
    from unified.models import pretrained

    register_pretrained(extra)
    try:
        assert pretrained_models()["toy"] is extra
    finally:
        del pretrained._registered["toy"]
    assert all(model.source and model.checkpoints for model in pretrained_models().values())


CAN = {
    "emu3": {"draw", "describe", "ask"},
    "chameleon": {"write", "describe", "ask"},
    "janus": {"draw", "describe", "ask"},
    "janus-pro": {"draw", "describe", "ask"},
    "liquid": set(),
    "orpheus": set(),
    "apertus": {"describe", "ask", "listen"},
    "moshi": {"reply"},
    "qwen-omni": {"speak"},
}


@pytest.mark.parametrize("kind", CAN)
def test_every_verb_is_there_or_refused_in_one_line(kind, opened):
    model = opened[kind]
    assert set(model.tasks.able) == CAN[kind]
    for verb in VERBS:
        if verb not in CAN[kind]:
            with pytest.raises(ValueError) as caught:
                model.tasks.task(verb)
            assert "\n" not in str(caught.value)


def test_orpheus_speaks_by_snac(checkpoints):
    from unified_tokenizers.adapters_snac import SnacAdapter
    from unified_tokenizers.snac_model import SnacConfig, SnacModel

    torch.manual_seed(0)
    config = SnacConfig(
        sampling_rate=24_000, encoder_dim=4, encoder_rates=(2, 2), decoder_dim=8,
        decoder_rates=(2, 2), attn_window_size=None, codebook_size=4096, codebook_dim=2,
        vq_strides=(4, 2, 1), depthwise=False, noise=False,
    )  # fmt: skip
    snac = SnacAdapter(SnacModel(config).eval())
    assert snac.codebook_sizes == (4096,) * 7
    model = UnifiedModel.from_pretrained(checkpoints["orpheus"].folder, audio_tokenizer=snac)
    assert model.tasks.able == ("speak",)
    request = model.request("speak", text="hello", voice="zoe", settings={"max_audio_frames": 3})
    assert request.sampling.audio.repetition_penalty == 1.1
    (done,) = model.generate(request.document, sampling=request.sampling)
    assert done.segments[0].text == "zoe: hello"
    assert done.segments[1].waveform.shape == (1, 3 * snac.hop)
