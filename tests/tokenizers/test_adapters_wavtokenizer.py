"""WavTokenizer's original checkpoints: their names, their sizes from shapes, and pickles of them.

Codes and sound were compared with the authors' own code once, at the published sizes with random
weights: at 40 and at 75 codes a second codes are equal, and sound within 4e-8. What transformers'
class gives is in test_adapters_apertus.py.
"""

import json

import pytest
import torch
import transformers
from safetensors.torch import save_file

from unified_tokenizers import load_tokenizer
from unified_tokenizers.adapters_wavtokenizer import WavTokenizerAdapter
from unified_tokenizers.convert import convert_tokenizer

ENCODER = "feature_extractor.encodec.encoder.model."
SIZES = {
    "num_filters": 4, "upsampling_ratios": [5, 4, 2], "hidden_size": 16, "codebook_size": 32,
    "codebook_dim": 16, "num_lstm_layers": 2, "decoder_hidden_size": 32, "compress": 4,
    "decoder_intermediate_size": 24, "decoder_num_layers": 3, "adanorm_num_embeddings": 5,
    "kernel_size": 5, "last_kernel_size": 3, "residual_kernel_size": 5,
}  # fmt: skip


def original_name(name):
    """The original's name of a tensor of transformers' WavTokenizerModel."""
    name = name.replace("parametrizations.weight.original0", "weight_g")
    name = name.replace("parametrizations.weight.original1", "weight_v")
    if name.startswith("encoder_model.encoder.layers."):
        name = name.replace("encoder_model.encoder.layers.", ENCODER)
        return name.replace(".conv.", ".conv.conv.") if ".lstm." not in name else name
    codebook = "feature_extractor.encodec.quantizer.vq.layers.0._codebook."
    name = name.replace("encoder_model.quantizer.codebook.", codebook)
    return name.replace("head.linear.", "head.out.")


@pytest.fixture(scope="module")
def original():
    """Tensors of a small checkpoint by the original's names, and transformers' model of them."""
    config = transformers.WavTokenizerConfig(**SIZES)
    model = transformers.WavTokenizerModel(config).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=rng) * weight[0].numel() ** -0.5)
        sounds = torch.rand(8, 1, 1280, generator=rng) * 2 - 1
        vectors = model.encoder_model.encoder(sounds).mT.flatten(0, 1)
        model.encoder_model.quantizer.codebook.embed.copy_(vectors[:: len(vectors) // 32][:32])
    tensors = {
        original_name(name): value.contiguous() for name, value in model.state_dict().items()
    }
    # What else lies in such a checkpoint: a decoder that is never called, windows, discriminators.
    tensors |= {
        "feature_extractor.encodec.decoder.model.1.lstm.weight_ih_l0": torch.zeros(4, 4),
        "feature_extractor.encodec.decoder.model.0.conv.conv.weight_v": torch.zeros(4, 4, 7),
        "head.istft.window": torch.hann_window(160),
        "multiperioddisc.discriminators.0.convs.0.weight_v": torch.zeros(4, 1, 5, 1),
    }
    return tensors, model


def folder_of(path, tensors, config=None):
    path.mkdir(exist_ok=True)
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"model_type": "wavtokenizer", **(config or {})}))
    return path


def sound(samples: int) -> torch.Tensor:
    return torch.rand(2, 1, samples, generator=torch.Generator().manual_seed(1)) - 0.5


def test_the_names_are_those_of_the_published_checkpoints(original):
    assert {
        f"{ENCODER}0.conv.conv.weight_g", f"{ENCODER}1.block.1.conv.conv.weight_v",
        f"{ENCODER}1.shortcut.conv.conv.bias", f"{ENCODER}10.lstm.weight_hh_l1",
        f"{ENCODER}12.conv.conv.weight_v", "backbone.pos_net.2.proj_out.weight",
        "feature_extractor.encodec.quantizer.vq.layers.0._codebook.embed_avg",
        "backbone.convnext.2.norm.shift.weight", "backbone.norm.scale.weight", "head.out.bias",
    } <= set(original[0])  # fmt: skip


def test_an_original_checkpoint_opens_with_the_sizes_of_its_tensors(original, tmp_path):
    tensors, model = original
    codec = load_tokenizer(folder_of(tmp_path / "original", tensors), "audio")
    assert type(codec) is WavTokenizerAdapter
    assert (codec.hop, codec.sample_rate, codec.codebook_sizes) == (40, 24_000, (32,))
    config = codec.model.config.to_dict()
    assert {name: config[name] for name in SIZES} == {**SIZES, "upsampling_ratios": [5, 4, 2]}
    waveform = sound(13 * 40 + 7)
    with torch.no_grad():
        wanted = model.encode(waveform).audio_codes
        decoded = model.decode(wanted).audio_values[..., : 13 * 40 + 7].clamp(-1, 1)
    codes = codec.encode(waveform)
    assert torch.equal(codes.codes, wanted)
    assert len(wanted.unique()) > 4
    assert torch.equal(codec.decode(codes), decoded)
    codec.save_pretrained(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").fingerprint == codec.fingerprint
    again = transformers.WavTokenizerModel.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(again.encode(waveform).audio_codes, wanted)


def test_a_checkpoint_of_training_is_converted_by_its_type(original, tmp_path):
    torch.save({"state_dict": original[0], "epoch": 3, "callbacks": {}}, tmp_path / "model.ckpt")
    converted = convert_tokenizer(tmp_path / "model.ckpt", tmp_path / "out", "wavtokenizer")
    assert converted.tensors == len(original[0])
    codec = load_tokenizer(tmp_path / "out", "audio")
    wanted = load_tokenizer(folder_of(tmp_path / "original", original[0]))
    assert codec.fingerprint == wanted.fingerprint


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        (f"{ENCODER}12.conv.conv.bias", r"lack 1 tensors of .*layers\.12\.conv\.bias"),
        ("backbone.embed.weight", r"the weights lack backbone\.embed\.weight of WavTokenizer"),
        ("backbone.pos_net.5.bias", r"lack 1 tensors of .*backbone\.pos_net\.5\.bias"),
    ],
)
def test_what_is_missing_is_named(original, tmp_path, missing, reason):
    tensors = {name: value for name, value in original[0].items() if name != missing}
    with pytest.raises(ValueError, match=reason):
        load_tokenizer(folder_of(tmp_path, tensors))


def test_a_config_or_a_head_of_another_hop_is_refused(original, tmp_path):
    with pytest.raises(ValueError, match=r"ratios is \[5, 5, 2\], but of .* beside it \[5, 4, 2\]"):
        load_tokenizer(folder_of(tmp_path, original[0], {"upsampling_ratios": [5, 5, 2]}))
    head = {"head.out.weight": torch.zeros(122, 32), "head.out.bias": torch.zeros(122)}
    with pytest.raises(ValueError, match=r"has 122 rows, expected 162 for the 40 samples a code"):
        load_tokenizer(folder_of(tmp_path, {**original[0], **head}))
