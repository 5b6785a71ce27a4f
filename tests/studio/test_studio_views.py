"""Library, playground and training; keys, languages, appearance, the server's key."""

from __future__ import annotations

import pytest


def asked(fake, path):
    return [body for _, each, body in fake.asked if each == path]


def stored(fake, *prompts):
    for prompt in prompts:
        list(fake.write(fake.begin(prompt), prompt))


def test_the_library_finds_deletes_and_brings_back(open_page, fake, until):
    stored(fake, "zebra", "cat")
    page = open_page("#/library")
    cards = page.locator(".card h2")
    cards.first.wait_for()
    assert cards.all_inner_texts() == ["The cat", "The zebra"]
    page.get_by_label("Search articles").fill("zeb")
    page.locator(".card").nth(1).wait_for(state="detached")
    assert cards.all_inner_texts() == ["The zebra"]
    page.get_by_role("button", name="Actions for The zebra").click()
    page.keyboard.press("ArrowUp")  # the last entry
    page.keyboard.press("Enter")
    page.get_by_text("Nothing is about “zeb”").wait_for()
    assert len(fake.articles) == 1
    page.locator(".toast").get_by_role("button", name="Undo").click()
    cards.first.wait_for()
    assert len(fake.articles) == 2
    page.locator(".card-link").click()
    page.wait_for_selector(".article-view .article-editor")
    until(page, "document.title === 'The zebra · unified studio'")


def test_an_article_that_is_not_there_is_told(open_page, fake):
    page = open_page("#/article/ffffffffffffffff")
    page.locator(".notice.bad").wait_for()
    page.faults.clear()  # the browser's own line about the status 404


def test_the_playground_fills_slots_side_by_side_and_shows_the_ids(open_page, fake):
    page = open_page("#/playground")
    page.get_by_label("Samples", exact=True).fill("3")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_role("button", name="Fill the slots").click()
    page.locator(".sample .picture img").nth(2).wait_for()
    (body,) = asked(fake, "/v1/playground/complete")
    assert body == {
        "samples": 3, "temperature": 0.5,
        "document": {"segments": [
            {"type": "text", "text": "![a giant panda]", "role": "prompt"},
            {"type": "slot", "modality": "image", "role": "response"},
        ]},
    }  # fmt: skip
    page.locator(".sample").nth(1).get_by_role("button", name="See its ids").click()
    page.locator(".token").nth(3).wait_for()
    kinds = page.locator(".token").evaluate_all("all => all.map(each => each.className)")
    assert kinds == ["token marker", "token text", "token image", "token audio"]
    page.locator(".tokens").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="Position 1").wait_for()
    assert asked(fake, "/v1/playground/allowed")[-1]["position"] == 1
    assert "256" in page.locator(".allowed").inner_text()


def test_a_document_is_put_together_and_recorded_into(open_page, fake):
    page = open_page("#/playground", permissions=["microphone"])
    page.get_by_role("button", name="Listen", exact=True).click()
    page.locator(".segment.audio").get_by_role("button", name="Microphone").click()
    page.locator(".recording", has_text="0:01").wait_for()
    page.get_by_role("button", name="Use the recording").click()
    page.locator(".segment.audio .narration").wait_for()
    page.get_by_role("button", name="Add").click()
    page.get_by_role("menuitem", name="Text").click()
    page.locator(".segment").last.get_by_label("Text").fill("What is it?")
    page.locator(".segment").last.get_by_role("button", name="Move up").click()
    page.get_by_role("button", name="Fill the slots").click()
    page.locator(".sample .picture img").first.wait_for()
    sound, text, slot = asked(fake, "/v1/playground/complete")[0]["document"]["segments"]
    assert sound["data"].startswith("UklGR")  # RIFF
    assert text == {"type": "text", "text": "What is it?", "role": "prompt"}
    assert slot["modality"] == "text"


def test_training_shows_curves_by_modality_and_samples_by_step(open_page, fake):
    page = open_page("#/training")
    page.locator(".run-sample img").wait_for()
    assert page.locator(".chart figcaption").all_inner_texts() == ["loss", "lr"]
    assert (
        page.locator(".chart").first.locator(".plot .curve.text, .plot .curve.image").count() == 2
    )
    page.get_by_label("Logarithmic").check()
    page.locator(".chart").first.locator("summary").click()
    cells = page.locator(".chart").first.locator("tbody tr").first
    assert cells.inner_text().split() == ["0", "3", "3"]
    page.get_by_label("Step").select_option("10")
    assert page.locator(".run-sample h2").inner_text() == "The cat"
    assert page.locator(".run-sample img").count() == 0


def test_keys_open_the_views_and_the_list_of_keys(page):
    page.locator("#main").focus()
    for key, view in (("l", "library"), ("p", "playground"), ("t", "training"), ("w", "write")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_selector(f".{view}-view")
        assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.required")
    page.keyboard.type("?gl")  # letters, where something is typed
    assert page.get_by_role("dialog").count() == 0
    page.locator("#main").focus()
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")


def test_the_first_tab_skips_to_the_content(page):
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_language_and_appearance_are_chosen_and_remembered(page):
    page.get_by_role("button", name="Appearance: as the system").click()
    page.get_by_role("button", name="Appearance: light").click()
    page.get_by_role("button", name="Language: English").click()
    page.get_by_role("link", name="文库").wait_for()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.get_by_role("button", name="开始写").is_visible()
    assert page.get_by_role("button", name="熊猫").is_visible()  # subjects by their Chinese names


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone(open_page, fake, until, width):
    stored(fake, "zebra")
    page = open_page(viewport={"width": width, "height": 700}, has_touch=True, is_mobile=True)
    for view in ("write", "library", "playground", "training", f"article/{1:016x}"):
        page.evaluate("name => { location.hash = `#/${name}`; }", view)
        until(page, "document.querySelector('main').textContent.length > 20")
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view


def test_the_servers_key_is_asked_for_and_kept_in_this_tab(chromium, fake, serving):
    stored(fake, "zebra")
    fake.key = "secret"
    context = chromium.new_context(locale="en-US")
    page = context.new_page()
    page.set_default_timeout(300_000)
    page.goto(f"{serving[1]}/#/library")
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("That is not its key.").wait_for()
    page.get_by_label("API key").fill("secret")
    page.keyboard.press("Enter")
    page.locator(".card img").wait_for()
    assert page.locator(".card img").get_attribute("src").startswith("blob:")
    context.close()
