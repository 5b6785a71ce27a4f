"""Our tokenizers computed with numpy: what the torch modules compute, without torch."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from unified_base.blas import one_blas_thread
from unified_tokenizers import numpy_tokenizer, tokenizer_configs
from unified_tokenizers.arrays import (
    ArrayTokenizer,
    decode_arrays,
    decode_by_tensors,
    encode_arrays,
    encode_by_tensors,
)
from unified_tokenizers.base import AudioTokenizer, Codes, ImageTokenizer
from unified_tokenizers.image import ImageTokenizerConfig, VQImageTokenizer
from unified_tokenizers.loading import load_tokenizer
from unified_tokenizers.loading_arrays import load_array_tokenizer
from unified_tokenizers.numpy_audio import NumpyAudioTokenizer
from unified_tokenizers.numpy_image import NumpyImageTokenizer
from unified_tokenizers.numpy_layers import gelu
from unified_tokenizers.quantizer_config import QuantizerConfig
from unified_tokenizers.saved import save_exactly
from unified_tokenizers.streaming import ArrayDecodeStream

QUANTIZERS = {
    "fsq": {"kind": "fsq", "levels": (5, 4, 3)},
    "grouped fsq": {"kind": "fsq", "levels": (4, 3), "groups": 2},
    "residual fsq": {"kind": "fsq", "levels": (5, 2, 3), "depth": 3},
    "lfq": {"kind": "lfq", "codes": 32},
    "grouped bsq": {"kind": "bsq", "codes": 16, "groups": 2},
    "vq": {"kind": "vq", "codes": 24, "dim": 3},
    "cosine": {"kind": "cosine-vq", "codes": 24, "dim": 3},
    "residual cosine": {"kind": "cosine-vq", "codes": 24, "dim": 3, "depth": 2},
    "grouped cosine": {"kind": "cosine-vq", "codes": 24, "dim": 3, "groups": 3},
    "grouped residual vq": {"kind": "vq", "codes": 24, "dim": 3, "depth": 2, "groups": 2},
    "simvq": {"kind": "simvq", "codes": 24, "dim": 3},
    "residual simvq": {"kind": "simvq", "codes": 24, "dim": 3, "depth": 2},
}
ENCODES = {"fsq", "grouped fsq", "lfq", "grouped bsq"}


def image_tokenizer(**settings) -> VQImageTokenizer:
    torch.manual_seed(3)
    shape = {
        "stride": 8, "encoder_width": 12, "encoder_depths": (1,), "decoder_width": 16,
        "decoder_depths": (1, 2, 1), "quantizer": QuantizerConfig(**QUANTIZERS["fsq"]),
    }  # fmt: skip
    return livelier(VQImageTokenizer(ImageTokenizerConfig(**{**shape, **settings})).eval())


def livelier(tokenizer):
    """Weights that reach the neighbours and every code; biases that are not zero."""
    with torch.no_grad():
        for name, parameter in tokenizer.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "spatial" in name or "mlp" in name or "to_quantizer" in name:
                parameter.mul_(3)
        for name, buffer in tokenizer.named_buffers():
            if name.endswith("initted"):  # or the first vectors would make a codebook
                buffer.fill_(True)
    return tokenizer


def loaded(tokenizer, folder):
    save_exactly(tokenizer, folder)
    return load_array_tokenizer(folder)


def codes_for(tokenizer, batch, *grid) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.stack([rng.integers(0, n, (batch, *grid)) for n in tokenizer.codebook_sizes], 1)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_pictures_are_those_of_the_module_for_every_quantizer(name, tmp_path):
    module = image_tokenizer(quantizer=QuantizerConfig(**QUANTIZERS[name]))
    tokenizer = loaded(module, tmp_path)
    assert type(tokenizer) is NumpyImageTokenizer
    assert tokenizer.fingerprint == module.fingerprint
    codes = codes_for(tokenizer, 2, 3, 5)
    pixels = decode_arrays(tokenizer, codes, (24, 37))
    assert (pixels.dtype, pixels.shape) == (np.float32, (2, 3, 24, 37))
    np.testing.assert_allclose(pixels, decode_by_tensors(module, codes, (24, 37)), atol=2e-5)
    assert tokenizer.quantizer.can_encode == (name in ENCODES)
    media = np.random.default_rng(1).integers(0, 256, (2, 3, 21, 40), np.uint8)
    np.testing.assert_array_equal(encode_arrays(tokenizer, media), encode_by_tensors(module, media))


@pytest.mark.parametrize("encoder", ["patch", "conv"])
def test_a_large_picture_is_coded_in_bands_as_the_module_does(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_configs, "_BAND_PIXELS", 2 * 24 * 8)
    depths = (2,) if encoder == "patch" else (1, 1, 1)
    module = image_tokenizer(encoder=encoder, encoder_depths=depths)
    tokenizer = loaded(module, tmp_path)
    assert tokenizer.encode_context == module.encode_context
    assert tokenizer.decode_context == module.decode_context
    codes = codes_for(tokenizer, 1, 11, 3)
    pixels = tokenizer.decode_arrays(codes, (88, 24))
    np.testing.assert_allclose(pixels, decode_by_tensors(module, codes, (88, 24)), atol=2e-5)
    np.testing.assert_array_equal(
        tokenizer.encode_arrays(pixels), encode_by_tensors(module, pixels)
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"depth": 1}, {"depth": 1, "encoder": "conv"},
     {"depth": 1, "causal": True, "decoder_depths": (1, 1, 1)},
     {"depth": 1, "level": -26.0},
     {"depth": 1, "short_window": 96, "decoder_depths": (2, 1, 1)}],
    ids=str,
)  # fmt: skip
def test_sounds_are_those_of_the_module(settings, make_audio_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_configs, "_CHUNK_FRAMES", 9)
    module = livelier(make_audio_tokenizer(**settings))
    tokenizer = loaded(module, tmp_path)
    assert type(tokenizer) is NumpyAudioTokenizer
    assert tokenizer.fingerprint == module.fingerprint
    assert tokenizer.encode_context == module.encode_context
    assert tokenizer.decode_context == module.decode_context
    codes = codes_for(tokenizer, 2, 23)
    waveform = decode_arrays(tokenizer, codes, (23 * 128 - 5,))
    assert (waveform.dtype, waveform.shape) == (np.float32, (2, 1, 23 * 128 - 5))
    expected = decode_by_tensors(module, codes, (23 * 128 - 5,))
    np.testing.assert_allclose(waveform, expected, atol=2e-5)
    assert np.abs(waveform).max() > 0.01
    np.testing.assert_array_equal(
        encode_arrays(tokenizer, expected), encode_by_tensors(module, expected)
    )


def test_the_contract_is_met_by_the_module_behind_it(make_audio_tokenizer, tmp_path):
    tokenizer = loaded(image_tokenizer(), tmp_path / "image")
    sound = loaded(make_audio_tokenizer(), tmp_path / "audio")
    for each, protocol in ((tokenizer, ImageTokenizer), (sound, AudioTokenizer)):
        assert isinstance(each, protocol)
        assert isinstance(each, ArrayTokenizer)
        assert each.cannot_decode is None
    module = load_tokenizer(tmp_path / "image")
    codes = torch.from_numpy(codes_for(tokenizer, 1, 2, 2))
    pixels = tokenizer.decode(Codes(codes, (16, 16)))
    assert torch.equal(pixels, module.decode(Codes(codes, (16, 16))))
    assert torch.equal(tokenizer.encode(pixels).codes, module.encode(pixels).codes)
    assert torch.equal(tokenizer.code_vectors()[0], module.code_vectors()[0])
    assert tokenizer.device == torch.device("cpu")
    assert tokenizer.bits_per_pixel == module.bits_per_pixel
    assert sound.bits_per_second == load_tokenizer(tmp_path / "audio").bits_per_second
    tokenizer.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == tokenizer.fingerprint


def test_weights_of_a_module_that_was_handed_out_count(tmp_path):
    tokenizer = loaded(image_tokenizer(), tmp_path)
    codes = codes_for(tokenizer, 1, 2, 2)
    before, fingerprint = tokenizer.decode_arrays(codes, (16, 16)), tokenizer.fingerprint
    assert tokenizer.to("cpu") is tokenizer.to(torch.device("cpu")) is tokenizer
    np.testing.assert_array_equal(tokenizer.decode_arrays(codes, (16, 16)), before)
    module = tokenizer.module
    np.testing.assert_array_equal(tokenizer.decode_arrays(codes, (16, 16)), before)
    with torch.no_grad():
        module.last_weight.mul_(2)
    after = tokenizer.decode_arrays(codes, (16, 16))
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_allclose(after, decode_by_tensors(module, codes, (16, 16)), atol=2e-5)
    assert tokenizer.fingerprint == tokenizer.module.fingerprint != fingerprint


def test_large_media_are_the_modules(make_audio_tokenizer, tmp_path, monkeypatch):
    for module, grid, size in (
        (image_tokenizer(), (2, 3), (16, 24)),
        (image_tokenizer(encoder="conv", encoder_depths=(1, 1, 1)), (2, 3), (16, 24)),
        (make_audio_tokenizer(depth=1), (6,), (6 * 128,)),
    ):
        tokenizer = loaded(module, tmp_path)
        codes, batch = codes_for(tokenizer, 1, *grid), codes_for(tokenizer, 9, *grid)
        media = decode_by_tensors(module, codes, size)
        monkeypatch.setattr(numpy_tokenizer, "_MOST_WORK", 6 * tokenizer.decode_work)
        tokenizer.decode_arrays(batch, size)
        monkeypatch.setattr(numpy_tokenizer, "_MOST_WORK", 6 * tokenizer.encode_work)
        encoded = tokenizer.encode_arrays(media)
        assert tokenizer._module is None
        monkeypatch.setattr(numpy_tokenizer, "_MOST_WORK", 6 * tokenizer.decode_work - 1)
        np.testing.assert_array_equal(tokenizer.decode_arrays(codes, size), media)
        assert tokenizer._module is not None
        monkeypatch.setattr(numpy_tokenizer, "_MOST_WORK", 6 * tokenizer.encode_work - 1)
        np.testing.assert_array_equal(tokenizer.encode_arrays(media), encoded)


def test_work_is_that_of_all_layers(tmp_path):
    """Multiply-adds of a code: 12 channels, pixels of 8x8, an MLP; 16, then 8, then 4 channels."""
    tokenizer = loaded(image_tokenizer(quantizer=QuantizerConfig(kind="lfq", codes=32)), tmp_path)
    assert tokenizer.encode_work == 193 * 12 + 2 * 12 + (2 * 24 * 12 + 24 + 12)

    def block(width, kernel, expansion):
        mlp = 2 * width + 2 * expansion * width * width + (expansion + 1) * width
        return (kernel * kernel + 1) * width + mlp

    decoder = block(16, 5, 2) + 17 * 32 + 4 * 2 * block(8, 3, 3) + 4 * 9 * 16
    assert tokenizer.decode_work == 6 * 16 + decoder + 16 * (block(4, 3, 3) + 5 * 12)


def test_a_module_on_the_cpu_gives_the_same_bits(make_audio_tokenizer, tmp_path):
    """So a model that was made in this process draws what it draws when it is opened again."""
    for module, grid, size in (
        (image_tokenizer(), (2, 3), (16, 24)),
        (make_audio_tokenizer(depth=1), (6,), (6 * 128,)),
    ):
        tokenizer = loaded(module, tmp_path)
        codes = codes_for(tokenizer, 2, *grid)
        media = tokenizer.decode_arrays(codes, size)
        np.testing.assert_array_equal(decode_arrays(module, codes, size), media)
        expected = tokenizer.encode_arrays(media)
        np.testing.assert_array_equal(encode_arrays(module, media), expected)
        assert tokenizer._module is None
        module.train()
        expected = decode_by_tensors(module, codes, size)
        np.testing.assert_array_equal(decode_arrays(module, codes, size), expected)


def test_another_type_of_numbers_is_the_modules(tmp_path):
    tokenizer = loaded(image_tokenizer(), tmp_path).to(dtype=torch.bfloat16)
    codes = codes_for(tokenizer, 1, 2, 2)
    expected = decode_by_tensors(load_tokenizer(tmp_path).to(dtype=torch.bfloat16), codes, (16, 16))
    np.testing.assert_array_equal(tokenizer.decode_arrays(codes, (16, 16)), expected)


def test_what_needs_torch_is_the_module(tmp_path):
    vit = {"encoder": "vit", "encoder_width": 32, "decoder": "vit", "decoder_width": 32,
           "decoder_depths": (1,)}  # fmt: skip
    tokenizer = loaded(image_tokenizer(**vit), tmp_path)
    assert type(tokenizer) is VQImageTokenizer
    codes = codes_for(tokenizer, 1, 2, 2)
    assert decode_arrays(tokenizer, codes, (16, 16)).shape == (1, 3, 16, 16)


def damage(folder, what):
    weights = folder / "model.safetensors"
    if what == "no weights":
        weights.unlink()
    elif what == "torn":
        weights.write_bytes(weights.read_bytes()[:-40])
    elif what == "of another shape":
        image_tokenizer(decoder_width=24).save_pretrained(folder / "other")
        (folder / "other" / "model.safetensors").replace(weights)
    else:
        path = folder / "config.json"
        path.write_text(path.read_text().replace('"stride": 8', '"stride": "8"'))


@pytest.mark.parametrize("what", ["no weights", "torn", "of another shape", "config"])
def test_a_damaged_folder_is_refused_as_by_the_module(what, tmp_path):
    image_tokenizer().save_pretrained(tmp_path)
    damage(tmp_path, what)
    with pytest.raises(ValueError, match=r"\w") as expected:
        load_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"\w") as refused:
        load_array_tokenizer(tmp_path)
    assert str(refused.value) == str(expected.value)


def test_what_no_encoder_made_is_refused(make_audio_tokenizer, tmp_path):
    tokenizer = loaded(image_tokenizer(), tmp_path / "image")
    sound = loaded(make_audio_tokenizer(depth=1), tmp_path / "audio")
    codes = codes_for(tokenizer, 1, 2, 2)
    for bad, size in ((codes + 60, (16, 16)), (codes, (17, 16)), (codes[:, :0], (16, 16)),
                      (codes.astype(np.int32), (16, 16))):  # fmt: skip
        with pytest.raises(ValueError, match=r"image code|picture of"):
            tokenizer.decode_arrays(bad, size)
    for media in (np.zeros((3, 8, 8)), np.full((1, 3, 8, 8), 1.5), np.full((1, 3, 8, 8), np.nan),
                  np.zeros((1, 3, 8, 8), np.int64)):  # fmt: skip
        with pytest.raises(ValueError, match=r"pictures? ha|pixels range|not finite"):
            tokenizer.encode_arrays(media)
    with pytest.raises(ValueError, match="samples do not have"):
        sound.decode_arrays(codes_for(sound, 1, 3), (128,))
    for media in (np.zeros((1, 2, 9), np.float32), np.full((1, 1, 9), np.inf, np.float32)):
        with pytest.raises(ValueError, match=r"waveform"):
            sound.encode_arrays(media)


def test_a_stream_of_arrays_is_the_whole(make_audio_tokenizer, tmp_path):
    module = make_audio_tokenizer()
    tokenizer = loaded(module, tmp_path)
    codes = codes_for(tokenizer, 1, 30)
    for each in (tokenizer, module):
        stream = ArrayDecodeStream(each)
        parts = [stream.push(codes[:, :, at : at + 7]) for at in range(0, 30, 7)]
        assert parts[0].size == 0 < parts[2].size
        whole = np.concatenate([*parts, stream.finish()], 2)
        np.testing.assert_allclose(whole, decode_arrays(each, codes, (30 * 128,)), atol=2e-6)


def test_gelu_is_torchs():
    x = np.concatenate([np.linspace(-9, 9, 4001), [0.0, -1e-30, 1e30]]).astype(np.float32)
    expected = torch.nn.functional.gelu(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(gelu(x.copy()), expected, rtol=1e-6, atol=2e-6)


def test_products_take_no_threads_of_their_own():
    from unified_base import blas

    functions = blas._functions()
    assert functions is not None, "numpy's wheels bring OpenBLAS along"
    before = functions[0]()
    with one_blas_thread(), one_blas_thread():
        assert functions[0]() == 1
    assert functions[0]() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked on this system")
def test_a_process_that_is_forked_meanwhile_has_its_threads_back():
    from unified_base import blas

    get, set_ = blas._functions()
    before = get()
    set_(2)
    with one_blas_thread():
        child = os.fork()
        if not child:
            os._exit(get())
        _, status = os.waitpid(child, 0)
        assert get() == 1
    set_(before)
    assert os.waitstatus_to_exitcode(status) == 2


def test_nothing_of_torch_is_imported(make_audio_tokenizer, tmp_path):
    save_exactly(image_tokenizer(), tmp_path / "image")
    save_exactly(make_audio_tokenizer(depth=1), tmp_path / "audio")
    program = (
        "import sys, numpy as np\n"
        "from unified_tokenizers.loading_arrays import load_array_tokenizer\n"
        f"image = load_array_tokenizer({str(tmp_path / 'image')!r})\n"
        f"audio = load_array_tokenizer({str(tmp_path / 'audio')!r})\n"
        "pixels = image.decode_arrays(np.zeros((1, 1, 2, 2), np.int64), (16, 16))\n"
        "image.encode_arrays(pixels), image.fingerprint, image.to('cpu')\n"
        "sound = audio.decode_arrays(np.zeros((1, 1, 3), np.int64), (384,))\n"
        "audio.encode_arrays(sound)\n"
        "print({'torch', 'einops', 'vector_quantize_pytorch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
