"""Who may import whom, and that nothing dangerous or heavy is imported where it must not be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "unified": ROOT / "unified",
    "unified_tokenizers": ROOT / "tokenizers" / "unified_tokenizers",
    "unified_data": ROOT / "data" / "unified_data",
    "unified_base": ROOT / "base" / "unified_base",
}

# The rooms of `unified`, lowest first: each imports only from those before it, and from itself.
ROOMS = (
    "vocabulary",
    "formats",
    "sequence",
    "matching",
    "engine",
    "articles",
    "tasks",
    "models",
    "pocket",
    "world",
    "dataloading",
    "generating",
    "evaluation",
    "training",
    "serving",
    "cli",
)
# Modules that stand in no room: the package itself and `python -m unified`.
AT_THE_DOOR = {"__init__", "__main__"}


@dataclass(frozen=True)
class Import:
    """`module` (dotted) as imported by `where` (package.module), at a line.

    when: "load" at the top of the file, "call" inside a function, "types" for annotations only.
    """

    where: str
    module: str
    line: int
    when: str

    def __str__(self) -> str:
        return f"{self.where}:{self.line} imports {self.module}"


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import at line {node.lineno}"
        assert node.module is not None
        # `from unified import cli` names a module, `from unified.cli import app` something in it.
        if node.module in PACKAGES:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield node.module


def _walk(node: ast.AST, when: str) -> Iterator[tuple[ast.AST, str]]:
    for child in ast.iter_child_nodes(node):
        inside = when
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside = "call" if when != "types" else when
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inside = "types"
        yield child, inside
        yield from _walk(child, inside)


def _files() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            inner = path.relative_to(folder).with_suffix("").as_posix().replace("/", ".")
            yield f"{package}.{inner}", path


def imports() -> list[Import]:
    return [
        Import(where, name, getattr(node, "lineno", 0), when)
        for where, path in _files()
        for node, when in _walk(ast.parse(path.read_text("utf-8")), "load")
        for name in _names(node)
    ]


IMPORTS = imports()


def test_the_walk_sees_imports_at_load_at_call_and_for_types():
    loaded = {(each.where, each.module): each.when for each in IMPORTS}
    assert loaded["unified.sequence.sequencer", "unified.vocabulary.vocabulary"] == "load"
    assert loaded["unified.formats.chat_template", "transformers"] == "call"
    assert loaded["unified.__init__", "unified.vocabulary.vocabulary"] == "types"
    assert len(IMPORTS) > 200


@pytest.mark.parametrize("package", ["unified_tokenizers", "unified_data", "unified_base"])
def test_the_lower_packages_import_nothing_of_ours_but_the_base(package):
    others = {name for name in PACKAGES if name not in (package, "unified_base")}
    bad = [
        str(each)
        for each in IMPORTS
        if each.where.startswith(f"{package}.") and each.module.split(".")[0] in others
    ]
    assert not bad


def test_rooms_import_only_from_rooms_below_them():
    rank = {room: number for number, room in enumerate(ROOMS)}
    bad = []
    for each in IMPORTS:
        source, target = each.where.split("."), each.module.split(".")
        if source[0] != "unified" or target[0] != "unified":
            continue
        here = source[1]
        if here in AT_THE_DOOR:  # it names modules as strings; only types are imported
            if here == "__init__" and each.when != "types" and "." in each.module:
                bad.append(str(each))
            continue
        there = target[1] if len(target) > 1 else ""
        if there not in rank:  # a name that unified/__init__.py offers
            bad.append(f"{each}: name the module that has it")
        elif rank[there] > rank[here]:
            bad.append(f"{each}: {there} stands above {here}")
    assert not bad


def _dependencies() -> dict[str, set[str]]:
    """Of each module of ours those that it imports, whenever and for whatever."""
    graph: dict[str, set[str]] = {where.removesuffix(".__init__"): set() for where, _ in _files()}
    for where, path in _files():
        module = where.removesuffix(".__init__")
        for node, _ in _walk(ast.parse(path.read_text("utf-8")), "load"):
            targets = set(_names(node))
            if isinstance(node, ast.ImportFrom):  # `from unified.cli import options`: a module too
                targets |= {f"{node.module}.{alias.name}" for alias in node.names}
            graph[module] |= {name for name in targets if name in graph and name != module}
    return graph


def _circles(graph: dict[str, set[str]]) -> set[tuple[str, ...]]:
    """The sets of modules each of which leads to all others of its set."""
    reached: dict[str, set[str]] = {}
    for module in graph:
        ahead, seen = [module], set[str]()
        while ahead:
            following = graph[ahead.pop()] - seen
            seen |= following
            ahead += following
        reached[module] = seen
    return {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in graph
        if module in reached[module]
    }


def test_circles_are_seen_by_their_members():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert _circles(graph) == {("a", "b", "c")}


def test_no_modules_import_each_other_in_a_circle():
    """Types count as well: who reads a module should need only what is below it."""
    assert not _circles(_dependencies())


def test_a_public_class_has_a_name_of_its_own():
    homes: dict[str, list[str]] = {}
    for where, path in _files():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(where)
    shared = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert not shared


def test_every_module_of_unified_stands_in_a_room():
    """A new room is put into ROOMS above, between those that it imports and those that need it."""
    folder = PACKAGES["unified"]
    assert {path.stem for path in folder.glob("*.py")} == AT_THE_DOOR
    assert {path.parent.name for path in folder.glob("*/__init__.py")} == set(ROOMS)


def test_documents_and_worlds_load_without_torch():
    heavy = {"torch", "torchaudio", "webdataset", "transformers"}
    bad = [
        str(each)
        for each in IMPORTS
        if each.where.startswith("unified_data.")
        and each.module.split(".")[0] in heavy
        and each.when == "load"
    ]
    assert not bad


def test_torchaudio_is_imported_in_one_file():
    assert {each.where for each in IMPORTS if each.module.startswith("torchaudio")} == {
        "unified_tokenizers.spectral"
    }


def test_nothing_is_ever_unpickled():
    forbidden = {
        "pickle",
        "_pickle",
        "cPickle",
        "dill",
        "cloudpickle",
        "joblib",
        "shelve",
        "marshal",
    }
    # numba hands its machine code over as a pickle. That one is loaded only where its checksum and
    # the owner of its file show that nobody else wrote it: machine code runs in any form.
    allowed = {("unified.engine.backends.cpu.kernel_cache", "pickle")}
    bad = [
        str(each)
        for each in IMPORTS
        if each.module.split(".")[0] in forbidden and (each.where, each.module) not in allowed
    ]
    for where, path in _files():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            # `unified tokenizer convert`, and nothing else, reads weights that were published as a
            # pickle alone: with weights_only, which calls nothing that the pickle names, in a child
            # process with limits.
            if (where, called) == ("unified_tokenizers.convert_child", "torch.load"):
                assert "weights_only=True" in ast.unparse(node)
                continue
            if ast.unparse(node) == "exec('')":  # runs nothing; `unified.__main__` says what for
                continue
            unsafe_yaml = called == "yaml.load" and "Loader" not in ast.unparse(node)
            if (
                called in ("torch.load", "torch.save", "yaml.unsafe_load", "eval", "exec")
                or unsafe_yaml
            ):
                bad.append(f"{where}:{node.lineno} calls {called}")
            pickles = any(
                word.arg == "allow_pickle" and ast.unparse(word.value) != "False"
                for word in node.keywords
            )
            if pickles:
                bad.append(f"{where}:{node.lineno} allows pickles")
    assert not bad


def _python(code: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_transformers_imports_at_the_repository_root():
    """Were the folder `tokenizers` a package, it would shadow Hugging Face's here."""
    loaded = Path(_python("import transformers, tokenizers; print(tokenizers.__file__)"))
    assert ROOT / "tokenizers" not in loaded.parents
    assert (loaded.parent / "decoders").exists() or loaded.name == "__init__.py"


def test_the_public_packages_and_the_command_line_load_nothing_heavy():
    heavy = _python(
        "import sys, unified, unified_tokenizers, unified_data, unified.cli.main\n"
        "print(*{'torch', 'transformers', 'numpy', 'yaml', 'PIL'} & set(sys.modules))"
    )
    assert heavy == ""
