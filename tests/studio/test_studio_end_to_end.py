"""The page before the real server and the shipped model: a short article, and one of its parts."""

from __future__ import annotations

import pytest

pytest.importorskip("fastapi")


@pytest.fixture(scope="module")
def studio(chromium, tmp_path_factory):
    """The address of a studio with an empty library."""
    from running_server import running_server

    from unified import UnifiedModel
    from unified.serving.article_library import ArticleLibrary

    with (
        ArticleLibrary(tmp_path_factory.mktemp("library")) as library,
        running_server(UnifiedModel.from_pretrained("pocket"), library=library) as running,
    ):
        yield f"http://127.0.0.1:{running.port}"


@pytest.mark.slow
def test_a_short_article_is_written_changed_and_there_when_the_page_is_loaded_anew(
    open_page, studio
):
    page = open_page(base=studio)
    assert page.locator(".chip").count() > 3  # subjects that the model knows
    page.get_by_label("What is the article about?").fill("The cat")
    page.get_by_label("Wishes").fill("one picture, no narration")
    page.get_by_label("Seed").first.fill("1")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".article-editor .picture img")
    assert "cat" in page.locator(".article h2").inner_text().lower()
    assert page.locator(".article p").count() > 0
    first = page.locator(".picture img").first.get_attribute("src")
    button = page.get_by_role("button", name="New picture").first
    button.focus()
    button.press("Enter")
    # The shipped model draws this one alike with any seed: that is told, and nothing has changed.
    page.get_by_role("button", name="Try bolder").wait_for()
    assert page.locator(".picture img").first.get_attribute("src") == first
    page.evaluate("location.hash = '#/library'")
    page.locator(".card img").wait_for()
    page.reload()
    page.locator(".card-link").click()
    page.wait_for_selector(".article-view .picture img")
    assert page.locator(".picture img").first.get_attribute("src") == first
