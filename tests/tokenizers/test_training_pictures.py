"""Pictures of any size in a tokenizer's training: fitted, and bounded in memory."""

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_training import SIZES, picture, run
from PIL import Image
from safetensors.torch import load_file

from unified_base.media_source import Medium, Where
from unified_base.training import loop
from unified_tokenizers.picture_fit import FITS, PictureFit
from unified_tokenizers.training import train
from unified_tokenizers.training_media import Pictures
from unified_tokenizers.training_order import Buckets
from unified_tokenizers.training_pictures import PictureStore, load_store

pytestmark = pytest.mark.usefixtures("torch_threads")


def weights(output):
    return load_file(output / "checkpoints" / "step-0000006" / "part-00000-of-00001.safetensors")


@pytest.mark.parametrize("fit", FITS)
def test_a_folder_of_mixed_sizes_trains_and_a_resumed_run_is_bit_equal(
    mixed, tmp_path, monkeypatch, fit
):
    config = run(mixed, tmp_path / "whole", fit=fit, validation=(str(mixed),))
    train(config)
    save = loop.save_checkpoint

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    # Nothing is held in memory: what is computed does not depend on it.
    stopped = replace(config, output=str(tmp_path / "stopped"), memory_gb=0)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    train(stopped, resume=True)
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "stopped")[name], value), name


@given(
    mode=st.sampled_from(FITS),
    side=st.integers(1, 5),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    seed=st.integers(0, 9),
)
@settings(max_examples=150, deadline=None)
def test_every_picture_gets_a_shape_of_the_fit(mode, side, height, width, seed):
    fit = PictureFit(mode, 4 * side, 4 * side, 4)
    shape = fit.shape(height, width)
    assert shape in fit.shapes
    assert all(length % 4 == 0 for length in shape)
    reduced = fit.reduce(picture(height, width, seed))
    assert reduced.nbytes <= 3 * height * width
    for rng in (None, np.random.default_rng(seed)):
        window = fit.window(reduced, shape, rng)
        assert (window.shape, window.dtype) == ((*shape, 3), np.uint8)


def test_a_crop_is_a_window_of_the_picture_itself():
    whole = picture(20, 30)
    fit = PictureFit("crop", 8, 12, 4)
    places = set()
    for seed in range(40):
        window = fit.window(fit.reduce(whole), (8, 12), np.random.default_rng(seed))
        (corner,) = [
            (top, left)
            for top in range(13)
            for left in range(19)
            if np.array_equal(whole[top : top + 8, left : left + 12], window)
        ]
        places.add(corner)
    assert len(places) > 30
    assert np.array_equal(fit.window(whole, (8, 12), None), whole[6:14, 9:21])
    corners = PictureFit("crop", 19, 29, 1)
    windows = {
        corners.window(whole, (19, 29), np.random.default_rng(seed)).tobytes() for seed in range(60)
    }
    assert len(windows) == 4  # every place, the last ones too


