"""Videos in documents and shards, and the world of motion."""

import numpy as np
import pytest

from unified_base.frame_times import FrameChoice
from unified_base.videos import encode_video
from unified_data.document import Document, Image, Slot, Text, Video
from unified_data.motion import DIRECTIONS, QUESTION, build_motion, paint_motion, plan_motion
from unified_data.shards import ShardWriter, read_samples

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)


def test_a_video_goes_through_json_and_shards(tmp_path):
    video = Video(FRAMES, np.array([0, 1 / 3, 0.5]), "response", 0.5)
    slot = Slot("video", 8, 16, frames=4, role="response")
    document = Document((Text("a", "prompt"), video, slot))
    obj, media = document.to_parts("x")
    assert obj["segments"][1:] == [
        {"type": "video", "file": "x.1.film", "role": "response", "loss": 0.5},
        {"type": "slot", "modality": "video", "height": 8, "width": 16, "frames": 4,
         "role": "response"},
    ]  # fmt: skip
    assert Document.from_parts(obj, media.__getitem__) == document
    with ShardWriter(tmp_path, "train", "v") as writer:
        writer.write("a", document)
    assert list(read_samples(next(tmp_path.glob("*.tar")))) == [("a", document)]
    assert video != Video(FRAMES, np.array([0, 0.25, 0.5]), "response", 0.5)
    assert video != Image(FRAMES[0])
    assert "image/apng" in video._repr_html_()


def test_a_document_names_files_of_other_kinds():
    data = encode_video(".mp4", np.full((4, 6, 8, 3), 200, np.uint8), np.arange(4) / 2)
    obj = {"segments": [{"type": "video", "file": "a.mp4"}]}
    (video,) = Document.from_parts(obj, lambda name: data)
    assert video.times.tolist() == [0, 0.5, 1, 1.5]
    assert video.duration == 2.0
    assert video.sampled(FrameChoice(2)).times.tolist() == [0, 1]
    assert [picture.pixels.shape for picture in video.pictures()] == [(6, 8, 3)] * 4


@pytest.mark.parametrize(
    ("frames", "times", "reason"),
    [
        (FRAMES.astype(float), [0, 1, 2], "video frames are float64, expected a uint8"),
        (FRAMES[0], [0, 1, 2], r"shape \(5, 7, 3\), expected \(T, H, W, 3\)"),
        (FRAMES[:0], [], r"shape \(0, 5, 7, 3\)"),
        (FRAMES, [0, 1], r"times are int64 \(2,\), expected seconds \(3,\)"),
        (FRAMES, [0, 0, 1], "must be finite seconds, 0 or more, that ascend"),
        (FRAMES, [-1, 0, 1], "must be finite seconds"),
        (FRAMES, [0, np.inf, np.nan], "must be finite seconds"),
    ],
)
def test_what_is_no_video_is_refused(frames, times, reason):
    with pytest.raises(ValueError, match=reason):
        Video(frames, np.array(times))


def test_slots_ask_for_frames_of_videos_alone():
    for modality in ("image", "text", "any", "audio"):
        with pytest.raises(ValueError, match=f"{modality} slot gives frames, which it cannot have"):
            Slot(modality, frames=3)
    for frames in (0, 5000, 1.5, True):
        with pytest.raises(ValueError, match="slot has frames"):
            Slot("video", frames=frames)


def test_the_world_of_motion_moves_as_it_says(tmp_path):
    plans = {split: plan_motion("ask", split, 0, 0.1) for split in ("train", "heldout")}
    assert [len(motions) for motions in plans.values()] == [400, 40]
    pairs = [{(m.subject, m.ground) for m in motions} for motions in plans.values()]
    assert not pairs[0] & pairs[1]
    for motion in plans["heldout"]:
        video = paint_motion(motion)
        ground = video.frames[0, 0, 0] if motion.row or motion.column else video.frames[0, -1, -1]
        places = []
        for frame in video.frames[[0, -1]]:
            rows, columns = np.nonzero((frame != ground).any(-1))
            places.append((rows.mean(), columns.mean()))
        moved = np.array(places[1]) - places[0]
        assert np.allclose(moved, 24 * np.array(DIRECTIONS[motion.direction])), motion
    index = build_motion(tmp_path, scale=0.01, workers=1)
    assert index["world"] == "motion"
    kinds = {shard["kind"] for shard in index["shards"]}
    assert kinds == {"describe", "ask", "draw"}
    _, document = next(iter(read_samples(next(tmp_path.glob("train-ask-*.tar")))))
    assert [type(segment) for segment in document] == [Video, Text, Text]
    assert document.segments[1].text == QUESTION
    assert document.segments[2].text in DIRECTIONS
    again = build_motion(tmp_path / "again", scale=0.01, workers=1)
    first, second = ([s["bytes"] for s in i["shards"]] for i in (index, again))
    assert first == second
