"""*Folders x mutations*: a model folder of a stranger's is used, or refused in one line.

A layout joins by a line in `benchmarks/_fault_models.py`, a mutation by one in
`benchmarks/_fault_mutations.py`; the same cases, many more of them, are the figures
`folder_cases` and `folder_failures` of the faults' benchmark.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import struct
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
try:
    import _fault_folders
    import _fault_models
    import _fault_mutations
finally:
    sys.path.remove(str(BENCHMARKS))

EACH = 3
"""Cases of each pair; the benchmark has more."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """A folder of every kind."""
    root = tmp_path_factory.mktemp("bases")
    folders = {name: root / name for name in _fault_models.FOLDERS}
    for name, make in _fault_models.FOLDERS.items():
        make(folders[name])
    return folders


@pytest.fixture
def copy(bases, tmp_path):
    """A function: a copy of a kind's folder."""

    def make(name: str) -> Path:
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(bases[name], folder)
        return folder

    return make


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(name: str, folder: Path, *expected: str) -> None:
    """It is refused in one line that a terminal can show, which names what was found."""
    with pytest.raises(ValueError) as error:
        _fault_models.use(name, folder)
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 1500
    for part in expected:
        assert part in message


def outcome(name: str, folder: Path) -> str:
    """ "used", or why not; any other exception than a ValueError is the test's failure."""
    try:
        _fault_models.use(name, folder)
    except ValueError as error:
        return str(error)
    return "used"


@pytest.mark.parametrize("name", _fault_models.FOLDERS)
def test_a_folder_is_used_as_it_is(bases, name):
    _fault_models.use(name, bases[name])


@pytest.mark.parametrize("mutation", [m for m in _fault_mutations.MUTATIONS if m != "template"])
@pytest.mark.parametrize("name", _fault_models.FOLDERS)
def test_a_mutated_folder_is_used_or_refused_in_one_line(copy, name, mutation):
    for case in range(EACH):
        folder = copy(name)
        _fault_mutations.MUTATIONS[mutation][1](folder, random.Random(f"{name} {case}"))
        message = outcome(name, folder)
        assert message.isprintable(), case
        assert len(message) < 1500, case


def _endless() -> None:
    while True:
        pass


def _raise(error: BaseException) -> None:
    raise error


# What the use of one folder after another does, and what is counted as a failure for it.
DEEDS = [
    (lambda: None, None),
    (lambda: _raise(ValueError("x is 3, expected 4")), None),
    (lambda: _raise(ValueError("two\nlines")), r"two\nlines"),
    (lambda: _raise(ValueError("")), "''"),
    (lambda: _raise(TypeError("no")), "TypeError: no test_model_folders.py"),
    (_endless, "more than 0.1 s: _fault_folders.py"),
    (lambda: time.sleep(60), "more than 0.1 s: _fault_folders.py"),
    (lambda: bytearray(3 << 30), "MemoryError"),
    (lambda: sys.exit(0), "SystemExit: 0"),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "the process ended with -9"),
    (lambda: os._exit(0), "the process ended with 0"),
    ("mutation", "RecursionError: deep"),
    (lambda: None, None),
]


def test_the_measure_counts_what_it_finds(monkeypatch, tmp_path):
    number = tmp_path / "number"  # of the case: children share nothing else
    number.write_text("-1")

    def mutate(folder, rng):
        number.write_text(str(int(number.read_text()) + 1))
        (folder / "mutated").touch()
        if DEEDS[int(number.read_text())][0] == "mutation":
            raise RecursionError("deep")
        return "touched"

    def use(kind, folder):
        if (folder / "mutated").exists():
            DEEDS[int(number.read_text())][0]()

    for name, value in (
        ("use", use), ("mutate", mutate), ("FOLDERS", {"tiny": Path.mkdir}), ("SECONDS", 0.1),
        ("_warm_up", lambda: None), ("_CHUNK", 8),
    ):  # fmt: skip
        monkeypatch.setattr(_fault_folders, name, value)
    result = _fault_folders.measure(len(DEEDS), only=("tiny",))
    failures = {case: error for case, (_, error) in enumerate(DEEDS) if error is not None}
    counted = {f["case"]: f["error"] for f in result["folder_first_failures"]}
    assert counted.keys() == failures.keys()
    for case, error in failures.items():
        assert error in counted[case]
    assert result["folder_cases"] == len(DEEDS)
    assert result["folder_failures"] == len(failures)
    assert result["folder_refused"] == 1
    # Of the processes that ended nothing is known but the case.
    assert result["folder_by_kind"] == {
        "tiny touched": {"accepted": 2, "refused": 1, "failed": 7},
        "tiny": {"failed": 1},
    }


