"""Pretrained audio codecs: the codes and the sound of transformers' own classes, exact lengths."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from unified_tokenizers import load_tokenizer
from unified_tokenizers.adapters_audio import DacAdapter, EncodecAdapter
from unified_tokenizers.base import MediaTokenizer
from unified_tokenizers.checks import check_codes
from unified_tokenizers.streaming import DecodeStream, EncodeStream


def encodec(**settings):
    shape = {
        "sampling_rate": 16_000, "upsampling_ratios": [4, 2], "hidden_size": 8, "num_filters": 4,
        "num_lstm_layers": 1, "codebook_size": 16, "target_bandwidths": [8.0, 16.0, 32.0],
    }  # fmt: skip
    return transformers.EncodecModel(transformers.EncodecConfig(**{**shape, **settings}))


def dac(**settings):
    shape = {
        "sampling_rate": 16_000, "downsampling_ratios": [2, 4], "encoder_hidden_size": 4,
        "decoder_hidden_size": 16, "n_codebooks": 4, "codebook_size": 16, "codebook_dim": 4,
    }  # fmt: skip
    return transformers.DacModel(transformers.DacConfig(**{**shape, **settings}))


def mimi():
    return transformers.MimiModel(
        transformers.MimiConfig(
            sampling_rate=16_000, upsampling_ratios=[4, 2], hidden_size=16, num_filters=4,
            codebook_size=16, codebook_dim=8, vector_quantization_hidden_dimension=8,
            num_quantizers=4, num_semantic_quantizers=2, upsample_groups=16, num_hidden_layers=1,
            intermediate_size=32, num_attention_heads=2, num_key_value_heads=2, sliding_window=8,
        )
    )  # fmt: skip


def xcodec():
    semantic = transformers.HubertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=[8, 8], conv_kernel=[7, 4], conv_stride=[5, 4], num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    acoustic = transformers.DacConfig(
        encoder_hidden_size=4, decoder_hidden_size=16, downsampling_ratios=[5, 4]
    )
    return transformers.XcodecModel(
        transformers.XcodecConfig(
            codebook_size=16, target_bandwidths=[3.2, 6.4, 12.8],
            acoustic_model_config=acoustic, semantic_model_config=semantic,
        )
    )  # fmt: skip


MAKERS = {"encodec": encodec, "dac": dac, "mimi": mimi, "xcodec": xcodec}
HOPS = {"encodec": 8, "dac": 8, "mimi": 16, "xcodec": 20}
EVERY = pytest.mark.parametrize("name", list(MAKERS))


def save(model, folder, seed=0):
    """Random weights of a size that keeps signals alive, and random codebooks, which are zeros."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                scale = weight[0].numel() ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=rng) * scale)
            elif len(weight.unique()) > 1:  # drawn too, from what other tests left of the seed
                weight.copy_(torch.rand(weight.shape, generator=rng) * 0.4 - 0.2)
        for key, buffer in model.named_buffers():
            if key.endswith((".embed", ".embed_sum")):
                buffer.copy_(torch.randn(buffer.shape, generator=rng))
    assert sum(weight.numel() for weight in model.parameters()) < 1_000_000
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("codecs")
    return {name: save(make(), root / name) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def loaded(folders):
    return {name: load_tokenizer(folder) for name, folder in folders.items()}


@pytest.fixture(scope="module")
def originals(folders):
    classes = (getattr(transformers, f"{name.capitalize()}Model") for name in folders)
    return {
        name: original.from_pretrained(folder).eval()
        for original, (name, folder) in zip(classes, folders.items(), strict=True)
    }


def sound(batch: int, samples: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, samples, generator=rng) * 2 - 1


@EVERY
def test_load_tokenizer_picks_the_adapter_and_its_figures_follow_from_the_config(loaded, name):
    codec = loaded[name]
    assert type(codec).__name__ == f"{name.capitalize()}Adapter"
    assert isinstance(codec, MediaTokenizer)
    assert codec.modality == "audio"
    assert (codec.sample_rate, codec.hop, codec.channels) == (16_000, HOPS[name], 1)
    assert codec.frame_rate == 16_000 / HOPS[name]
    assert codec.codebook_sizes == (16,) * 4
    assert codec.bits_per_second == codec.frame_rate * 16
    assert not codec.train().model.training
    assert {weight.dtype for weight in codec.parameters()} == {torch.float32}


@EVERY
@torch.no_grad()
def test_whole_frames_give_the_codes_and_the_sound_of_the_original(loaded, originals, name):
    codec, original = loaded[name], originals[name]
    media = sound(2, 12 * codec.hop)
    most = {"encodec": {"bandwidth": 32.0}}.get(name, {})
    wanted = original.encode(media, **most).audio_codes
    arguments = (wanted, [None]) if name == "encodec" else (wanted,)
    if name == "dac":
        decoded = original.decode(audio_codes=wanted).audio_values[:, None]
    else:
        decoded = original.decode(*arguments).audio_values
    codes = codec.encode(media)
    assert torch.equal(codes.codes, wanted[0] if name == "encodec" else wanted)
    assert all(len(codes.codes[:, level].unique()) > 1 for level in range(4))
    assert len(codes.codes.unique()) > 5
    check_codes(codes.codes, codec.codebook_sizes, 1, "its own")
    assert decoded.shape == media.shape
    assert decoded.std() > 1e-3
    assert torch.equal(codec.decode(codes), decoded.clamp(-1, 1))


def check_streams(codec, media, samples: int, frames: int) -> tuple[int, int]:
    """That streams of so many samples and frames a chunk give what the whole gives; gives how many
    code frames and samples came before the end."""
    whole = codec.encode(media)
    encoding, decoding = EncodeStream(codec), DecodeStream(codec)
    parts = [encoding.push(part) for part in media.split(samples, 2)]
    codes = torch.cat([*parts, encoding.finish()], 2)
    assert torch.equal(codes, whole.codes)
    pieces = [decoding.push(part) for part in codes.split(frames, 2)]
    decoded = torch.cat([*pieces, decoding.finish(media.shape[2])], 2)
    torch.testing.assert_close(decoded, codec.decode(whole), atol=1e-4, rtol=0)
    return sum(part.shape[2] for part in parts), sum(piece.shape[2] for piece in pieces)


@EVERY
@pytest.mark.parametrize(("samples", "frames"), [(37, 3), (100, 13), (1000, 90)])
def test_streams_of_any_chunks_give_what_the_whole_gives(loaded, name, samples, frames):
    codec = loaded[name]
    media = sound(2, 75 * codec.hop + 3)
    early = check_streams(codec, media, samples, frames)
    if name == "dac":  # what is certain comes at once
        after = codec.encode_context[1]
        assert early == ((603 - after) // 8, (76 - codec.decode_context[1]) * 8)
        assert min(early) > 0
    else:
        assert codec.encode_context is None
        assert codec.decode_context is None
        assert early == (0, 0)


@pytest.mark.parametrize("ratios", [[2, 4], [2, 3], [3, 5, 2]])
def test_dacs_contexts_are_as_far_as_its_convolutions_reach(tmp_path, ratios):
    save(dac(downsampling_ratios=ratios), tmp_path)
    codec = load_tokenizer(tmp_path)
    hop, frame = codec.hop, 45
    waveform = sound(1, 90 * hop).requires_grad_()
    codec.model.encoder(waveform)[:, :, frame].sum().backward()
    felt = waveform.grad[0, 0].nonzero().flatten().tolist()
    before, after = codec.encode_context
    assert (felt[0], felt[-1]) == (frame * hop - before, (frame + 1) * hop - 1 + after)

    hidden = torch.rand(1, codec.model.config.hidden_size, 90, requires_grad=True)
    decoded = codec.model.decoder(hidden)[:, :, frame * hop : (frame + 1) * hop]
    decoded.sum().backward()
    felt = hidden.grad.abs().sum((0, 1)).nonzero().flatten().tolist()
    before, after = codec.decode_context
    assert (felt[0], felt[-1]) == (frame - before, frame + after)

    assert min(check_streams(codec, sound(1, 80 * hop - 1), 3 * hop + 1, 7)) > 0


def test_weights_stored_in_bfloat16_load_as_float32(tmp_path):
    save(dac().bfloat16(), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    codec = load_tokenizer(tmp_path)
    assert {weight.dtype for weight in codec.parameters()} == {torch.float32}
    assert torch.isfinite(codec.decode(codec.encode(sound(1, 50)))).all()


@EVERY
def test_fewer_codebooks_are_the_first_ones_and_are_stored(folders, loaded, name, tmp_path):
    media = sound(1, 10 * HOPS[name])
    every = loaded[name].encode(media).codes
    codec = load_tokenizer(folders[name], num_codebooks=3)  # no bandwidth of EnCodec gives just 3
    codec.save_pretrained(tmp_path)
    for few in (codec, load_tokenizer(tmp_path)):
        codes = few.encode(media)
        assert few.codebook_sizes == (16,) * 3
        assert torch.equal(codes.codes, every[:, :3])
        assert few.decode(codes).shape == media.shape
    least = 2 if name == "mimi" else 1  # Mimi's two semantic codebooks stand or fall together
    for wrong in (least - 1, 5):
        with pytest.raises(ValueError, match=f"is {wrong}, expected {least} to 4 for this"):
            load_tokenizer(folders[name], num_codebooks=wrong)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"normalize": True}, "has normalize=True and chunk_length_s=None, expected"),
        ({"chunk_length_s": 1.0, "overlap": 0.01}, "normalize=False and chunk_length_s=1.0"),
    ],
)
def test_encodec_with_scales_or_chunks_is_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        EncodecAdapter(encodec(**settings))


