"""Codecs with a second encoder of what is said: codes and sound of transformers' own classes.

X-Codec, the first of them, is in test_adapters_audio.py.
"""

import json

import pytest
import torch
import torchaudio
import transformers

from unified_base.meta_device import on_meta_device
from unified_tokenizers import load_tokenizer
from unified_tokenizers.adapters_semantic import HiggsAudioAdapter, NeuCodecAdapter, Xcodec2Adapter
from unified_tokenizers.base import AudioTokenizer, Codes
from unified_tokenizers.streaming import DecodeStream, EncodeStream


def higgs():
    # HuBERT's published convolutions: of shorter windows there would be a frame more.
    semantic = transformers.HubertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=[8] * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    acoustic = transformers.DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=64, hidden_size=12,
        downsampling_ratios=[8, 5, 4, 2, 3], upsampling_ratios=[8, 5, 4, 2, 3],
    )  # fmt: skip
    return transformers.HiggsAudioV2TokenizerModel(
        transformers.HiggsAudioV2TokenizerConfig(
            codebook_size=16, codebook_dim=8, target_bandwidths=[0.1, 0.2, 0.4],
            acoustic_model_config=acoustic, semantic_model_config=semantic,
        )
    )  # fmt: skip


SPEECH = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16, "encoder_hidden_size": 2, "quantization_dim": 64,
    "quantization_levels": [4, 3, 4],
}  # fmt: skip


def speech(name, **settings):
    """X-Codec 2 or NeuCodec: 320 samples a frame at 16 kHz, as their semantic encoder asks for."""
    semantic = transformers.Wav2Vec2BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        feature_projection_input_dim=160, conv_depthwise_kernel_size=3,
    )  # fmt: skip
    config = getattr(transformers, f"{name}Config")
    model = getattr(transformers, f"{name}Model")
    return model(config(**{**SPEECH, "semantic_model_config": semantic, **settings}))


MAKERS = {
    "higgs": higgs, "xcodec2": lambda: speech("Xcodec2"), "neucodec": lambda: speech("NeuCodec")
}  # fmt: skip
# Class, sample rate and hop.
FACTS = {
    "higgs": (HiggsAudioAdapter, 24_000, 960, (16,) * 4),
    "xcodec2": (Xcodec2Adapter, 16_000, 320, (48,)),
    "neucodec": (NeuCodecAdapter, 24_000, 480, (48,)),
}
EVERY = pytest.mark.parametrize("name", list(MAKERS))
ONE_CODEBOOK = pytest.mark.parametrize("name", ["xcodec2", "neucodec"])


# Quantization rounds after a tanh: without more of it all codes are the middle one. DAC's decoder
# has no tanh at its end here: random, it passes full scale a thousand times.
SCALES = {"quantizer.project_in.weight": 3, "acoustic_decoder.conv2.weight": 1e-3}


def save(name, folder):
    """Random weights of a size that keeps signals alive, and random codebooks, which are zeros."""
    model, rng = MAKERS[name]().eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim > 1:
                scale = SCALES.get(key, 1) * weight[0].numel() ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=rng) * scale)
        for key, buffer in model.named_buffers():
            if key.endswith(".embed"):
                buffer.copy_(torch.randn(buffer.shape, generator=rng))
    assert sum(weight.numel() for weight in model.parameters()) < 1_000_000
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("semantic")
    return {name: save(name, root / name) for name in MAKERS}


@pytest.fixture(scope="module")
def loaded(folders):
    return {name: load_tokenizer(folder, "audio") for name, folder in folders.items()}


def sound(batch: int, samples: int, seed: int = 0) -> torch.Tensor:
    """Noise that swells and fades: normalised over a recording, even noise is like silence."""
    rng = torch.Generator().manual_seed(seed)
    waves = torch.linspace(0.05, 1, samples) * torch.sin(torch.arange(samples) / 300).abs()
    return (torch.rand(batch, 1, samples, generator=rng) * 2 - 1) * waves


