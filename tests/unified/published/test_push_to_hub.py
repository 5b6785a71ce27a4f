"""What reaches the hub is whole: the folder of every published kind, as its requests carry it.

The hub is a transport under huggingface_hub's own client: every request is the library's, no
network is there. It asks for every file within the commit, so that the commit holds the folder.
"""

import base64
import importlib.util
import json
from importlib import import_module
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors import safe_open
from small_together import together_model

from unified import Sampling, UnifiedModel
from unified.dataloading import Source
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.train import train
from unified_base.training.settings import ScheduleConfig
from unified_data.document import Document, Text
from unified_data.shards import ShardWriter

httpx = import_module(type(huggingface_hub.utils.get_session()).__module__.split(".")[0])
KINDS = ["emu3", "chameleon", "janus", "janus-pro", "liquid", "orpheus", "apertus"]
REPOSITORY = "tests/small"


class Hub:
    """The requests that came, and the files of the commit among them."""

    def __init__(self, status=200):
        self.status = status
        self.paths = []
        self.files = {}

    def __call__(self, request):
        path = request.url.path
        self.paths.append((request.method, path))
        if path == "/api/repos/create":
            body = {"url": f"https://huggingface.co/{REPOSITORY}", "name": REPOSITORY}
            return httpx.Response(self.status, json=body, request=request)
        if "/preupload/" in path:
            names = [entry["path"] for entry in json.loads(request.read())["files"]]
            modes = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            return httpx.Response(200, json={"files": modes}, request=request)
        if "/commit/" in path:
            for line in request.read().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            url = f"https://huggingface.co/{REPOSITORY}/commit/1"
            return httpx.Response(
                200, json={"commitUrl": url, "commitOid": "1" * 40}, request=request
            )
        if request.method == "GET":
            return httpx.Response(404, json={}, request=request)
        return httpx.Response(200, json={}, request=request)


@pytest.fixture
def start_hub(monkeypatch):
    """Puts a hub under the library's client until the test ends."""
    monkeypatch.setenv("HF_TOKEN", "of-tests")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    threads = torch.get_num_threads()

    def start(status=200):
        hub = Hub(status)
        huggingface_hub.set_client_factory(
            lambda: httpx.Client(transport=httpx.MockTransport(hub), follow_redirects=True)
        )
        return hub

    yield start
    torch.set_num_threads(threads)
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


