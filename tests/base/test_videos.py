"""Videos: what is written comes back, frames are chosen by their times, and bombs are refused."""

import io
import struct
import sys
import zlib

import av
import numpy as np
import pytest

import unified_base.video_streams as video_streams
from unified_base.apng import decode_apng, encode_apng
from unified_base.frame_times import FrameChoice, at_rate, uniform_frames
from unified_base.images import decode_image
from unified_base.video_limits import MAX_FRAMES
from unified_base.videos import decode_video, encode_video, load_video, save_video

TIMES = np.array([0.0, 0.1, 0.2, 0.35, 0.5, 0.9, 1.3])


def moving(number: int, height: int = 18, width: int = 30) -> np.ndarray:
    frames = np.full((number, height, width, 3), 250, np.uint8)
    for at, frame in enumerate(frames):
        frame[5:11, at % (width - 6) : at % (width - 6) + 6] = (200, 30, 60)
    return frames


@pytest.fixture(scope="module")
def mp4() -> bytes:
    return encode_video(".mp4", moving(40), np.arange(40) / 20)


def test_an_animated_png_holds_frames_and_times_exactly():
    frames = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3), np.uint8)
    frames[2] = frames[1]  # none is left out for being like the one before
    times = np.array([0.0, 1 / 3, 0.5, 2.7])
    data = encode_apng(frames, times)
    for read, read_times in (decode_video(data, "a"), decode_apng(data, 10_000)):
        assert np.array_equal(read, frames)
        assert np.array_equal(read_times, times)
    assert np.array_equal(decode_image(data, "a"), frames[0])  # others see the first frame
    with pytest.raises(ValueError, match=r"video a would take 420 bytes decoded, expected 100 at"):
        decode_video(data, "a", max_bytes=100)
    with pytest.raises(ValueError, match="is cut off"):
        decode_video(data[:-20], "a")
    damaged = bytearray(data)
    damaged[-30] ^= 255
    with pytest.raises(ValueError, match="is damaged: the checksum"):
        decode_video(bytes(damaged), "a")


@pytest.mark.parametrize(("ending", "most"), [(".mp4", 4), (".gif", 1), (".webp", 4)])
@pytest.mark.parametrize("size", [(18, 30), (19, 31)])
def test_written_videos_come_back(tmp_path, ending, most, size):
    frames = moving(7, *size)
    save_video(tmp_path / f"a{ending}", frames, TIMES)
    read, times = load_video(tmp_path / f"a{ending}")
    assert read.shape == frames.shape
    assert np.abs(times - TIMES).max() < 0.006
    assert np.abs(read.astype(int) - frames).mean() < most
    half, half_times = load_video(tmp_path / f"a{ending}", FrameChoice(3))
    assert np.array_equal(half, read[[0, 2, 4]])
    assert np.array_equal(half_times, times[[0, 2, 4]])


def test_what_cannot_be_written_is_refused():
    frames = moving(3)
    for ending, times, reason in (
        (".avi", [0, 1, 2], r"cannot write a video as '.avi', expected .mp4, .gif, .webp"),
        (".mp4", [0, 1], r"times have shape \(2,\), expected \(3,\)"),
        (".gif", [0, 0.001, 0.002], "faster than 100 times a second"),
        (".mp4", [0, 1e-6, 1], "faster than 90,000 times a second"),
    ):
        with pytest.raises(ValueError, match=reason):
            encode_video(ending, frames, np.array(times, np.float64))


def test_frames_are_chosen_by_their_times():
    for total in range(1, 70):
        for budget in range(1, 40):
            assert len(uniform_frames(total, budget)) == min(total, budget)
    assert uniform_frames(10, 4).tolist() == [0, 2, 5, 7]
    assert FrameChoice(rate=5).of(TIMES).tolist() == [0, 2, 3, 4, 5]
    assert FrameChoice(at=(0.0, 0.4, 1.0)).of(TIMES).tolist() == [0, 3, 5]
    assert FrameChoice(2, rate=5).of(TIMES).tolist() == [0, 3]
    assert FrameChoice(rate=1000).of(TIMES).tolist() == list(range(7))
    assert at_rate(TIMES, 5).tolist() == [0, 2, 3, 4, 4, 5, 5]
    for wrong, reason in (
        ({"rate": 1, "at": (0.0,)}, "give one of the two"),
        ({"rate": 0}, "rate is 0, expected more than 0"),
        ({"budget": 0}, "frames is 0"),
        ({"at": (1.0, 0.5)}, "times that ascend"),
        ({"at": ()}, "expected times in seconds"),
    ):
        with pytest.raises(ValueError, match=reason):
            FrameChoice(**wrong)
    with pytest.raises(ValueError, match=r"at has 9 s, expected times from 0 to 1.3 s"):
        FrameChoice(at=(9.0,)).of(TIMES)


def test_even_frames_are_those_of_transformers():
    video_utils = pytest.importorskip("transformers.video_utils")

    class Metadata:
        total_num_frames, fps = 0, None

    for total in (1, 2, 7, 30, 64, 100, 961):
        for budget in (1, 2, 8, 16, 32):
            if budget > total:
                continue
            Metadata.total_num_frames = total
            wanted = video_utils.default_sample_indices_fn(Metadata, num_frames=budget)
            assert uniform_frames(total, budget).tolist() == wanted.tolist(), (total, budget)