@torch.no_grad()
def originals(name, folder, media):
    """Codes and sound of transformers' own feature extractor and model, both its own way."""
    kinds = {"higgs": "HiggsAudioV2Tokenizer", "xcodec2": "Xcodec2", "neucodec": "NeuCodec"}
    model = getattr(transformers, f"{kinds[name]}Model").from_pretrained(folder).eval()
    if name == "higgs":
        codes = model.encode(media).audio_codes
    else:
        extractor = getattr(transformers, f"{kinds[name]}FeatureExtractor")()
        if name == "neucodec":
            media = torchaudio.functional.resample(media, 24_000, 16_000)
        inputs = extractor(list(media[:, 0]), sampling_rate=16_000, return_tensors="pt")
        codes = model.encode(**inputs).audio_codes
    return codes, lambda codes: model.decode(codes).audio_values


@EVERY
def test_load_tokenizer_picks_the_adapter_and_its_figures_follow_from_the_config(loaded, name):
    codec = loaded[name]
    kind, rate, hop, codebooks = FACTS[name]
    assert type(codec) is kind
    assert isinstance(codec, AudioTokenizer)
    assert (codec.sample_rate, codec.hop, codec.channels) == (rate, hop, 1)
    assert codec.codebook_sizes == codebooks
    assert codec.encode_context is codec.decode_context is None


def test_published_sizes():
    """25 frames a second of eight codes; 50 of one in 65,536."""
    ratios = [8, 5, 4, 2, 3]
    config = transformers.HiggsAudioV2TokenizerConfig(
        target_bandwidths=[0.5, 1, 1.5, 2],
        acoustic_model_config={
            "model_type": "dac", "downsampling_ratios": ratios, "upsampling_ratios": ratios
        },
    )  # fmt: skip
    with on_meta_device():
        codec = HiggsAudioAdapter(transformers.HiggsAudioV2TokenizerModel(config))
    assert (codec.frame_rate, codec.codebook_sizes) == (25, (1024,) * 8)
    for kind, adapter in (("Xcodec2", Xcodec2Adapter), ("NeuCodec", NeuCodecAdapter)):
        config = getattr(transformers, f"{kind}Config")()
        with on_meta_device():
            codec = adapter(getattr(transformers, f"{kind}Model")(config))
        assert (codec.frame_rate, codec.codebook_sizes) == (50, (65_536,))


@EVERY
@pytest.mark.parametrize("frames", [1, 2, 13])
def test_whole_frames_give_the_codes_and_the_sound_of_the_original(loaded, folders, name, frames):
    codec = loaded[name]
    media = sound(2, frames * codec.hop)
    wanted, decode = originals(name, folders[name], media)
    codes = codec.encode(media)
    # X-Codec 2's extractor adds a sample, and so a frame after the last whole one.
    assert wanted.shape[2] == frames + (name == "xcodec2")
    assert torch.equal(codes.codes, wanted[:, :, :frames])
    if frames == 13:
        assert all(len(level.unique()) > 3 for level in codes.codes.unbind(1))
    with torch.no_grad():
        decoded = decode(codes.codes)
    assert decoded.shape == media.shape
    assert decoded.std() > 1e-3
    torch.testing.assert_close(codec.decode(codes), decoded.clamp(-1, 1), atol=1e-6, rtol=0)


def test_xcodec2_completes_the_last_frame_as_its_feature_extractor_does(loaded, folders):
    codec = loaded["xcodec2"]
    media = sound(2, 5 * 320 + 77)
    wanted, decode = originals("xcodec2", folders["xcodec2"], media)
    codes = codec.encode(media)
    assert codes.codes.shape == (2, 1, 6)
    assert torch.equal(codes.codes, wanted)
    with torch.no_grad():
        decoded = decode(wanted)[..., :1677].clamp(-1, 1)
    torch.testing.assert_close(codec.decode(codes), decoded, atol=1e-6, rtol=0)