def test_a_mutation_follows_no_nesting_to_its_end():
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    for seed in range(30):
        _fault_mutations.mutate_value({"a": deep}, random.Random(seed))


CONFIG = [
    ("hidden_size", 10**12, "hidden_size is 1000000000000"),
    ("hidden_size", 10**6, "config.json"),
    ("hidden_size", -1, "hidden_size is -1, expected at least 1"),
    ("hidden_size", 24.5, "hidden_size is 24.5, expected a whole number"),
    ("hidden_size", True, "hidden_size is True, expected a whole number"),
    ("num_hidden_layers", 10**9, "num_hidden_layers is 1000000000, expected at most 8,192"),
    ("num_hidden_layers", "many", "num_hidden_layers is 'many', expected a whole number"),
    ("num_attention_heads", 0, "num_attention_heads is 0"),
    ("head_dim", [1], "head_dim is [1], expected a whole number"),
    ("rms_norm_eps", "x", "rms_norm_eps is 'x', expected a number"),
    ("rope_parameters", [1], "rope_parameters is [1], expected a mapping"),
    ("rope_parameters", {"rope_type": "llama3", "factor": []}, "rope_parameters"),
    ("rope_parameters", {"rope_type": "default", "rope_theta": -3}, "rope_theta is -3"),
    ("vocab_size", 10**30, "vocab_size"),
    ("layer_types", 3, "layer_types is 3, expected a list"),
    ("_attn_implementation", "kernels-community/x", "never fetched"),
    ("attn_implementation", {"": "org/kernel:f"}, "never fetched"),
    ("experts_implementation", "x/y", "never fetched"),
    ("use_kernels", True, "never run"),
    ("quantization_config", {"quant_method": "fp8"}, "quantised"),
    ("num_labels", 10**9, "num_labels"),
]


@pytest.mark.parametrize("name", ["extended", "language_model"])
@pytest.mark.parametrize(("key", "value", "message"), CONFIG)
def test_what_no_configuration_says_is_refused_by_key(copy, name, key, value, message):
    folder = copy(name)
    edit(folder / "config.json", **{key: value})
    refused(name, folder, message, str(folder))


def test_a_code_of_pictures_that_the_model_has_no_row_for_is_refused(copy):
    folder = copy("chameleon")
    names = json.loads((folder / "config.json").read_text())["vocabulary_map"]
    name = next(name for name in names if name.startswith("IMGIMG"))
    edit(folder / "config.json", vocabulary_map={**names, name: 10**9})
    refused("chameleon", folder, str(folder), "index 1000000000 is out of bounds")


def test_how_attention_is_computed_is_not_the_checkpoints_to_say(copy):
    from unified.models import hf_checkpoint as checkpoint

    folder = copy("language_model")
    edit(folder / "config.json", _attn_implementation="flash_attention_2", auto_map={"x": "a--b.C"})
    assert checkpoint.load_hf(folder).config._attn_implementation in ("sdpa", "eager")


def test_an_adapter_beside_a_model_names_no_other_model(copy):
    folder = copy("language_model")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/etc"}')
    refused("language_model", folder, "adapter_config.json")


@pytest.mark.parametrize(
    "wrong",
    ["/etc/passwd", "../model.safetensors", "a/b.safetensors", "x.bin", "", 3, None, ["x"],
     "link.safetensors", "pipe.safetensors", "no.safetensors", "\x1b[2J.safetensors"],
)  # fmt: skip
def test_an_index_names_weights_in_its_folder_alone(copy, wrong):
    folder = copy("language_model")
    (folder / "link.safetensors").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.safetensors")
    index = folder / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    edit(index, weight_map={**names, next(iter(names)): wrong})
    refused("language_model", folder)
    edit(index, weight_map=wrong)
    refused("language_model", folder, "weight_map")


