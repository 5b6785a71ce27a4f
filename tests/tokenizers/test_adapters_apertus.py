"""Apertus 1.5's tokenizers: Emu3.5's IBQ with and without a decoder, and WavTokenizer.

IBQ was compared with the code of Emu3.5 once, random weights by its names: codes are equal, and
pictures within 3e-6.
"""

import re

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from unified_tokenizers import load_tokenizer
from unified_tokenizers.adapters_apertus import IbqAdapter, attach_decoder
from unified_tokenizers.adapters_wavtokenizer import WavTokenizerAdapter
from unified_tokenizers.base import AudioTokenizer, Codes, ImageTokenizer

IBQ = {
    "codebook_size": 48, "embed_dim": 4, "latent_channels": 6, "base_channels": 32,
    "channel_multiplier": [1, 1, 2], "num_res_blocks": 2, "attn_resolutions": [4],
    "resolution": 16,
}  # fmt: skip
WAV = {
    "num_filters": 4, "upsampling_ratios": [5, 4], "hidden_size": 16, "codebook_size": 32,
    "codebook_dim": 16, "num_lstm_layers": 1, "decoder_hidden_size": 32,
    "decoder_intermediate_size": 24, "decoder_num_layers": 2,
}  # fmt: skip


def randomize(model, seed=0):
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=rng) * weight[0].numel() ** -0.5)
    return model.eval()


