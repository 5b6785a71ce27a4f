"""The studio's files: texts in both languages, and nothing that makes code or markup of strings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import fake_studio
import pytest

FOLDER = Path(str(resources.files("unified.serving") / "studio"))
MODULES = sorted(FOLDER.glob("*.js"))
CODE = "\n".join(path.read_text("utf-8") for path in MODULES)
TABLES = {
    name: json.loads((FOLDER / "texts" / f"{name}.json").read_text("utf-8"))
    for name in ("en", "zh")
}
# Keys that are put together: what stands before the part that varies.
STEMS = ("nav.", "theme.", "keys.", "export.", "status.", "play.template.", "modality.", "role.",
         "decoder.")  # fmt: skip


def test_both_languages_have_every_text_with_the_same_places_to_fill():
    english, chinese = TABLES["en"], TABLES["zh"]
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        names = set(re.findall(r"\{(\w+)\}", text))
        assert names == set(re.findall(r"\{(\w+)\}", chinese[key])), key
        assert text.strip()
        assert chinese[key].strip()


def test_every_text_that_a_module_asks_for_is_there_and_every_text_is_asked_for():
    keys = set(TABLES["en"])
    asked = set(re.findall(r"'((?:[a-z]+\.)+[a-z_0-9]+|[a-z]+)'", CODE))
    for key in re.findall(r"\bt\('([^']+)'", CODE):
        assert key in keys or {f"{key}.one", f"{key}.other"} <= keys, key
    for key in keys:
        stem = re.sub(r"\.(one|other)$", "", key)
        assert stem in asked or key in asked or key.startswith(STEMS), f"nothing asks for {key}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_no_module_reads_a_string_as_markup_or_code(path):
    text = path.read_text("utf-8")
    ways = (
        r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser"
        r"|createContextualFragment|\beval\b|new Function|javascript:|cssText|srcdoc\s*="
        r"|set(?:Timeout|Interval)\(\s*['\"`]|import\("
    )
    assert not re.findall(ways, text)


def test_the_page_has_nothing_inline_and_names_no_other_host():
    page = (FOLDER / "index.html").read_text("utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    for path in [*FOLDER.glob("*.css"), *MODULES, FOLDER / "index.html"]:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|url\(|@import", text), path.name
    for name in re.findall(r'(?:href|src)="/studio/([^"]+)"', page):
        assert (FOLDER / name).is_file(), name
    for name in re.findall(r"from '\./([^']+)'", CODE):
        assert (FOLDER / name).is_file(), name


def test_every_module_is_reached_from_the_first():
    reached, waiting = {"recorder_worklet.js"}, ["main.js"]  # a worklet is loaded by its address
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            text = (FOLDER / name).read_text("utf-8")
            waiting += re.findall(r"from '\./([^']+)'", text)
    assert {path.name for path in MODULES} == reached


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
def test_every_module_parses():
    for path in MODULES:
        done = subprocess.run(
            ["node", "--check", "--input-type=module"], input=path.read_bytes(), check=False
        )
        assert done.returncode == 0, path.name


def test_no_module_is_longer_than_one_can_hold():
    assert all(len(path.read_text("utf-8").splitlines()) <= 300 for path in MODULES)


def test_the_tests_serve_the_page_under_the_policy_of_the_real_server():
    pytest.importorskip("fastapi")
    from unified.serving.studio_page import PAGE_POLICY

    assert fake_studio.POLICY == PAGE_POLICY
    assert "unsafe" not in PAGE_POLICY