@pytest.fixture(scope="module")
def codecs():
    """The module that makes tiny codecs."""
    path = Path(__file__).parents[1] / "codecs_of_published.py"
    spec = importlib.util.spec_from_file_location("codecs_to_push", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(model, folder, **changes):
    """One step on a few texts, and the push."""
    roles = ("prompt", "response") if "response" in model.grammar.roles else (None, None)
    with ShardWriter(folder / "shards", "train", "texts") as writer:
        for number in range(3):
            words = (Text("a fox", roles[0], 0.0), Text(f"an owl {number}", roles[1]))
            writer.write(f"d{number}", Document(words if roles[0] else words[1:]))
    config = TrainConfig(
        output=str(folder / "run"), sources={"texts": Source(str(folder / "shards" / "*.tar"))},
        init_from=str(model.directory), train="full", steps=1, seq_len=400, global_batch_size=1,
        micro_batch_size=1, streams=1, optimizer=OptimizerConfig(lr=0.01),
        schedule=ScheduleConfig(warmup_steps=1), threads=1, save_dtype="float32",
        push_to_hub=REPOSITORY, **changes,
    )  # fmt: skip
    return train(config)


def written(folder):
    """The files of a folder by name."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_that_is_pushed_is_whole(kind, opened, start_hub, tmp_path):
    hub = start_hub()
    before = opened[kind]
    folder = run(before, tmp_path)
    assert ("POST", "/api/repos/create") in hub.paths
    assert hub.files == written(folder)
    needed = {"README.md", "config.json", "tasks.yaml", "tokenizer.json", "unified.json"}
    assert needed <= set(hub.files)
    assert f'from_pretrained("{REPOSITORY}")' in hub.files["README.md"].decode()

    # What a user downloads opens without the folder that it was pushed from.
    downloaded = tmp_path / "downloaded"
    for name, content in hub.files.items():
        (downloaded / name).parent.mkdir(parents=True, exist_ok=True)
        (downloaded / name).write_bytes(content)
    folder.rename(tmp_path / "away")
    model = UnifiedModel.from_pretrained(downloaded)
    assert model.vocabulary.hash == before.vocabulary.hash
    assert model.tasks == before.tasks
    assert model.sampling == before.sampling
    # The weights of its codec, too, to the last tensor.
    with (
        safe_open(before.directory / "model.safetensors", "pt") as old,
        safe_open(downloaded / "model.safetensors", "pt") as new,
    ):
        assert set(old.keys()) == set(new.keys())
    for modality in ("image", "audio"):
        codecs = [getattr(each, f"{modality}_tokenizer") for each in (before, model)]
        assert (codecs[0] is None) == (codecs[1] is None)
        if codecs[0] is not None:
            assert codecs[0].fingerprint == codecs[1].fingerprint


def test_a_depth_decoder_is_pushed_with_its_declaration(start_hub, tmp_path):
    together_model().save_pretrained(tmp_path / "together")
    hub = start_hub()
    folder = run(UnifiedModel.from_pretrained(tmp_path / "together"), tmp_path)
    assert hub.files == written(folder)
    assert {"depth_decoder.safetensors", "unified.json", "model.safetensors"} <= set(hub.files)
    downloaded = tmp_path / "downloaded"
    for name, content in hub.files.items():
        (downloaded / name).parent.mkdir(parents=True, exist_ok=True)
        (downloaded / name).write_bytes(content)
    expected = UnifiedModel.from_pretrained(folder)
    weights = {name: tensor.clone() for name, tensor in expected.hf.state_dict().items()}
    own = [name for name in weights if name.startswith("depth_decoder.")]
    assert len(own) == 13
    folder.rename(tmp_path / "away")
    model = UnifiedModel.from_pretrained(downloaded)
    assert model.codes == expected.codes
    assert model.codes.depth.num_ids == 3
    actual = model.hf.state_dict()
    assert set(actual) == set(weights)
    assert all(torch.equal(actual[name], tensor) for name, tensor in weights.items())
    sampling = Sampling(max_audio_frames=4)
    sounds = [each.speak("a cat", sampling=sampling, seed=3)[0] for each in (expected, model)]
    assert np.array_equal(*sounds)


@pytest.mark.parametrize("kind", [pytest.param("orpheus", marks=pytest.mark.slow), "liquid"])
def test_a_codec_that_was_put_beside_goes_along(kind, codecs, opened, start_hub, tmp_path):
    if kind == "orpheus":
        media = {"audio_tokenizer": codecs.save_snac(tmp_path / "codec")}
    else:
        media = {"image_tokenizer": codecs.save_chameleon_vq(tmp_path / "codec")}
    whole = UnifiedModel.from_pretrained(opened[kind].directory, **media)
    whole.save_pretrained(tmp_path / "whole")
    before = UnifiedModel.from_pretrained(tmp_path / "whole")
    hub = start_hub()
    folder = run(before, tmp_path)
    assert hub.files == written(folder)
    (modality,) = (name.removesuffix("_tokenizer") for name in media)
    for name in ("config.json", "model.safetensors"):
        assert any(path.endswith(f"/{name}") for path in hub.files), sorted(hub.files)
    model = UnifiedModel.from_pretrained(folder)
    codec = getattr(model, f"{modality}_tokenizer")
    assert codec.fingerprint == getattr(before, f"{modality}_tokenizer").fingerprint
    assert model.tasks.able


def test_a_hub_that_refuses_leaves_the_folder_and_one_line(opened, start_hub, tmp_path):
    hub = start_hub(status=403)
    with pytest.raises(ValueError, match="on the hub did not take it") as error:
        run(opened["liquid"], tmp_path)
    assert "\n" not in str(error.value)
    assert not hub.files
    UnifiedModel.from_pretrained(tmp_path / "run" / "model")
