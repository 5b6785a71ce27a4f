"""MP4, QuickTime, WebM and Matroska through PyAV, which is FFmpeg: bounded, and of known codecs.

The kind of container is named to FFmpeg, never guessed by it: a playlist of other files is none.
Files are read twice: packets alone, for the times of all frames, then the frames that are wanted.

`T` frames, `H W` pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from unified_base.extras import missing_extra
from unified_base.frame_times import FrameChoice
from unified_base.video_limits import MAX_FRAMES, MAX_VIDEO_SIDE, check_memory

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

__all__ = ["decode_stream", "encode_mp4"]

_CODECS = ("av1", "ffv1", "h264", "hevc", "libdav1d", "mjpeg", "mpeg4", "vp8", "vp9")
_CLOCK = 90_000  # ticks a second of what is written, as in MPEG


def decode_stream(
    data: bytes, container: str, choice: FrameChoice, max_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """(frames uint8 (T, H, W, 3), times float64 (T,)) of a file's first track of pictures.

    container: FFmpeg's name, "mov" or "matroska". Times begin at 0 with the first frame.

    Raises ValueError, to be put behind the video's name, as `videos.load_video` says.
    """
    with _opened(data, container) as (file, stream):
        width, height = stream.codec_context.width, stream.codec_context.height
        check_memory(0, width, height, max_bytes)
        ticks = _ticks(file, stream)
        declared = _declared(file, stream)
        clock = Fraction(stream.time_base or Fraction(1, _CLOCK))
    times = (ticks - ticks[0]) * float(clock)
    _check_end(times, declared)
    chosen = choice.of(times)
    check_memory(len(chosen), width, height, max_bytes)
    wanted = {int(ticks[index]): at for at, index in enumerate(chosen)}
    frames: np.ndarray | None = None
    left = set(wanted)
    with _opened(data, container) as (file, stream):
        for frame in _decoded(file, stream):
            if frame.pts not in left:
                continue
            if (frame.width, frame.height) != (width, height):
                raise ValueError(
                    f"changes its size from {width}x{height} to {frame.width}x{frame.height}"
                    " pixels; a video has one size here"
                )
            pixels = frame.to_ndarray(format="rgb24")
            pixels = np.rot90(pixels, _quarter_turns(frame.rotation))
            if frames is None:
                frames = np.empty((len(chosen), *pixels.shape), np.uint8)
            frames[wanted[frame.pts]] = pixels
            left.remove(frame.pts)
            if not left:
                break
    if frames is None or left:
        missing = min(left) - ticks[0] if left else 0
        raise ValueError(
            f"is damaged: {len(left):,} of the {len(chosen):,} frames cannot be decoded, the first"
            f" of them at {float(missing * clock):.3f} s"
        )
    return frames, times[chosen]


@contextmanager
def _opened(data: bytes, container: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    av = _av()
    try:
        with av.open(io.BytesIO(data), "r", format=container, metadata_errors="ignore") as file:
            if not file.streams.video:
                raise ValueError("has no pictures: there is no video in it")
            stream = file.streams.video[0]
            codec = stream.codec_context
            if codec is None or codec.name not in _CODECS:
                name = "an unknown codec" if codec is None else codec.name
                raise ValueError(f"is coded by {name}, expected one of {', '.join(_CODECS)}")
            # Of what the frames themselves claim, before memory is taken for one.
            codec.options = {"max_pixels": str(MAX_VIDEO_SIDE * MAX_VIDEO_SIDE)}
            codec.thread_type = "NONE"
            yield file, stream
    except av.FFmpegError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"is damaged, or of no kind that can be read: {reason}") from None


def _ticks(file: InputContainer, stream: VideoStream) -> np.ndarray:
    """When each frame is shown, int64 (T,) ascending, in ticks of the stream's clock."""
    ticks: list[int] = []
    for packet in file.demux(stream):
        if packet.size == 0 or packet.is_discard:  # the end, or what an edit list leaves out
            continue
        if packet.pts is None:
            raise ValueError("has frames without times; write it anew")
        ticks.append(packet.pts)
        if len(ticks) > MAX_FRAMES:
            raise ValueError(f"has more than {MAX_FRAMES:,} frames")
    if not ticks:
        raise ValueError("has no frames")
    ordered = np.sort(np.array(ticks, np.int64))
    if len(ordered) > 1 and not np.diff(ordered).min():
        raise ValueError("is damaged: two of its frames have one time")
    return ordered


def _declared(file: InputContainer, stream: VideoStream) -> float | None:
    """How long the file says that its pictures last, in seconds; None where it says nothing."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if file.duration is not None and len(file.streams) == 1:
        return file.duration / 1_000_000
    return None


def _check_end(times: np.ndarray, declared: float | None) -> None:
    """Raises ValueError where frames end long before the file says, or behind it."""
    if declared is None or declared <= 0:
        return
    longest = float(np.diff(times).max()) if len(times) > 1 else declared
    slack = max(1.0, 0.1 * declared, 2 * longest)
    if abs(times[-1] - declared) > slack:
        raise ValueError(
            f"says that it lasts {declared:,.1f} s, but its {len(times):,} frames end at"
            f" {times[-1]:,.1f} s: it is cut off or damaged"
        )


def _decoded(file: InputContainer, stream: VideoStream) -> Iterator[Any]:
    for frame in file.decode(stream):
        if not frame.is_corrupt:
            yield frame


def _quarter_turns(degrees: int) -> int:
    """Quarter turns anticlockwise by which a frame is to be turned, as `np.rot90` counts them."""
    return round(degrees / 90) % 4


def encode_mp4(target: io.BytesIO, frames: np.ndarray, times: np.ndarray, ends: np.ndarray) -> None:
    """Write H.264 in MP4. Arguments as of `videos.save_video`; ends: seconds (T,).

    Colours are halved in both directions (yuv420p), as every player expects; where a side is odd,
    which that form cannot hold, they are whole (yuv444p).
    """
    av = _av()
    if "libx264" not in av.codecs_available:
        raise ValueError(
            "writing MP4 needs libx264, which this PyAV was built without; write .webp"
        )
    ticks = np.round((times - times[0]) * _CLOCK).astype(np.int64)
    if len(ticks) > 1 and np.diff(ticks).min() < 1:
        raise ValueError(f"frames follow one another faster than {_CLOCK:,} times a second")
    height, width = frames.shape[1:3]
    with av.open(target, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=_rate(times), options={"crf": "18"})
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        stream.codec_context.thread_count = 1
        for pixels, tick, end in zip(frames, ticks.tolist(), ends.tolist()):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, _CLOCK)
            frame.duration = max(1, round((end - float(times[0])) * _CLOCK) - tick)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _rate(times: np.ndarray) -> Fraction:
    """Frames a second, as a header has it; of one frame alone ten."""
    if len(times) < 2:
        return Fraction(10)
    seconds = float(times[-1] - times[0]) / (len(times) - 1)
    return max(Fraction(1, 100), Fraction(1 / seconds).limit_denominator(1001))


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise missing_extra("reading and writing MP4, WebM and Matroska", "av", "video") from None
    av.logging.set_level(av.logging.PANIC)  # what goes wrong is raised
    return av