def test_neucodec_keeps_the_last_frame_that_the_original_drops(loaded, folders):
    codec = loaded["neucodec"]
    media = sound(1, 5 * 480 + 77)
    dropped, _ = originals("neucodec", folders["neucodec"], media)
    codes = codec.encode(media)
    assert (dropped.shape[2], codes.codes.shape[2]) == (5, 6)
    assert codec.decode(codes).shape == media.shape


@EVERY
def test_streams_give_what_the_whole_gives_at_the_end(loaded, name):
    codec = loaded[name]
    media = sound(2, 7 * codec.hop + 3)
    whole = codec.encode(media)
    encoding, decoding = EncodeStream(codec), DecodeStream(codec)
    assert all(encoding.push(chunk).shape[2] == 0 for chunk in media.split(700, 2))
    codes = encoding.finish()
    assert torch.equal(codes, whole.codes)
    assert all(decoding.push(chunk).shape[2] == 0 for chunk in codes.split(3, 2))
    assert torch.equal(decoding.finish(media.shape[2]), codec.decode(whole))


def test_fewer_codebooks_of_higgs_are_the_first_ones(folders, loaded):
    media = sound(1, 5 * 960)
    few = load_tokenizer(folders["higgs"], num_codebooks=3)
    assert torch.equal(few.encode(media).codes, loaded["higgs"].encode(media).codes[:, :3])
    assert few.decode(few.encode(media)).shape == media.shape


@ONE_CODEBOOK
def test_the_vectors_of_codes_are_what_the_decoder_gets(loaded, name):
    codec = loaded[name]
    (vectors,) = codec.code_vectors()
    assert vectors.shape == (48, 64)
    codes = codec.encode(sound(1, 9 * codec.hop)).codes
    with torch.no_grad():
        latents = codec.model.quantizer.from_codes(codes.mT)[0]
    difference = latents - latents[:1]
    rows = vectors[codes[0, 0]]
    torch.testing.assert_close(rows - rows[:1], difference, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "entry", "value"),
    [("xcodec2", "hop_length", 640), ("neucodec", "sampling_rate", 24_000)],
)
def test_the_feature_extractor_of_another_model_is_refused(folders, tmp_path, name, entry, value):
    for path in folders[name].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    kind = {"xcodec2": "Xcodec2", "neucodec": "NeuCodec"}[name]
    extractor = getattr(transformers, f"{kind}FeatureExtractor")()
    extractor.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).hop == FACTS[name][2]  # the published file is taken
    stated = tmp_path / "preprocessor_config.json"
    stated.write_text(json.dumps({**json.loads(stated.read_text()), entry: value}))
    with pytest.raises(ValueError, match=rf"preprocessor_config\.json: {entry} is {value}, but"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [({"downsampling_ratios": [2, 2, 2, 4, 5]}, "have the product 160, expected 320"),
     ({"sampling_rate": 0}, "sample_rate is 0 by config"),
     ({"quantization_levels": [4, -3, -4]}, r"levels are \[4, -3, -4\], expected 2 or more each")],
)  # fmt: skip
def test_a_config_that_cannot_be_is_refused(entries, reason):
    with pytest.raises(ValueError, match=reason):
        Xcodec2Adapter(speech("Xcodec2", **entries))


def test_encoders_of_different_frames_are_refused():
    model = higgs()
    model.config.semantic_model_config.conv_kernel = [5, 2, 2, 2, 2, 2, 2]
    shorter = transformers.HiggsAudioV2TokenizerModel(model.config)
    with pytest.raises(ValueError, match="gives 3 code frames for 1,920 samples, expected 2"):
        HiggsAudioAdapter(shorter).encode(sound(1, 1920))


def test_codes_out_of_range_are_refused(loaded):
    codes = torch.full((1, 1, 2), 48)
    with pytest.raises(ValueError, match="code 48 at level 0 is out of range"):
        loaded["xcodec2"].decode(Codes(codes, (640,)))