def test_a_stereo_encodec_keeps_both_channels(tmp_path):
    save(encodec(audio_channels=2), tmp_path)
    codec = load_tokenizer(tmp_path)
    media = sound(4, 43).reshape(2, 2, 43)
    assert codec.decode(codec.encode(media)).shape == (2, 2, 43)
    assert DecodeStream(codec).push(codec.encode(media).codes).shape == (2, 2, 0)
    check_streams(codec, media, 10, 2)
    with pytest.raises(ValueError, match=r"expected \(B, 2, S\)"):
        EncodeStream(codec).push(media[:, :1])
    with pytest.raises(ValueError, match=r"expected \(B, 2, S\)"):
        codec.encode(media[:, :1])


def test_dac_with_an_odd_stride_is_completed_with_silence(tmp_path):
    save(dac(downsampling_ratios=[2, 3]), tmp_path)
    codec = load_tokenizer(tmp_path)
    codes = codec.encode(sound(1, 60))
    short = codec.model.decode(audio_codes=codes.codes).audio_values.detach()
    decoded = codec.decode(codes)[:, 0]
    assert codes.codes.shape == (1, 4, 10)
    assert short.shape == (1, 58)
    assert torch.equal(decoded[:, :58], short)
    assert (decoded[:, 58:] == 0).all()


