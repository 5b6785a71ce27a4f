"""Videos in documents: frames with the times at which they begin.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from unified_base.apng import encode_apng
from unified_base.cells import video_cell
from unified_base.frame_times import FrameChoice
from unified_base.videos import decode_video, frame_ends, load_video
from unified_data.segments import Image, Media, Role, register_media

__all__ = ["Video"]


@register_media
@dataclass(frozen=True, eq=False)
class Video(Media):
    """Frames and when each begins. Not to be changed.

    frames: uint8 (T, H, W, 3), RGB, none of them 0. times: float64 seconds (T,), finite, 0 or more,
    ascending; they need not be at equal steps.
    """

    modality: ClassVar[str] = "video"
    noun: ClassVar[str] = "video"
    plural: ClassVar[str] = "videos"
    endings: ClassVar[tuple[str, ...]] = ("film", "mp4", "m4v", "mov", "webm", "mkv")
    slot_fields: ClassVar[tuple[str, ...]] = ("height", "width", "frames")

    frames: np.ndarray
    times: np.ndarray
    role: Role | None = None
    loss: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        frames, times = self.frames, np.asarray(self.times)
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
            dtype = getattr(frames, "dtype", type(frames).__name__)
            raise ValueError(f"video frames are {dtype}, expected a uint8 numpy array")
        if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
            raise ValueError(f"video frames have shape {frames.shape}, expected (T, H, W, 3)")
        if times.dtype.kind not in "iuf" or times.shape != (len(frames),):
            raise ValueError(
                f"video times are {times.dtype} {times.shape}, expected seconds ({len(frames)},),"
                " one for each frame"
            )
        times = times.astype(np.float64)
        if not np.isfinite(times).all() or times[0] < 0 or not (np.diff(times) > 0).all():
            raise ValueError(
                "video times must be finite seconds, 0 or more, that ascend; they begin with"
                f" {times[:4].tolist()}"
            )
        object.__setattr__(self, "times", times)

    @classmethod
    def at_rate(
        cls, frames: np.ndarray, rate: float, role: Role | None = None, loss: float = 1.0
    ) -> Video:
        """A video of `rate` frames a second, from 0 s on."""
        return cls(frames, np.arange(len(frames)) / rate, role, loss)

    @classmethod
    def load(cls, path: str | Path, choice: FrameChoice | None = None) -> Video:
        """The video of a file. Raises ValueError as `unified_base.videos.load_video` says."""
        return cls(*load_video(path, choice))

    @property
    def nbytes(self) -> int:
        return self.frames.nbytes

    @property
    def duration(self) -> float:
        """Seconds from the first frame's begin to the last one's end, which is shown as long as
        the one before it."""
        return float(frame_ends(self.times)[-1] - self.times[0])

    def sampled(self, choice: FrameChoice) -> Video:
        """The frames that are wanted, with their times."""
        chosen = choice.of(self.times)
        return Video(self.frames[chosen], self.times[chosen], self.role, self.loss)

    def pictures(self) -> list[Image]:
        """The frames as pictures, each of the video's role and loss."""
        return [Image(frame, self.role, self.loss) for frame in self.frames]

    def to_file(self) -> tuple[str, bytes]:
        """An animated PNG with exact times (`unified_base.apng`), by an ending of its own: folders
        of pictures hold `.apng`, too."""
        return "film", encode_apng(self.frames, self.times)

    @classmethod
    def from_file(cls, data: bytes, name: str, role: Role | None, loss: float) -> Video:
        return cls(*decode_video(data, name), role, loss)

    def _repr_html_(self) -> str:
        return video_cell(self.frames, self.times, self.role or "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Video):
            return NotImplemented
        same = (self.role, self.loss) == (other.role, other.loss)
        return (
            same
            and np.array_equal(self.frames, other.frames)
            and np.array_equal(self.times, other.times)
        )

    __hash__ = None  # type: ignore[assignment]
