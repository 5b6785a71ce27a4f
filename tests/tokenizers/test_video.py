"""Video tokenizers: causal, streamed and whole alike, exact sizes, and trained on videos."""

import numpy as np
import pytest
import torch

import unified_tokenizers.video as video_module
from unified_base.videos import save_video
from unified_tokenizers import (
    FrameTokenizer,
    TiledTokenizer,
    VQImageTokenizer,
    VQVideoTokenizer,
    load_tokenizer,
)
from unified_tokenizers.base import Codes, VideoTokenizer
from unified_tokenizers.tokenizer_configs import ImageTokenizerConfig, VideoTokenizerConfig
from unified_tokenizers.training import train
from unified_tokenizers.training_config import TokenizerOptimizer, TokenizerTraining
from unified_tokenizers.video_pieces import VideoDecodeStream, VideoEncodeStream

SMALL = {"encoder_width": 16, "decoder_width": 16, "decoder_depths": (1, 1, 1)}


def causal(**entries) -> VQVideoTokenizer:
    torch.manual_seed(0)
    config = VideoTokenizerConfig(stride=4, **{"encoder_depths": (1,), **SMALL, **entries})
    tokenizer = VQVideoTokenizer(config).eval()
    with torch.no_grad():
        tokenizer.to_quantizer[1].weight.mul_(5)  # codes that differ from place to place
    return tokenizer


