"""What is shipped: dependencies, package data, run files, and the commands that the texts name."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from unified_base.meta_device import on_meta_device

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = [
    ROOT / path for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
]
# Where the name that is imported differs from the name that is installed.
INSTALLED_AS = {"PIL": "pillow", "yaml": "pyyaml", "docx": "python-docx", "IPython": "ipykernel"}
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WEIGHTS_LIMIT = 40_000_000
# A line that installs the project which has the name `unified` in the public index.
ANOTHER_PROJECT = r"\bunified\[|pip3? install [^\n]*(?<![\w./-])unified(?![\w./-])"


def _names(requirements: list[str]) -> set[str]:
    matches = (re.match(r"[A-Za-z0-9_.-]+", line) for line in requirements)
    return {m[0].lower().replace("_", "-") for m in matches if m}


def test_the_packages_are_built_and_their_folders_shadow_nothing():
    names = ["unified", "unified_tokenizers", "unified_data", "unified_base"]
    assert [path.name for path in PACKAGES] == names
    assert all((path / "__init__.py").exists() for path in PACKAGES)
    assert not (ROOT / "tokenizers" / "__init__.py").exists()
    assert not (ROOT / "data" / "__init__.py").exists()
    assert not (ROOT / "base" / "__init__.py").exists()


def test_the_readme_is_read_in_one_sitting_and_its_links_lead_somewhere():
    assert (ROOT / "README.md").stat().st_size <= 15_000
    for path in TEXTS:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_every_import_is_a_declared_dependency():
    needed = _names(PROJECT["project"]["dependencies"])
    optional = PROJECT["project"]["optional-dependencies"]
    extras = _names([*chain(*optional.values())])
    serve = _names(optional["serve"])
    ours = {path.name for path in PACKAGES}
    bad = []
    for folder in PACKAGES:
        for path in sorted(folder.rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            top = {id(node) for node in tree.body}
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    modules = [node.module or ""]
                else:
                    continue
                for module in modules:
                    name = module.split(".")[0]
                    wanted = INSTALLED_AS.get(name, name).lower().replace("_", "-")
                    # What only an extra brings may be imported where it is used, not at the top.
                    allowed = needed if id(node) in top else needed | extras
                    if path.name == "lmms_eval_model.py":  # it imports us, and brings itself
                        allowed = allowed | {"lmms-eval"}
                    if path.parent.name == "serving":  # a room that is an extra as a whole
                        allowed = allowed | serve
                    if name not in sys.stdlib_module_names | ours and wanted not in allowed:
                        bad.append(f"{path.relative_to(ROOT)}:{node.lineno} imports {name}")
    assert not bad, "declare it in pyproject.toml"


def test_data_files_are_found_inside_the_packages():
    for package, name in (
        ("unified.formats", "presets/pocket.yaml"),
        ("unified.articles", "templates/article.css"),
        ("unified.articles", "templates/article.html"),
        ("unified.articles", "templates/package.opf"),
        ("unified.serving", "studio/index.html"),
        ("unified.serving", "studio/texts/zh.json"),
        ("unified_data", "templates/samples.html"),
        ("unified_base", "templates/cell.html"),
        ("unified_base", "templates/page.html"),
        ("unified_data.pocket", "atlas.png"),
        ("unified_data.pocket", "atlas.json"),
        ("unified_data.pocket", "subjects"),
        ("unified_data.world", "styles/twemoji.webp"),
        ("unified_data.world", "styles/index.json"),
        ("unified_data.world", "wordings"),
    ):
        data_file = resources.files(package) / name
        assert data_file.is_file() or data_file.is_dir(), f"{package}: {name}"


@pytest.mark.skipif(not (ROOT / ".git").exists() or not shutil.which("git"), reason="no checkout")
def test_no_data_file_of_a_package_is_ignored_by_git():
    """What git ignores is missing from a clone, and hatchling leaves it out of the wheel."""
    files = [
        str(path.relative_to(ROOT))
        for folder in PACKAGES
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".partial"
    ]
    done = subprocess.run(
        ["git", "check-ignore", "--stdin"], cwd=ROOT, input="\n".join(files), text=True,
        capture_output=True,
    )  # fmt: skip
    assert done.stdout.split() == []


def test_the_shipped_weights_keep_their_limit():
    weights = [path for folder in PACKAGES for path in folder.rglob("*.safetensors")]
    assert sum(path.stat().st_size for path in weights) <= WEIGHTS_LIMIT


def test_the_committed_sample_keeps_its_limit():
    files = [path for path in (ROOT / "data" / "sample").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 5_000_000


def test_the_command_points_at_something_that_runs():
    from importlib import import_module

    module, name = PROJECT["project"]["scripts"]["unified"].split(":")
    assert callable(getattr(import_module(module), name))


RUNS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_run_file_loads(path):
    """Through the function that the command uses, down to the shape of what is trained."""
    assert path.read_text("utf-8").startswith("# "), "open with what this is and its command"
    entries = yaml.safe_load(path.read_text("utf-8"))
    if "branches" in entries:
        from unified.matching.space_branches import make_branch
        from unified.matching.space_config import load_space_config

        with on_meta_device():
            for modality, own in load_space_config(path).branches.items():
                assert make_branch(modality, own, 16)
        return
    if "tower" in entries:
        from unified.matching.tower_config import load_config as load_tower_config
        from unified.matching.tower_files import make_parts
        from unified.vocabulary.text_tokenizer import TextTokenizer

        tower = load_tower_config(path)
        assert tower.tower is not None
        text = TextTokenizer.train(["a fox"], 256)
        with on_meta_device():
            assert make_parts(tower.tower, text, tower.size, tower.max_text_ids, str(path))
        return
    if "modality" in entries:
        from unified_tokenizers import VQAudioTokenizer, VQImageTokenizer
        from unified_tokenizers.diffusion import DiffusionDecoder
        from unified_tokenizers.training import load_config
        from unified_tokenizers.video import VQVideoTokenizer

        config = load_config(path)
        if config.diffusion is not None:
            shape = {"codebook_sizes": [9], "stride": 12, **config.diffusion}
            DiffusionDecoder.parse_config(shape)
            return
        kinds = {"image": VQImageTokenizer, "audio": VQAudioTokenizer, "video": VQVideoTokenizer}
        kind = kinds[config.modality]
        kind.parse_config(config.tokenizer)
        if config.modality == "audio":
            assert config.crop * kind.parse_config(config.tokenizer).hop % 512 == 0
    elif "sources" in entries:
        from unified.formats.load import load_format
        from unified.training.config import load_config as load_decoder_config

        run = load_decoder_config(path)
        assert run.sources
        load_format(run.format)
    else:
        from unified.formats.load import load_format

        load_format(path)


def _blocks(kind: str) -> list[str]:
    """The fenced blocks of a kind, in README and docs."""
    text = "\n".join(path.read_text("utf-8") for path in TEXTS)
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.S | re.M)


SHOWN = {block.split()[1]: block for block in _blocks("yaml") if "sources:" in block}


@pytest.mark.parametrize("block", SHOWN.values(), ids=SHOWN)
def test_every_run_that_the_readme_shows_loads(block, tmp_path):
    from unified.training.config import load_config

    path = tmp_path / "run.yaml"
    path.write_text(block, "utf-8")
    assert load_config(path).sources


@pytest.mark.parametrize("script", ["make_map.py", "make_commands.py", "make_systems.py"])
def test_what_is_made_of_the_code_is_up_to_date(script):
    done = subprocess.run([sys.executable, ROOT / "docs" / script, "--check"], check=False)
    assert done.returncode == 0, f"run python docs/{script}"


def test_the_map_says_of_every_file_what_it_holds():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    assert "| |" not in text.replace("  ", " ")


@pytest.mark.parametrize("path", [*TEXTS, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_a_file_that_a_text_names_is_there(path):
    """`unified/formats/spec.py` from the root, `spec.py` anywhere, as of a folder named before."""
    text = path.read_text("utf-8").split("<!-- What follows")[0]
    names = re.findall(r"`([a-z_0-9./-]+\.(?:py|toml))`", text)
    here = {file.name for folder in ("unified", "base", "tokenizers", "data", "benchmarks", "tests",
                                     "docs") for file in (ROOT / folder).rglob("*.py")}  # fmt: skip
    here |= {"pyproject.toml"}
    missing = [
        name
        for name in names
        if not ((ROOT / name).is_file() if name.count("/") > 1 else name.split("/")[-1] in here)
    ]
    assert not missing


def test_each_of_the_ten_questions_is_answered_by_two_files_at_most():
    head = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("## Follow")[0]
    rows = [line for line in head.splitlines() if line.startswith("|") and "?" in line]
    assert len(rows) >= 10
    for row in rows:
        assert 1 <= len(re.findall(r"`(?:\w+/)+[\w.-]+\.(?:py|yaml)`", row)) <= 2, row


def _resolve(name: str) -> object:
    """What a dotted name stands for, modules imported on the way."""
    from importlib import import_module

    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value: object = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            value = getattr(value, part)
        return value
    raise AssertionError(f"there is no {name}")


def test_the_python_reference_names_what_is_there():
    names = [
        name
        for page in sorted((ROOT / "docs" / "api").glob("*.md"))
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text("utf-8"), re.M)
    ]
    assert len(names) > 15
    for name in names:
        assert _resolve(name).__doc__, name


def test_every_page_is_in_the_navigation_of_the_site():
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").split("\nnav:")[1]
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages == set(re.findall(r"[\w/-]+\.md", nav))


def _commands() -> list[tuple[str, str]]:
    """(where, line) of every `unified ...` line in the texts: fenced blocks, comments, recipes."""
    commands = []
    texts = [*TEXTS, ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *RUNS]
    for path in texts:
        if not path.exists():
            continue
        text = re.sub(r"\\\n(# +)?", " ", path.read_text("utf-8"))
        if path.suffix == ".md":
            text = "\n".join(
                re.findall(r"^```(?:bash|sh|console|shell)?\n(.*?)^```", text, re.S | re.M)
            )
        for line in text.splitlines():
            match = re.match(r"(?:\$|#|\t\S*/(?=unified))?\s*(?:\S*/bin/)?(unified\s.*)", line)
            if match and not re.search(r"[\[\]{}…]|\.\.\.", match[1]):
                commands.append((path.relative_to(ROOT).as_posix(), match[1]))
    return commands


COMMANDS = _commands()


def test_the_texts_name_commands():
    assert any("unified write" in line for _, line in COMMANDS)


@pytest.mark.parametrize(("where", "line"), COMMANDS, ids=[f"{w}: {c}" for w, c in COMMANDS])
def test_every_command_that_a_text_names_parses(where, line):
    import typer

    from unified.cli.main import app

    words = shlex.split(line, comments=True)[1:]
    for end in (">", "|", "&&", ";"):
        if end in words:
            words = words[: words.index(end)]
    name: str | None = "unified"
    command: Any = typer.main.get_command(app)
    context: Any = None
    try:
        while hasattr(command, "resolve_command"):
            context = command.make_context(name, list(words), parent=context)
            name, command, words = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
        command.make_context(name, list(words), parent=context)
    except typer.Exit:
        assert {"--help", "-h", "--version"} & set(line.split())


def test_no_text_sends_anybody_to_another_project_of_the_same_name():
    """In the public index the name `unified` is somebody else's, and ours is in none."""
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile"]
    texts += [*ROOT.glob("*.toml"), *(ROOT / "configs").rglob("*.yaml")]
    texts += [path for folder in (*PACKAGES, ROOT / "benchmarks") for path in folder.rglob("*.py")]
    bad = [
        f"{path.relative_to(ROOT).as_posix()}: {line.strip()}"
        for path in texts
        for line in path.read_text("utf-8").splitlines()
        if re.search(ANOTHER_PROJECT, line)
    ]
    assert not bad


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ('pip install "unified[ray]"', True),
        ("python -m pip install unified", True),
        ("pip install -U unified torch", True),
        ("pip install unified==0.1", True),
        ('pip install "unified-tokens[ray] @ git+URL"', False),
        ("pip install -c constraints.txt .", False),
        ("pip install /home/me/unified/", False),
    ],
)
def test_an_install_line_of_the_other_project_is_seen(line, wrong):
    assert bool(re.search(ANOTHER_PROJECT, line)) is wrong


def test_the_distribution_has_a_name_of_its_own():
    assert PROJECT["project"]["name"] == "unified-tokens"
    for name in ("README.md", "docs/install.md", "docs/index.md"):
        text = (ROOT / name).read_text("utf-8")
        assert "unified-tokens" in text, name
        assert "PyPI" in text, name


def test_every_published_checkpoint_stands_in_its_page():
    from unified.models.pretrained import BUILT_IN, pretrained_models

    page = (ROOT / "docs" / "published.md").read_text("utf-8")
    models = pretrained_models()
    names = {name for each in BUILT_IN for name in models[each].checkpoints}
    assert len(names) >= 10
    assert {name for name in names if f"`{name}`" not in page} == set()
