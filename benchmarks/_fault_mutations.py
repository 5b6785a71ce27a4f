"""Mutations of a model folder: of one value of a JSON file, of one file's bytes, of a file's kind.

Each kind joins by one line in `MUTATIONS`; each is a function of the folder and a generator, so
that a case is known by its seed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BAD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 7, 10**6, 10**9, 10**12, -(10**12), 2**63, 10**30, 0.5, -1.5,
    1e300, "", "x", "0", "../../etc/passwd", "/etc/passwd", "\x1b[2J\u202e[/x]", "x" * 100_000, [],
    {}, [None], [[]], [1, 2, 3], ["x"], {"a": None}, {"": 1}, [0] * 5000, "float32", "sdpa",
    "kernels-community/x", "a/b:c", "linear", "yarn", "dynamic", "llama", "gemma3", "bert", 1e-300,
)  # fmt: skip
"""What a value is replaced by."""
_DEPTH = 100


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON value, the long lists', mappings' and nestings' only in part."""
    if path:
        yield path
    if len(path) >= _DEPTH:
        return  # an earlier mutation nested it deeper than generators can follow
    if isinstance(value, dict):
        for name in list(value)[:60]:
            yield from _places(value[name], (*path, name))
    elif isinstance(value, list):
        for at in range(min(len(value), 4)):
            yield from _places(value[at], (*path, at))


def mutate_value(value: Any, rng: random.Random) -> Any:
    """Remove or replace something in a JSON value."""
    places = list(_places(value))
    if not places:
        return rng.choice(BAD)
    path = rng.choice(places)
    holder = value
    for part in path[:-1]:
        holder = holder[part]
    kind = rng.randrange(10)
    if kind < 2:
        del holder[path[-1]]
    elif kind < 8:
        holder[path[-1]] = rng.choice(BAD)
    elif kind == 8:
        deep: Any = holder[path[-1]]
        for _ in range(rng.choice((70, 900))):
            deep = [deep] if rng.random() < 0.5 else {"a": deep}
        holder[path[-1]] = deep
    elif isinstance(holder, dict):
        holder[rng.choice(("x", "", "auto_map", "attn_implementation", "quantization_config"))] = (
            rng.choice(BAD)
        )
    return value


def _files(folder: Path, rng: random.Random, *suffixes: str) -> Path | None:
    paths = sorted(p for p in folder.rglob("*") if p.suffix in suffixes and p.is_file())
    return rng.choice(paths) if paths else None


def json_value(folder: Path, rng: random.Random) -> None:
    """One to three values of a JSON file; those of configurations more often."""
    path = _files(folder, rng, ".json")
    configs = sorted(folder.rglob("config.json"))
    if rng.random() < 0.4:
        path = rng.choice(configs)
    assert path is not None
    value = json.loads(path.read_text("utf-8"))
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = mutate_value(value, rng)
    try:
        path.write_text(json.dumps(value), "utf-8")
    except RecursionError:
        path.write_text("[" * 100_000, "utf-8")


def json_text(folder: Path, rng: random.Random) -> None:
    """The text of a JSON file: cut, nested, not JSON, with numbers that do not end."""
    path = _files(folder, rng, ".json", ".jinja")
    assert path is not None
    text = path.read_text("utf-8")
    at = rng.randrange(len(text) + 1)
    path.write_bytes(rng.choice((
        text[:at].encode(), b"", b"[" * 200_000, b'{"a":' * 100_000, b"[]", b"7", b"null", b'"x"',
        b'{"hidden_size": ' + b"9" * 5000 + b"}",
        text[:at].encode() + b"\xff\xfe" + text[at:].encode(),
        b"{" + b'"a": 1,' * 3 + b'"a": 2}', text.replace("1", "1e999").encode(),
        text.replace("0", "NaN").encode(), ("\ufeff" + text).encode(), text.encode("utf-16"),
        (text[:at] + "\x00" + text[at:]).encode(), b" " * 1_000_000 + text.encode(),
    )))  # fmt: skip


