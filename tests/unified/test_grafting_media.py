"""Videos, tiles, regions, states and labels before a language model: facts of what reads them."""

import numpy as np
import pytest
import torch

from tests.helpers.grafted import clip_folder, picture, text_tokenizer, tiny_llm
from unified.engine.request import Sampling
from unified.matching.point_net import PointNet, farthest_points
from unified.models.grafting.connector_table import make_connector
from unified.models.grafting.encoder_table import open_encoder, stored_encoder
from unified.models.grafting.graft import Graft
from unified.models.grafting.merging_connectors import density_peaks
from unified.models.model import UnifiedModel
from unified_data.document import (
    Document,
    Image,
    Label,
    PointCloud,
    Region,
    Slot,
    Text,
    Video,
    WorldState,
)
from unified_tokenizers.label_codes import LabelTokenizer


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of an encoder of 4x4 patches of 7 pixels."""
    return clip_folder(tmp_path_factory.mktemp("media") / "clip", layers=2)


def features(encoder, segment):
    return encoder(torch.from_numpy(encoder.prepare(segment))[None])[0]


def test_frames_are_read_one_by_one(clip, tmp_path):
    encoder, alone = open_encoder(clip, "video", frames=2), open_encoder(clip, "image")
    frames = np.stack([picture(at, 30, 33) for at in range(5)])
    both = features(encoder, Video.at_rate(frames, 2.0))
    assert both.shape == (2, 4, 4, 20)
    for own, at in zip(both, (0, 2)):  # evenly spread over five, from the first on
        assert torch.allclose(own, features(alone, Image(frames[at])), atol=1e-5)
    encoder.save(tmp_path)
    again = stored_encoder(tmp_path)
    assert (again.fingerprint, again.options) == (encoder.fingerprint, {"frames": 2})
    assert encoder.fingerprint != open_encoder(clip, "video", frames=3).fingerprint


def test_a_wide_picture_is_read_as_its_tiles_and_the_whole(clip):
    encoder, alone = open_encoder(clip, "image", tiles=4), open_encoder(clip, "image")
    wide = picture(3, 28, 56)
    seen = features(encoder, Image(wide))
    assert seen.shape == (3, 4, 4, 20)
    right = features(alone, Image(np.ascontiguousarray(wide[:, 28:])))
    assert torch.allclose(seen[1], right, atol=1e-5)
    assert features(encoder, Image(picture(4, 28, 28))).shape == (1, 4, 4, 20)


def test_a_region_is_the_mean_of_the_features_in_its_mask(clip):
    encoder, alone = open_encoder(clip, "region"), open_encoder(clip, "image")
    pixels = picture(5, 28, 28)
    whole = features(alone, Image(pixels))
    mask = np.zeros((28, 28), bool)
    mask[7:21, 14:21] = True  # two patches, one below the other
    (vector,) = features(encoder, Region(pixels, mask))
    assert vector.shape == (20 + 16,)
    assert torch.allclose(vector[:20], whole[1:3, 2].mean(0), atol=1e-5)
    assert vector[20:].nonzero().flatten().tolist() == [1 * 4 + 2, 2 * 4 + 2]
    edge = np.zeros((28, 84), bool)
    edge[:, :5] = True
    with pytest.raises(ValueError, match="nothing of the region's mask is left"):
        encoder.prepare(Region(picture(6, 28, 84), edge))


def test_states_are_read_row_by_row():
    encoder = open_encoder("3", "state")
    state = WorldState(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert torch.equal(features(encoder, state), torch.from_numpy(state.values))
    with pytest.raises(ValueError, match="the state has 2 numbers a row, the encoder reads 3"):
        encoder.prepare(WorldState(np.ones((1, 2), np.float32)))


def test_what_an_encoder_cannot_be_is_refused(clip):
    with pytest.raises(ValueError, match="encoder of video has no option tiles; it has frames"):
        open_encoder(clip, "video", tiles=2)
    with pytest.raises(ValueError, match="frames is 0, expected a whole number, 1 to 1,024"):
        open_encoder(clip, "video", frames=0)
    with pytest.raises(ValueError, match="encoder of states is 'clip', expected the numbers"):
        open_encoder("clip", "state")


def test_features_in_clear_groups_are_merged_group_by_group():
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0, 0], [9, 0, 0], [0, 9, 0]])
    belongs = torch.tensor([1, 0, 1, 2, 0, 2, 2, 0, 1])
    points = centres[belongs] + 0.01 * torch.randn(9, 3)
    groups = density_peaks(points[None], 3, 2)[0]
    assert groups.tolist() == [0, 1, 0, 2, 1, 2, 2, 1, 0]  # by their first members
    merge = make_connector("merge", 3, 5, vectors=3, neighbours=2)
    means = torch.stack([points[groups == group].mean(0) for group in range(3)])
    assert torch.allclose(merge(points[None], (3, 3))[0], merge.mlp(means[None], (3,))[0])
    assert sorted(density_peaks(torch.zeros(1, 4, 3), 4, 2)[0].tolist()) == [0, 1, 2, 3]
    assert merge.grid((1, 2)) == (2,)


def test_pooling_joins_neighbours_and_never_frames():
    pool = make_connector("pool", 5, 7, pool=2)
    assert pool.grid((32, 24, 24)) == (32, 12, 12)
    frames = torch.randn(2, 3 * 4 * 6, 5)
    vectors = pool(frames, (3, 4, 6))
    assert vectors.shape == (2, 3 * 2 * 3, 7)
    middle = pool(frames[:, 24:48], (4, 6))
    assert torch.allclose(vectors[:, 6:12], middle, atol=1e-6)
    with pytest.raises(ValueError, match="3x5 features does not divide into blocks of side 2"):
        pool.grid((2, 3, 5))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("qformer", {"queries": 3, "layers": 2, "heads": 1, "width": 8, "each": 1}),
        ("resampler", {"latents": 3, "depth": 1, "heads": 2, "head_width": 4, "each": 1}),
        ("mlp", {"shuffle": 2}),
    ],
)
def test_tiles_apart_are_as_each_alone(name, options):
    connector = make_connector(name, 6, 5, **options).eval()
    tiles = torch.randn(1, 3, 8, 6)
    together = connector(tiles.flatten(1, 2), (3, 2, 4))
    alone = torch.cat([connector(tile, (2, 4)) for tile in tiles.unbind(1)], 1)
    assert torch.allclose(together, alone, atol=1e-5)
    assert np.prod(connector.grid((3, 2, 4))) == together.shape[1]


def test_a_label_is_written_before_the_text():
    text = text_tokenizer()
    labels = LabelTokenizer(("query", "noise", "text"))
    model = UnifiedModel.extend(
        tiny_llm(text),
        text_tokenizer=text,
        tokenizers={"label": labels},
        read={"state": Graft("3")},
    )
    state = WorldState(np.ones((2, 3), np.float32), "prompt")
    asked = Document((state, Slot("label", role="response"), Slot("text", role="response")))
    (answer,) = model.generate(asked, sampling=Sampling(max_text_ids=3))
    assert answer.segments[1].name in labels.names
    assert isinstance(answer.segments[2], Text)
    written = Document((Label("noise", "response"),))
    assert model.sequencer.decode(model.sequencer.encode(written).ids) == written
    with pytest.raises(ValueError, match="the label is 'song', expected one of query, noise"):
        model.sequencer.encode(Document((Label("song"),)))


def test_a_point_cloud_is_no_list():
    torch.manual_seed(0)
    net = PointNet(3, groups=4, neighbours=5, width=8, depth=1, heads=2).eval()
    cloud = PointCloud(np.random.default_rng(0).standard_normal((31, 3)).astype(np.float32))
    points = torch.from_numpy(cloud.unit)[None]
    shuffled = points[:, torch.randperm(31)]
    assert torch.allclose(net(points), net(shuffled), atol=1e-5)
    at = farthest_points(points, 4)[0]
    assert len(set(at.tolist())) == 4
    assert int(at[0]) == int(points[0].norm(dim=1).argmax())