def _patched(data: bytes, name: bytes, offset: int, content: bytes) -> bytes:
    """A file whose first box of a name has other content at an offset."""
    at = data.index(name) + 4 + offset
    return data[:at] + content + data[at + len(content) :]


def test_a_video_bomb_is_refused_before_anything_is_decoded(mp4, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # nothing gets as far as FFmpeg
    many = struct.pack(">I", 10**9)
    for data, reason in (
        (_patched(mp4, b"stsz", 4, struct.pack(">II", 1, 10**9)), "says it has 1,000,000,000 fr"),
        (_patched(mp4, b"stts", 8, many), "says it has 1,0.* frames with times"),
        (_patched(mp4, b"stsz", 4, struct.pack(">II", 1, MAX_FRAMES)), "is damaged: it says it"),
        (_patched(mp4, b"stts", 4, many), "is damaged: its table of 1,000,000,000 times is cut"),
        (_patched(mp4, b"tkhd", 76, struct.pack(">II", 30_000 << 16, 30_000 << 16)),
         "says 30,000x30,000 pixels, expected sides of 8,192 at most"),
        (_patched(mp4, b"stts", -8, struct.pack(">I", 3)), "is damaged: its box at byte"),
        (_patched(mp4, b"stbl", -4, b"cmov"), r"has a compressed header"),
        (mp4[:-9], "is cut off: its box"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"video b.mp4 {reason}"):
            decode_video(data, "b.mp4")
    with pytest.raises(ValueError, match=r"needs av, which is not installed: pip install .*video"):
        decode_video(mp4, "b.mp4")


def test_what_its_own_frames_claim_is_compared(mp4, monkeypatch):
    with monkeypatch.context() as patch:  # what the codec's own header says, whatever the boxes do
        patch.setattr(video_streams, "MAX_VIDEO_SIDE", 8)
        with pytest.raises(ValueError, match=r"video b\.mp4 is damaged"):
            decode_video(mp4, "b.mp4")
    # What a header says of the duration changes nothing where the frames say more.
    slow = mp4.index(b"mdhd") + 4 + 16
    late = mp4[:slow] + struct.pack(">I", 2**31) + mp4[slow + 4 :]
    assert np.array_equal(decode_video(late, "b.mp4")[1], decode_video(mp4, "b.mp4")[1])
    with pytest.raises(ValueError, match=r"has 40 frames of 30x18 pixels, 64,800 bytes decoded"):
        decode_video(mp4, "b.mp4", max_bytes=10_000)
    frames, times = decode_video(mp4, "b.mp4", FrameChoice(5), max_bytes=10_000)
    assert (frames.shape, times.tolist()) == ((5, 18, 30, 3), [0.0, 0.4, 0.8, 1.2, 1.6])


def test_matroska_is_read_and_a_wrong_duration_refused():
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 30, 18, "bgr0"
        for at, pixels in enumerate(moving(5)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = [0, 1, 2, 5, 6][at]  # at no steady rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = file.getvalue()
    frames, times = decode_video(data, "a.mkv")
    assert np.array_equal(frames, moving(5))
    assert times == pytest.approx([0, 0.1, 0.2, 0.5, 0.6])
    at = data.index(b"\x44\x89\x88") + 3
    wrong = data[:at] + struct.pack(">d", 36_000_000.0) + data[at + 8 :]
    with pytest.raises(ValueError, match=r"says that it lasts 36,000.0 s, but its 5 frames end at"):
        decode_video(wrong, "b.mkv")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"#EXTM3U\nfile:///etc/passwd\n", "is not a readable MP4"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "is not a readable MP4"),
        (b"", "is not a readable MP4"),
        (b"\x1aE\xdf\xa3" + b"\0" * 60, "is damaged"),
        (b"GIF89a" + b"\xff" * 30, "is damaged or cut off"),
        (struct.pack(">I4s", 16, b"ftyp") + b"isomisom", "is damaged|has no pictures"),
    ],
)
def test_what_is_no_video_is_refused_in_a_line(data, reason):
    with pytest.raises(ValueError, match=f"video b {reason}") as refused:
        decode_video(data, "b")
    assert "\n" not in str(refused.value)


def test_a_gif_that_claims_more_than_it_holds(tmp_path):
    gif = encode_video(".gif", moving(3), np.arange(3) / 10)
    huge = gif[:6] + struct.pack("<HH", 30_000, 30_000) + gif[10:]
    with pytest.raises(ValueError, match="has too many pixels, expected sides of 8,192"):
        decode_video(huge, "b.gif")
    apng = encode_apng(moving(2), np.array([0.0, 1.0]))
    at = apng.index(b"acTL")
    body = b"acTL" + struct.pack(">II", 10**9, 0)
    bomb = apng[:at] + body + struct.pack(">I", zlib.crc32(body)) + apng[at + 16 :]
    bomb = bomb.replace(b"tiMs", b"zzMs")
    with pytest.raises(ValueError, match=r"damaged|1,000,000,000 frames"):
        decode_video(bomb, "b.png")