def file_kind(folder: Path, rng: random.Random) -> None:
    """A file that is something else: a pipe, a folder, a device, a loop, endless, gone."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    path = rng.choice(paths)
    kind = rng.randrange(9)
    if kind == 8:
        shutil.rmtree(path.parent if path.parent != folder else folder / "nothing", True)
        return
    path.unlink()
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        path.symlink_to("/dev/zero")
    elif kind == 4:
        path.write_bytes(b"")
    elif kind == 5:
        with path.open("wb") as file:
            file.truncate(20 << 30)
    elif kind == 6:
        path.write_bytes(rng.randbytes(rng.choice((1, 8, 100, 10_000))))


def weights(folder: Path, rng: random.Random) -> None:
    """A safetensors file: its header's length, its header, its bytes."""
    path = _files(folder, rng, ".safetensors")
    assert path is not None
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    kind = rng.randrange(6)
    if kind == 0:
        length = rng.choice((0, 1, length - 1, length + 1, 2**31, 2**40, 2**64 - 1))
        path.write_bytes(struct.pack("<Q", length) + data[8:])
    elif kind == 1:
        at = rng.randrange(len(data))
        path.write_bytes(data[:at])
    elif kind == 2:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 3))):
            changed[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(bytes(changed))
    else:
        try:
            text = json.dumps(mutate_value(header, rng)).encode()
        except RecursionError:
            text = b"[" * 100_000
        path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def index(folder: Path, rng: random.Random) -> None:
    """An index of shards that names other files, outside the folder, or none."""
    path = folder / "model.safetensors.index.json"
    if path.exists():
        entries = json.loads(path.read_text())
    else:
        files = sorted(folder.glob("*.safetensors"))
        data = files[0].read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        names = [name for name in json.loads(data[8 : 8 + length]) if name != "__metadata__"]
        entries = {"weight_map": dict.fromkeys(names, files[0].name), "metadata": {}}
    map_ = entries["weight_map"]
    name = rng.choice(list(map_))
    wrong = rng.choice((
        "/etc/passwd", "../model.safetensors", "sub/../../x.safetensors", "", ".", "x.bin", "\0",
        "no.safetensors", "out.safetensors", "a\nb.safetensors", "x" * 5000, 3, None, ["x"], {},
        "config.json", "/dev/zero", "fifo.safetensors",
    ))  # fmt: skip
    (folder / "out.safetensors").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo.safetensors")
    kind = rng.randrange(5)
    if kind < 3:
        map_[name] = wrong
    elif kind == 3:
        entries["weight_map"] = dict.fromkeys(map_, wrong)
    else:
        entries["weight_map"] = rng.choice(BAD)
    path.write_text(json.dumps(entries))


def format_text(folder: Path, rng: random.Random) -> None:
    """The format in unified.json: its values, and what YAML can do."""
    path = folder / "unified.json"
    if not path.exists():
        json_value(folder, rng)
        return
    import yaml

    entries = json.loads(path.read_text("utf-8"))
    text = entries["format"]
    if rng.random() < 0.8:
        try:
            text = yaml.safe_dump(mutate_value(yaml.safe_load(text), rng))
        except RecursionError:
            text = "[" * 50_000
    else:
        text = rng.choice((
            "a: &x [*x]", "&a [&b [*a, *b]]", "[" * 50_000, "!!python/name:os.system x", text[:200],
            text.replace("repeat: h", "repeat: 1000000000000"),
            text.replace("repeat: h", "repeat: 1000000000").replace("repeat: w", "repeat: 1000000"),
            text.replace("repeat: open", "repeat: -1"), text.replace("repeat: h", "repeat: 10**9"),
        ))  # fmt: skip
    entries["format"] = text
    path.write_text(json.dumps(entries))


def template(folder: Path, rng: random.Random) -> None:
    """A chat template that does not end, fills memory, or reaches for what it must not."""
    (folder / "chat_template.jinja").write_text(rng.choice((
        "{% for i in range(10**9) %}x{% endfor %}", "{{ 'a' * 10**10 }}", "{{ ''.__class__ }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "{{ messages[9].x.y }}", "{% if %}",
        "{{ 9**9**9 }}", "{% set x = 'a' * 10**6 %}{% for i in range(10**5) %}{{ x }}{% endfor %}",
        "{{ raise_exception('\x1b[2J' * 999) }}", "x" * 3_000_000, "", "{{ messages }}",
        "{% include '/etc/passwd' %}", "{{ cycler.__init__.__globals__ }}",
        "{{ '%1000000000d' % 1 }}", "{{ 'x'.ljust(10**10) }}",
    )), "utf-8")  # fmt: skip


MUTATIONS: dict[str, tuple[float, Callable[[Path, random.Random], None]]] = {
    "json_value": (0.55, json_value),
    "json_text": (0.1, json_text),
    "file_kind": (0.08, file_kind),
    "weights": (0.12, weights),
    "index": (0.07, index),
    "format_text": (0.07, format_text),
    "template": (0.01, template),
}
"""By name how often, and what changes a folder."""


def mutate(folder: Path, rng: random.Random) -> str:
    """Change a folder in one way; the way's name."""
    names = list(MUTATIONS)
    name = rng.choices(names, [MUTATIONS[n][0] for n in names])[0]
    MUTATIONS[name][1](folder, rng)
    return name
