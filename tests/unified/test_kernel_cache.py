"""Compiled loops on disk: damaged, of others, of another processor, unwritable, several at once."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from unified.engine.backends.cpu import kernel_cache
from unified.engine.backends.cpu.kernel_cache import (
    DamagedError,
    UntrustedError,
    read_checked,
    write_checked,
)

ROOT = Path(__file__).parents[2]
KEY = {"function": "f", "machine": ["a processor"]}
# The smallest of what is compiled: a second instead of ten.
PACK = (
    "import numpy as np; from unified.engine.backends.cpu.matmul import pack; "
    "print(pack(np.arange(12, dtype=np.float32).reshape(3, 4)).sum())"
)
COUNTED = (
    PACK
    + "; from unified.engine.backends.cpu.matmul import pack_into"
    + "; print(sum(pack_into.stats.cache_hits.values()))"
)


def start(
    code: str, path: Path = ROOT, like_others: bool = False, **environment: str
) -> subprocess.Popen[str]:
    """like_others: what the modes of files and folders forbid is forbidden to root too."""
    folders = [path, path / "tokenizers", path / "data", path / "base"]
    cleared = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    env = {**cleared, "PYTHONPATH": os.pathsep.join(map(str, folders)), **environment}
    command = [sys.executable, "-c", code]
    if like_others and os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and there is no setpriv")
        rights = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={rights}", "--inh-caps=-all", *command]
    return subprocess.Popen(
        command, env=env, cwd=path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def run(
    code: str, path: Path = ROOT, like_others: bool = False, **environment: str
) -> tuple[list[str], list[str]]:
    """Lines of stdout and stderr of a process that ends well."""
    process = start(code, path, like_others, **environment)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out.splitlines(), err.splitlines()


def test_what_was_written_is_read(tmp_path):
    assert read_checked(tmp_path, "f.1", KEY) is None
    write_checked(tmp_path, "f.1", KEY, b"code")
    assert read_checked(tmp_path, "f.1", KEY) == b"code"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("end", ["nbi", "nbc"])
def test_every_damaged_byte_and_every_cut_is_noticed(tmp_path, end):
    write_checked(tmp_path, "f.1", KEY, b"code")
    (path,) = tmp_path.glob(f"*.{end}")
    whole = path.read_bytes()
    damaged = [whole[:at] for at in range(len(whole))]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    damaged += [whole + b"x", os.urandom(len(whole))]
    for data in damaged:
        path.write_bytes(data)
        try:
            code = read_checked(tmp_path, "f.1", KEY)
        except DamagedError:
            continue
        # The name of code that is not there.
        assert code is None, data


def test_code_of_another_key_is_not_used(tmp_path):
    write_checked(tmp_path, "f.1", {**KEY, "machine": ["another processor"]}, b"code")
    with pytest.raises(DamagedError):
        read_checked(tmp_path, "f.1", KEY)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners as Unix has them")
@pytest.mark.parametrize("end", ["nbi", "nbc"])
def test_what_others_may_write_is_not_loaded(tmp_path, end):
    write_checked(tmp_path, "f.1", KEY, b"code")
    (path,) = tmp_path.glob(f"*.{end}")
    path.chmod(0o666)
    with pytest.raises(UntrustedError):
        read_checked(tmp_path, "f.1", KEY)
    path.chmod(0o644)
    assert read_checked(tmp_path, "f.1", KEY) == b"code"
    if os.getuid() == 0:
        os.chown(path, 65534, 65534)
        with pytest.raises(UntrustedError):
            read_checked(tmp_path, "f.1", KEY)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners as Unix has them")
def test_files_are_for_their_writer_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_checked(tmp_path, "f.1", KEY, b"code")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder with the compiled function, as the first process leaves it."""
    folder = tmp_path_factory.mktemp("filled")
    assert run(COUNTED, NUMBA_CACHE_DIR=str(folder)) == (["66.0", "0"], [])
    assert run(COUNTED, NUMBA_CACHE_DIR=str(folder)) == (["66.0", "1"], [])
    return folder


@pytest.fixture
def compiled(filled, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(filled, tmp_path / "compiled")


def test_damaged_files_are_compiled_anew_with_one_note(compiled):
    for damage in (b"", b"garbage", None):  # None: torn
        files = list(compiled.rglob("*.nb[ci]"))
        assert len(files) == 2
        for path in files:
            path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
        out, err = run(COUNTED, NUMBA_CACHE_DIR=str(compiled))
        assert out == ["66.0", "0"]
        assert len(err) == 1
        assert err[0].startswith("note: a compiled kernel on disk is compiled anew: ")
    assert run(COUNTED, NUMBA_CACHE_DIR=str(compiled)) == (["66.0", "1"], [])


def test_code_for_another_processor_is_another_file(compiled):
    environment = {"NUMBA_CACHE_DIR": str(compiled)}
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert run(COUNTED, **environment, **other) == (["66.0", "0"], [])
    assert run(COUNTED, **environment) == (["66.0", "1"], [])
    assert run(COUNTED, **environment, **other) == (["66.0", "1"], [])


def test_code_of_another_numba_is_another_file(monkeypatch):
    cache = kernel_cache.KernelCache(run)

    class Codegen:
        def magic_tuple(self):
            return ("system", "processor", "+features")

    before = cache._named(("float32",), Codegen())
    monkeypatch.setattr(kernel_cache, "version", lambda package: "999")
    after = cache._named(("float32",), Codegen())
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_first_starts_at_once_and_killed_ones(tmp_path):
    """Processes that compile into one folder, some of them killed wherever they are."""
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)}
    killed = [start(PACK, **environment) for _ in range(2)]
    whole = [start(PACK, **environment) for _ in range(2)]
    for process in killed:
        process.kill()
        process.communicate()
    for process in whole:
        out, err = process.communicate()
        assert (process.returncode, out, err) == (0, "66.0\n", "")
    assert run(COUNTED, **environment) == (["66.0", "1"], [])