def spread_codebook(encoder_model):
    """Codes at what sounds give before quantization: at random ones all sounds look alike."""
    sounds = torch.rand(8, 1, 640, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.no_grad():
        vectors = encoder_model.encoder(sounds).mT.flatten(0, 1)
        codebook = encoder_model.quantizer.codebook
        codebook.embed.copy_(vectors[:: len(vectors) // 32][:32])


def ibq(decoder: bool = False):
    config = transformers.Apertus1p5VisionTokenizerConfig(**IBQ)
    model = transformers.Apertus1p5VisionTokenizerModel(config)
    if decoder:
        attach_decoder(model)
    return randomize(model)


def wavtokenizer():
    model = randomize(transformers.WavTokenizerModel(transformers.WavTokenizerConfig(**WAV)), 1)
    spread_codebook(model.encoder_model)
    return model


MAKERS = {"ibq": lambda: ibq(decoder=True), "wavtokenizer": wavtokenizer}


def save(name, folder):
    MAKERS[name]().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a whole Apertus 1.5 of random weights, and the model."""
    text = {
        "vocab_size": 200, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "output_vocab_size": 100,
    }  # fmt: skip
    config = transformers.Apertus1p5Config(
        text_config=text, vision_config=IBQ,
        audio_config={"model_type": "wavtokenizer_encoder", **WAV},
        image_token_offset=110, audio_token_offset=158, image_token_id=101, audio_token_id=102,
    )  # fmt: skip
    model = randomize(transformers.Apertus1p5ForConditionalGeneration(config), 2)
    spread_codebook(model.model.audio_tokenizer)
    folder = tmp_path_factory.mktemp("apertus")
    model.save_pretrained(folder)
    return folder, model


def pixels(height, width):
    return torch.from_numpy(
        np.random.default_rng(4).integers(0, 256, (2, 3, height, width)).astype(np.uint8)
    )


def test_both_tokenizers_of_a_whole_checkpoint_give_its_ids(whole):
    folder, model = whole
    image = load_tokenizer(folder, "image")
    assert isinstance(image, IbqAdapter)
    assert isinstance(image, ImageTokenizer)
    assert (image.stride, image.codebook_sizes) == (4, (48,))
    media, sizes = pixels(12, 20), torch.tensor([[12, 20]] * 2)
    with torch.no_grad():
        ids = model.model.get_image_tokens((media.float() / 255 - 0.5) / 0.5, sizes)
    assert torch.equal(image.encode(media).codes.flatten(1), torch.stack(ids) - 110)

    audio = load_tokenizer(folder, "audio")
    assert isinstance(audio, WavTokenizerAdapter)
    assert isinstance(audio, AudioTokenizer)
    assert (audio.sample_rate, audio.hop, audio.channels) == (24_000, 20, 1)
    waveform = torch.rand(2, 1, 173, generator=torch.Generator().manual_seed(3)) - 0.5
    with torch.no_grad():
        ids = model.model.get_audio_tokens(waveform, torch.ones(2, 173, dtype=torch.int64))
    codes = audio.encode(waveform).codes
    assert torch.equal(codes[:, 0], torch.stack(ids) - 158)
    assert len(codes.unique()) > 2


def test_of_a_whole_checkpoint_one_says_which(whole):
    with pytest.raises(ValueError, match=r"several tokenizers: say which, .*\(name, 'image'\)"):
        load_tokenizer(whole[0])


def test_what_can_only_encode_says_what_is_missing(whole):
    image, audio = (load_tokenizer(whole[0], kind) for kind in ("image", "audio"))
    with pytest.raises(
        ValueError, match=r"no decoder\.\* tensors: it can only encode; convert Emu3"
    ):
        image.decode(image.encode(pixels(8, 8)))
    with pytest.raises(ValueError, match="encoder alone: it can only encode; name the whole codec"):
        audio.decode(Codes(torch.zeros(1, 1, 2, dtype=torch.int64), (40,)))


def test_the_original_checkpoint_s_names_open_and_decode(tmp_path):
    """Emu3.5's own names are those of taming-transformers."""
    model = ibq(decoder=True)
    model.save_pretrained(tmp_path / "current")
    wanted = load_tokenizer(tmp_path / "current", "image")
    original = {}
    for name, tensor in load_file(tmp_path / "current" / "model.safetensors").items():
        name = re.sub(r"\.layers\.(\d+)\.resnet", r".block.\1", name)
        name = re.sub(r"\.layers\.(\d+)\.attention", r".attn.\1", name)
        original[re.sub(r"^encoder\.stages\.(\d+)\.", r"encoder.down.\1.", name)] = tensor
    for name in ("down.0.block.1.norm1.weight", "down.2.attn.0.q.weight", "mid.attn_1.q.weight",
                 "down.1.downsample.conv.bias"):  # fmt: skip
        assert f"encoder.{name}" in original
    assert {"decoder.up.0.block.2.conv1.weight", "quantize.embedding.weight"} <= set(original)
    model.config.save_pretrained(tmp_path / "original")
    save_file(original, tmp_path / "original" / "model.safetensors")
    codec = load_tokenizer(tmp_path / "original", "image")
    assert codec.fingerprint == wanted.fingerprint
    codes = codec.encode(pixels(10, 13))
    assert codes.codes.shape == (2, 1, 3, 4)
    assert len(codes.codes.unique()) > 4
    decoded = codec.decode(codes)
    assert decoded.shape == (2, 3, 10, 13)
    assert torch.equal(decoded, wanted.decode(codes))


def test_the_whole_wavtokenizer_is_transformers_own(tmp_path):
    codec = load_tokenizer(save("wavtokenizer", tmp_path), "audio")
    model = transformers.WavTokenizerModel.from_pretrained(tmp_path).eval()
    waveform = torch.rand(2, 1, 207, generator=torch.Generator().manual_seed(3)) - 0.5
    with torch.no_grad():
        theirs = model.encode(waveform)
        sound = model.decode(theirs.audio_codes).audio_values
    codes = codec.encode(waveform)
    assert torch.equal(codes.codes, theirs.audio_codes)
    torch.testing.assert_close(
        codec.decode(codes), sound[..., :207].clamp(-1, 1), atol=1e-6, rtol=0
    )
    (vectors,) = codec.code_vectors()
    embed = model.encoder_model.quantizer.codebook.embed
    torch.testing.assert_close(vectors, embed - embed.mean(0))


def test_the_vectors_of_ibq_are_its_codebook(tmp_path):
    codec = load_tokenizer(save("ibq", tmp_path), "image")
    weight = codec.model.quantize.embedding.weight
    (vectors,) = codec.code_vectors()
    torch.testing.assert_close(vectors, weight.detach() - weight.detach().mean(0))