def test_resizing_scales_the_shorter_side_without_aliases():
    stripes = np.zeros((64, 128, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the smaller picture can show: an even grey
    fit = PictureFit("resize", 16, 16, 4)
    reduced = fit.reduce(stripes)
    assert reduced.shape == (16, 32, 3)
    assert np.abs(reduced[:, 4:-4].astype(int) - 127).max() <= 3
    small = np.full((4, 8, 3), 90, np.uint8)
    assert fit.reduce(small) is small
    assert np.array_equal(fit.window(small, (16, 16), None), np.full((16, 16, 3), 90, np.uint8))


def test_buckets_have_the_area_of_the_size_and_shapes_near_the_pictures():
    fit = PictureFit("bucket", 96, 96, 8)
    assert fit.shapes == [
        (64, 136),
        (80, 112),
        (80, 120),
        (96, 96),
        (112, 80),
        (120, 80),
        (136, 64),
    ]
    assert fit.shape(500, 500) == (96, 96)
    assert fit.shape(300, 400) == (80, 112)
    assert fit.shape(1, 100) == (64, 136)


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_batches_of_buckets_are_of_one_bucket_and_leave_nothing_out(counts, batch_size, seed):
    numbers = iter(range(sum(counts)))
    items = {(n, n): [next(numbers) for _ in range(count)] for n, count in enumerate(counts)}
    of = {number: bucket for bucket, some in items.items() for number in some}
    steps = sum(-(-count // batch_size) for count in counts)
    buckets = Buckets(items, batch_size)
    epochs = []
    for epoch in range(2):
        batches = [buckets.indices(seed, epoch * steps + step) for step in range(steps)]
        assert all(len(batch) == batch_size for batch in batches)
        assert all(len({of[int(number)] for number in batch}) == 1 for batch in batches)
        assert {int(number) for batch in batches for number in batch} == set(of)
        epochs.append(batches)
    again = Buckets(items, batch_size)  # from anywhere, in any order
    for step in reversed(range(2 * steps)):
        assert np.array_equal(again.indices(seed, step), epochs[step // steps][step % steps])


def test_processes_share_a_batch(mixed):
    for fit in FITS:
        data = Pictures(run(mixed, fit=fit), print).data
        for step in range(4):
            whole, _ = data.batch(step, 0, 1)
            assert np.array_equal(whole[1::2], data.batch(step, 1, 2)[0])


def test_memory_is_bounded_and_changes_nothing(tmp_path):
    pixels = picture(200, 300)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    sample = Medium(Where(str(tmp_path / "large.png")), pixels)
    stores = [PictureStore(PictureFit("crop", 16, 16, 4), budget) for budget in (10**6, 180_001)]
    for store in stores:
        for _ in range(3):
            store.add(sample)
    assert [store.held for store in stores] == [3, 1]
    for number in range(3):
        windows = [store.window(number, np.random.default_rng(number)) for store in stores]
        assert np.array_equal(*windows)
    resized = PictureStore(PictureFit("resize", 16, 16, 4), 10**6)
    resized.add(sample)
    assert resized._left == 10**6 - 16 * 24 * 3  # what is held is what is used
    (tmp_path / "large.png").write_bytes(b"changed")
    with pytest.raises(ValueError, match="it could be read before, and has changed since"):
        stores[1].window(2, None)


def test_pictures_in_a_shard_are_read_again_where_they_lie(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for number, size in enumerate(SIZES):
            stream = io.BytesIO()
            Image.fromarray(picture(*size, seed=number)).save(stream, "PNG")
            member = tarfile.TarInfo(f"{number}.0.png")
            member.size = stream.tell()
            stream.seek(0)
            archive.addfile(member, stream)
    fit = PictureFit("crop", 4, 4, 4)
    held, anew = (load_store((str(tmp_path),), 99, fit, budget, 0, print) for budget in (10**9, 0))
    assert (held.held, anew.held) == (len(SIZES), 0)
    for number in range(len(SIZES)):
        assert np.array_equal(held.window(number, None), anew.window(number, None))


def test_without_a_size_pictures_of_one_size_are_whole_and_others_fitted(tmp_path, mixed, capsys):
    messages = []
    folder = tmp_path / "one"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(picture(10, 12, number)).save(folder / f"{number}.png")
    data = Pictures(run(folder, size=None), messages.append).data
    assert data.store.fit.shapes == [(8, 12)]
    assert messages == [
        "the pictures are 12x10 pixels: windows of 12x8, multiples of 4, are cut out of them"
    ]
    messages.clear()
    data = Pictures(run(mixed, size=None, fit="resize"), messages.append).data
    assert data.store.fit == PictureFit("resize", 256, 256, 4)
    assert messages[0].startswith(
        f"the picture {mixed}/1.png is 9x40 pixels, the first 12x8: pictures"
    )
    assert "made to fit 256x256 (resize)" in messages[0]
    anew = Pictures(run(mixed, size=None, fit="resize", memory_gb=0), messages.append).data
    assert (data.store.held, anew.store.held) == (len(SIZES), 0)
    for number in range(len(SIZES)):
        windows = [store.window(number, None) for store in (data.store, anew.store)]
        assert np.array_equal(*windows)


def test_an_index_of_others_beside_a_shard_is_not_ours(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(picture(8, 8)).save(stream, "PNG")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.size = stream.tell()
        stream.seek(0)
        archive.addfile(member, stream)
    for text in ("[1, 2]", '{"shards": 3}', '{"shards": [{"file": 7}, 5]}', '{"sha256": "x"}'):
        (tmp_path / "index.json").write_text(text)
        assert len(load_store((str(tmp_path),), 9, PictureFit("crop", 8, 8, 4), 0, 0, print)) == 1