def test_files_of_older_sources_and_abandoned_ones_go(compiled):
    environment = {"NUMBA_CACHE_DIR": str(compiled)}
    (index,) = compiled.rglob("*.nbi")
    (code,) = compiled.rglob("*.nbc")
    stem, folder = index.stem.rpartition(".")[0], index.parent
    older = [folder / f"{stem}.0123456789ab.nbi", folder / f"{stem}.0123456789ab.ff.nbc"]
    left = folder / f".{index.name}.12345678.partial"
    for path in (*older, left):
        path.write_bytes(b"x")
    os.utime(left, (0, 0))
    index.unlink()
    assert run(PACK, **environment) == (["66.0"], [])
    assert {path.suffix for path in folder.iterdir()} == {".nbi", ".nbc"}
    assert not any(path.exists() for path in older)
    assert index.exists()
    assert code.suffix == ".nbc"


@pytest.fixture
def opened(tmp_path):
    """A folder whose folders may be closed, until they are to go."""
    yield tmp_path
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)


@pytest.fixture
def installed(opened):
    """The packages without anything compiled, in a folder that cannot be written."""
    folder = opened / "installed"
    for name in ("unified", "tokenizers", "data", "base"):
        shutil.copytree(
            ROOT / name, folder / name,
            ignore=shutil.ignore_patterns("__pycache__", "*.safetensors", "*.npz", "*.png"),
        )  # fmt: skip
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


@pytest.mark.slow
def test_where_nothing_can_be_written_a_temporary_folder_serves(installed, opened):
    temporary = opened / "temporary"
    temporary.mkdir()
    temporary.chmod(0o777)
    environment = {"TMPDIR": str(temporary), "HOME": "/dev/null/home", "XDG_CACHE_HOME": ""}
    out, err = run(COUNTED, installed, True, **environment)
    assert out == ["66.0", "0"]
    assert len(err) == 1
    assert err[0].startswith("note: compiled kernels are kept in a temporary folder: ")
    assert run(COUNTED, installed, True, **environment) == (["66.0", "1"], [])
    (own,) = temporary.iterdir()
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


@pytest.mark.slow
def test_where_nothing_at_all_can_be_written_there_is_no_cache(installed):
    code = "import tempfile; tempfile.tempdir = '/dev/null/home'; " + COUNTED
    environment = {
        "HOME": "/dev/null/home",
        "NUMBA_CACHE_DIR": "/dev/null/either",
        "XDG_CACHE_HOME": "",
    }
    out, err = run(code, installed, True, **environment)
    assert out == ["66.0", "0"]
    assert len(err) == 1
    assert err[0].startswith("note: compiled kernels are not kept: ")


@pytest.mark.slow
def test_a_folder_of_somebody_else_in_the_temporary_one_is_not_used(installed, opened):
    if os.getuid():
        pytest.skip("needs to act as two users")
    temporary = opened / "temporary"
    trap = temporary / f"unified-kernels-{os.getuid()}"
    trap.mkdir(parents=True)
    os.chown(trap, 65533, 65533)
    for folder in (temporary, trap):
        folder.chmod(0o777)
    environment = {"TMPDIR": str(temporary), "HOME": "/dev/null/home", "XDG_CACHE_HOME": ""}
    out, err = run(COUNTED, installed, True, **environment)
    assert out == ["66.0", "0"]
    assert [line.partition(": ")[2].partition(":")[0] for line in err] == [
        "compiled kernels are not kept"
    ]
    assert not list(trap.iterdir())


def test_loading_imports_nothing_that_compiling_needs_and_compiling_works_after_it(tmp_path):
    code = (
        "import sys; "
        + COUNTED
        + "; print({'numba.np.arraymath', 'scipy.linalg'} & set(sys.modules))"
        + "; print(pack(np.arange(4, dtype=np.uint16).reshape(2, 2)).sum())"
        + "; print(sum(pack_into.stats.cache_hits.values()))"
    )
    run(PACK, NUMBA_CACHE_DIR=str(tmp_path))
    out, err = run(code, NUMBA_CACHE_DIR=str(tmp_path))
    assert out == ["66.0", "1", "set()", "6", "1"]
    assert err == []


@pytest.mark.parametrize("arguments", [["subjects"], ["--help"], ["draw", "--help"]])
def test_commands_without_kernels_import_no_numba(arguments):
    code = (
        f"import sys; from unified.__main__ import run; code = run({arguments!r}); "
        "print('numba' in sys.modules, code)"
    )
    out, err = run(code, NUMBA_CACHE_DIR="/dev/null/home", HOME="/dev/null/home")
    assert out[-1] == "False 0"
    assert err == []
