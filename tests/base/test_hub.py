"""The one function that fetches from the hub, and what it calls a name."""

from pathlib import Path

import huggingface_hub
import pytest

from unified_base.hub import fetch_files, is_hub_name


def test_a_name_is_a_string_of_two_parts():
    assert is_hub_name("facebook/encodec_24khz")
    for other in ("pocket", "a/b/c", "/a/b", "./a", "~/x", Path("org/name"), None, "org/"):
        assert not is_hub_name(other)


def test_options_go_to_the_hub_and_its_errors_are_one_line(monkeypatch, tmp_path):
    calls = []

    def download(name, **options):
        calls.append((name, options))
        if options["revision"]:
            raise OSError("no\nway there")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert fetch_files("org/name", ("*.json",), local_files_only=True) == tmp_path
    assert calls[0][1]["allow_patterns"] == ["*.json"]
    assert calls[0][1]["local_files_only"] is True
    with pytest.raises(ValueError, match="gave OSError for revision 'v2': no way there") as caught:
        fetch_files("org/name", ("*",), revision="v2")
    assert "\n" not in str(caught.value)