def test_mimis_codebooks_follow_the_model_to_another_type(folders):
    codec = load_tokenizer(folders["mimi"])
    codes = codec.encode(sound(1, 96))
    decoded = codec.double().model.decode(codes.codes).audio_values
    assert decoded.dtype == torch.float64
    torch.testing.assert_close(decoded.float().clamp(-1, 1), codec.float().decode(codes))


def test_what_is_not_a_codec_is_refused_with_the_reason(folders, tmp_path):
    with pytest.raises(ValueError, match=r"no readable config\.json of a tokenizer"):
        load_tokenizer(tmp_path)
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "bert"}')
    with pytest.raises(
        ValueError, match="model_type 'bert', expected one of encodec, musicgen, dac"
    ):
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="names model_type 'encodec', expected 'dac'"):
        DacAdapter.from_pretrained(folders["encodec"])
    with pytest.raises(ValueError, match="got a MimiModel, expected a DacModel"):
        DacAdapter(mimi())


def test_torn_missing_or_foreign_weights_are_refused(folders, tmp_path):
    config = json.loads((folders["dac"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cannot load the DacModel"):
        load_tokenizer(tmp_path)
    whole = load_file(folders["dac"] / "model.safetensors")
    weights = tmp_path / "model.safetensors"
    metadata = {"format": "pt"}
    save_file({k: v for k, v in whole.items() if "decoder.conv2" not in k}, weights, metadata)
    with pytest.raises(ValueError, match=r"lack 2 tensors of DacModel, such as decoder\.conv2"):
        load_tokenizer(tmp_path)
    save_file(whole, weights, metadata)
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(ValueError, match="cannot load the DacModel"):
        load_tokenizer(tmp_path)
    save_file(whole, weights, metadata)
    (tmp_path / "config.json").write_text(json.dumps({**config, "codebook_size": 32}))
    with pytest.raises(ValueError, match="cannot load the DacModel"):
        load_tokenizer(tmp_path)