def test_an_index_whose_file_lacks_a_tensor_is_refused(copy):
    folder = copy("language_model")
    index = folder / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    first, other = sorted(set(names.values()))[:2]
    name = next(name for name, file in names.items() if file == first)
    edit(index, weight_map={**names, name: other})
    refused("language_model", folder, f"{other} has no '{name}'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "F99"}, "dtype 'F99'"),
        ({"shape": [10**12, 10**12]}, "but "),
        ({"shape": [-1]}, "has shape [-1]"),
        ({"shape": "x"}, "has shape 'x'"),
        ({"data_offsets": [0, 2**60]}, "data_offsets"),
        ({"data_offsets": [4, 0]}, "bytes"),
    ],
)
def test_a_header_is_judged_before_its_tensors(copy, change, message):
    folder = copy("extended")
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    text = json.dumps({**header, name: {**header[name], **change}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    refused("extended", folder, "is not a whole safetensors file", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [*x]", "anchor or alias"),
        ("[" * 5000, "nested deeper"),
        ("SPANS repeat: h -> repeat: 1000000000000", "at most 1,048,576"),
        ("SPANS repeat: h -> repeat: 1000000", "more than 1,048,576 ids together"),
        ("SPANS repeat: open -> repeat: -1", "found -1"),
        ("SPANS codes: image -> codes: [image]", "expected a name"),
        ("SPANS marker: <image> -> marker: [a]", "not among format.markers"),
    ],
)
def test_a_format_is_bounded(copy, text, message):
    folder = copy("pocket")
    manifest = folder / "unified.json"
    if text.startswith("SPANS "):
        before, _, after = text.removeprefix("SPANS ").partition(" -> ")
        source = json.loads(manifest.read_text())["format"]
        if after == "repeat: 1000000":
            source = source.replace("repeat: w", "repeat: 1000000")
        assert before in source
        text = source.replace(before, after)
    edit(manifest, format=text)
    refused("pocket", folder, message)


TEMPLATES = [
    ("{% for i in range(10**9) %}x{% endfor %}", "does not render (OverflowError"),
    ("{{ 'a' * 10**10 }}", "does not render (MemoryError"),
    ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "does not render (RecursionError"),
    ("{{ cycler.__init__.__globals__ }}", "does not render (SecurityError"),
    ("{{ ''.__class__ }}", "cannot be said as a format"),
    ("{{ raise_exception('\x1b[2J') }}", "\\x1b[2J"),
    ("x" * 1_500_000, "expected at most 1,000,000"),
    ("{% if %}", "TemplateSyntaxError"),
]


def test_a_chat_template_runs_within_limits_in_a_child(bases, tmp_path):
    from unified.formats.chat_format import chat_format
    from unified.vocabulary.text_tokenizer import TextTokenizer

    shutil.copytree(bases["language_model"], tmp_path / "model")
    for template, message in TEMPLATES:
        (tmp_path / "model" / "chat_template.jinja").write_text(template)
        with pytest.raises(ValueError) as error:
            chat_format(TextTokenizer.load(tmp_path / "model"))
        assert message in str(error.value), template
        assert str(error.value).isprintable()


def test_an_endless_template_is_ended_by_its_processor_time(bases, tmp_path, monkeypatch):
    from unified.formats.chat_template import _Renderer

    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    child = Path(_Renderer.__init__.__code__.co_filename).with_name("chat_child.py")
    quick = tmp_path / "chat_child.py"
    quick.write_text(child.read_text().replace("SECONDS = 10\n", "SECONDS = 1\n"))
    monkeypatch.setattr(
        "unified.formats.chat_template.__file__", str(tmp_path / "chat_template.py")
    )
    renderer = _Renderer(loops, {})
    with pytest.raises(ValueError, match="the limits of a template"):
        renderer.render([{"role": "user", "content": "x"}], False)
    assert renderer._process.returncode is not None


@pytest.mark.parametrize("kind", ["laughs", "fmt-cyclic"])
def test_the_cases_of_formats_are_refused(kind):
    path = Path(__file__).parents[3] / "shared" / "cases" / "models" / f"{kind}.yaml"
    if not path.exists():
        pytest.skip("the folder of cases is not here")
    from unified.formats.load import load_format

    with pytest.raises(ValueError, match="anchor or alias"):
        load_format(path)