def pictures() -> VQImageTokenizer:
    torch.manual_seed(1)
    config = ImageTokenizerConfig(stride=4, encoder_depths=(1,), **SMALL)
    return VQImageTokenizer(config).eval()


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return torch.rand(2, 3, 11, 10, 14, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_sizes_are_exact_and_the_first_frame_stands_alone(group, video):
    tokenizer = causal(group=group)
    codes = tokenizer.encode(video)
    assert codes.codes.shape == (2, 1, 1 + -(-10 // group), 3, 4)
    assert tokenizer.decode(codes).shape == video.shape
    alone = tokenizer.encode(video[:, :, :1])
    assert torch.equal(alone.codes, codes.codes[:, :, :1])
    assert torch.equal(tokenizer.encode(video[1:]).codes, codes.codes[1:])
    whole = 1 + group
    assert torch.equal(tokenizer.encode(video[:, :, :whole]).codes, codes.codes[:, :, :2])


def test_no_pixel_depends_on_a_later_code(video):
    tokenizer = causal(encoder="conv", encoder_depths=(1, 1, 1))
    codes = tokenizer.encode(video)
    decoded = tokenizer.decode(codes)
    part = tokenizer.decode(Codes(codes.codes[:, :, :2], (5, 10, 14)))
    assert torch.allclose(part, decoded[:, :, :5], atol=1e-6)


def test_pieces_and_streams_give_what_the_whole_gives(video, monkeypatch):
    tokenizer = causal()
    codes = tokenizer.encode(video)
    decoded = tokenizer.decode(codes)
    monkeypatch.setattr(video_module, "_PIECE_PIXELS", 100)
    assert torch.equal(tokenizer.encode(video).codes, codes.codes)
    assert torch.allclose(tokenizer.decode(codes), decoded, atol=1e-6)
    stream = VideoEncodeStream(tokenizer)
    cuts = ((0, 1), (1, 2), (2, 7), (7, 11))
    parts = [stream.push(video[:, :, start:stop]) for start, stop in cuts] + [stream.finish()]
    assert [part.shape[2] for part in parts] == [1, 0, 1, 1, 1]
    assert torch.equal(torch.cat(parts, 2), codes.codes)
    back = VideoDecodeStream(tokenizer)
    frames = [back.push(codes.codes[:, :, at : at + 1]) for at in range(codes.codes.shape[2])]
    assert [part.shape[2] for part in frames] == [1, 4, 4, 4]
    assert torch.allclose(torch.cat(frames, 2)[:, :, :11, :10, :14], decoded, atol=1e-6)
    with pytest.raises(ValueError, match="those before are of another size"):
        stream.push(video[:, :, :1, :4])
    with pytest.raises(ValueError, match="no frame came"):
        VideoEncodeStream(tokenizer).finish()


@pytest.mark.parametrize("make", [causal, lambda: FrameTokenizer(pictures(), 3.0)])
def test_the_contract_and_the_folder(make, video, tmp_path):
    tokenizer = make()
    assert isinstance(tokenizer, VideoTokenizer)
    tokenizer.save_pretrained(tmp_path / "t")
    opened = load_tokenizer(tmp_path / "t", "video")
    assert opened.fingerprint == tokenizer.fingerprint
    codes, again = (t.encode(video) for t in (tokenizer, opened))
    assert torch.equal(codes.codes, again.codes)
    assert torch.equal(tokenizer.decode(codes), opened.decode(again))
    assert opened.frame_rate == tokenizer.frame_rate
    assert len(opened.code_vectors()) == len(opened.codebook_sizes)
    same = tokenizer.encode((video * 255).round().byte())
    assert same.size == (11, 10, 14)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tokenizer.encode(video).codes, codes.codes)
    for wrong in (video[0], video[:, :2], torch.zeros(1, 3, 0, 4, 4)):
        with pytest.raises(ValueError, match=r"videos have shape .*expected \(B, 3, T, H, W\)"):
            tokenizer.encode(wrong)
    with pytest.raises(ValueError, match="a video of 30 frames does not have"):
        tokenizer.decode(Codes(codes.codes, (30, 10, 14)))


def test_frames_are_those_of_the_image_tokenizer(video):
    image = pictures()
    tokenizer = FrameTokenizer(image, 2.0)
    codes = tokenizer.encode(video)
    assert torch.equal(codes.codes[:, :, 3], image.encode(video[:, :, 3]).codes)
    assert torch.equal(
        tokenizer.decode(codes)[1, :, 3], image.decode(image.encode(video[1:, :, 3]))[0]
    )
    assert tokenizer.fingerprint != FrameTokenizer(image, 4.0).fingerprint
    for rate in (0, 2000, "fast", True):
        with pytest.raises(ValueError, match="frame_rate is"):
            FrameTokenizer(image, rate)


def test_tiles_are_coded_alone_and_come_back_in_place(tmp_path):
    image = pictures()
    tokenizer = TiledTokenizer(image, (8, 12), most=6)
    picture = torch.rand(1, 3, 16, 36, generator=torch.Generator().manual_seed(0))
    codes = tokenizer.encode(picture)
    assert codes.codes.shape == (1, 1, 2, 3, 2, 3)
    decoded = tokenizer.decode(codes)
    for row in range(2):
        for column in range(3):
            there = (..., slice(8 * row, 8 * row + 8), slice(12 * column, 12 * column + 12))
            alone = image.encode(picture[there])
            assert torch.equal(alone.codes, codes.codes[:, :, row, column])
            assert torch.equal(image.decode(alone), decoded[there])
    pixels = np.random.default_rng(0).integers(0, 256, (50, 20, 3), np.uint8)
    assert tokenizer.preprocess(pixels).shape == (24, 12, 3) == (
        *tokenizer.preprocessed_size(50, 20), 3,
    )  # fmt: skip
    tokenizer.save_pretrained(tmp_path / "t")
    opened = load_tokenizer(tmp_path / "t", "image")
    assert (opened.fingerprint, opened.tile, opened.most) == (
        tokenizer.fingerprint, (8, 12), 6,
    )  # fmt: skip
    with pytest.raises(ValueError, match="does not divide into tiles of 12x8"):
        tokenizer.encode(picture[..., :30])
    with pytest.raises(ValueError, match="expected multiples of 4 pixels"):
        TiledTokenizer(image, (8, 10))


def test_what_no_shape_is_is_refused():
    for entries, reason in (
        ({"group": 3}, "group is 3 frames, expected 1, 2, 4 or 8"),
        ({"frame_rate": 0}, "frame_rate is 0"),
        ({"encoder": "vit"}, "expected 'patch' or 'conv'"),
        ({"encoder_depths": (1, 2)}, "has 1"),
    ):
        with pytest.raises(ValueError, match=reason):
            VideoTokenizerConfig(**entries)


def training(folder, data, **entries) -> TokenizerTraining:
    defaults = {
        "modality": "video", "output": str(folder), "data": (str(data),), "validation": (),
        "steps": 12, "batch_size": 2, "crop": 2, "log_every": 6, "save_every": 12,
        "validate_every": 12, "precision": "float32", "save_dtype": "float32", "device": "cpu",
        "optimizer": TokenizerOptimizer(lr=0.005),
        "tokenizer": {"stride": 4, "frame_rate": 5.0, "encoder_depths": [1], "time_depth": 1,
                      "encoder_width": 16, "decoder_width": 16, "decoder_depths": [1, 1, 1]},
    }  # fmt: skip
    return TokenizerTraining(**{**defaults, **entries})


def test_it_is_trained_on_folders_of_videos(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(3):
        frames = np.full((13, 8, 12, 3), 60 * number, np.uint8)
        for at, frame in enumerate(frames):
            frame[2:6, at % 8 : at % 8 + 4] = 250
        save_video(data / f"{number}.mp4", frames, np.arange(13) / 10)
    (data / "broken.webm").write_bytes(b"\x1aE\xdf\xa3")
    threads = torch.get_num_threads()
    try:
        folder = train(training(tmp_path / "run", data, validation=(str(data / "0.mp4"),)))
    finally:
        torch.set_num_threads(threads)
    tokenizer = load_tokenizer(folder, "video")
    assert tokenizer.frame_rate == 5.0
    log = (
        (tmp_path / "run" / "log.txt").read_text()
        if (tmp_path / "run" / "log.txt").exists()
        else ""
    )
    assert "broken.webm" in log or not log
    video = torch.zeros(1, 3, 5, 8, 12)
    assert tokenizer.decode(tokenizer.encode(video)).shape == video.shape
    for entries, reason in (
        ({"size": 16}, None),
        ({"fit": "bucket"}, "fit is 'bucket'"),
        ({"adversary": {}}, "alignment and adversary are of pictures and sound"),
        ({"memory_gb": 0.000001}, "take more than memory_gb"),
    ):
        if reason is not None:
            with pytest.raises(ValueError, match=reason):
                train(training(tmp_path / f"run{len(entries)}{reason[:3]}", data, **entries))
