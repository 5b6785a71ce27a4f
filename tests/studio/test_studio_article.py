"""What can be changed in an article on the page, and what it then asks of the server."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from studio_articles import picture

TEXT, SOUND, MORE, PICTURE, LAST = 1, 2, 3, 4, 5  # segments behind the prompt


def patches(fake):
    return [(int(path.split("/")[-1]), body) for method, path, body in fake.asked
            if method == "PATCH"]  # fmt: skip


def press(page, name, inside=".article-editor"):
    """Press a button, as from the keyboard: the tools of a block come into sight by focus."""
    button = page.locator(inside).get_by_role("button", name=name).first
    button.focus()
    button.press("Enter")


def settled(page):
    page.locator(".article-editor[aria-busy]").wait_for(state="detached")


def changed(page, fake):
    """The first change that the server was asked for, once it is done: a file is read before."""
    while not patches(fake):
        page.wait_for_timeout(20)
    settled(page)
    return patches(fake)[0]


def test_a_picture_anew_keeps_the_old_one_beside_it(write, fake):
    page = write()
    first = page.locator(".picture img").get_attribute("src")
    press(page, "New picture")
    index, body = changed(page, fake)
    assert (index, body["action"]) == (PICTURE, "regenerate")
    assert isinstance(body["seed"], int)
    second = page.locator(".picture img").get_attribute("src")
    assert second != first
    press(page, "1 alternative")
    dialog = page.get_by_role("dialog")
    dialog.locator("img").nth(1).wait_for()
    addresses = "all => all.map((each) => each.getAttribute('src'))"
    assert dialog.locator("img").evaluate_all(addresses) == [second, first]
    dialog.get_by_role("button", name="Use alternative 1").click()
    settled(page)
    assert patches(fake)[1] == (PICTURE, {"action": "choose", "alternative": 0})
    assert page.locator(".picture img").get_attribute("src") == first


def test_a_paragraph_and_a_narration_anew(write, fake):
    page = write()
    press(page, "Write anew", ".article-editor .text-block:has-text('second section')")
    settled(page)
    assert "rewritten section" in page.locator(".article").inner_text()
    press(page, "New narration")
    settled(page)
    (text, first), (sound, second) = patches(fake)
    assert (text, first["action"], first["block"]) == (LAST, "regenerate", 1)
    assert (sound, second["action"]) == (SOUND, "regenerate")
    assert "block" not in second


def test_undo_and_redo_by_buttons_and_keys(write, fake):
    page = write()
    undo = page.get_by_role("button", name="Undo")
    assert undo.is_disabled()
    first = page.locator(".picture img").get_attribute("src")
    press(page, "New picture")
    settled(page)
    second = page.locator(".picture img").get_attribute("src")
    undo.click()
    settled(page)
    assert page.locator(".picture img").get_attribute("src") == first
    page.locator("#main").focus()
    page.keyboard.press("Control+Shift+Z")
    page.locator(f".picture img[src='{second}']").wait_for()
    page.keyboard.press("Control+Z")
    page.locator(f".picture img[src='{first}']").wait_for()


@pytest.mark.parametrize("rewrite", [False, True])
def test_a_text_is_edited_and_what_follows_kept_or_written_anew(write, fake, rewrite):
    page = write()
    block = ".article-editor .text-block:has-text('first paragraph')"
    press(page, "Edit", block)
    area = page.get_by_label("Text of this part")
    assert area.input_value().startswith("It is seen")
    area.fill("My own words.")
    page.get_by_role(
        "button", name="Write on from here" if rewrite else "Keep what follows"
    ).click()
    index, body = changed(page, fake)
    assert (index, body["action"]) == (MORE, "edit")
    if rewrite:  # the text ends where it was changed
        assert body["text"] == "\n\nMy own words."
        assert body["then"] == "rewrite"
        assert isinstance(body["seed"], int)
    else:
        assert body == {
            "action": "edit", "then": "keep", "text": "\n\nMy own words.\n\n![a zebra]",
        }  # fmt: skip
    assert "My own words." in page.locator(".article").inner_text()
    assert page.locator(".picture img").count() == 1


def test_escape_leaves_a_text_as_it_was(write, fake):
    page = write()
    press(page, "Edit", ".article-editor .text-block:has-text('first paragraph')")
    page.get_by_label("Text of this part").fill("Not this.")
    page.keyboard.press("Escape")
    assert "Not this." not in page.locator(".article").inner_text()
    assert page.evaluate("document.activeElement.textContent") == "Edit"
    assert not patches(fake)


@pytest.mark.parametrize("answer", ["Keep it", "Write on from here"])
def test_an_own_picture_is_dropped_in(write, fake, answer):
    page = write()
    own = picture(5)
    page.evaluate(
        """(data) => {
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], 'own.png', { type: 'image/png' }));
          for (const type of ['dragover', 'drop']) {
            document.querySelector('.figure.editable').dispatchEvent(
              new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer }));
          }
        }""",
        base64.b64encode(own).decode(),
    )  # fmt: skip
    page.get_by_role("dialog").get_by_role("button", name=answer).click()
    index, body = changed(page, fake)
    assert (index, body["action"]) == (PICTURE, "replace")
    assert base64.b64decode(body["media"]) == own
    assert body["then"] == ("keep" if answer == "Keep it" else "continue")
    assert page.locator(".article h3").inner_text() == "Home"


def test_a_file_of_another_kind_is_refused_on_the_page(write, fake):
    page = write()
    with page.expect_file_chooser() as chooser:
        press(page, "Use a file of my own", ".article-editor .figure")
    chooser.value.set_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"words"})
    page.get_by_text("“a.txt” is no picture.").first.wait_for()
    assert not patches(fake)


def test_what_the_server_refuses_leaves_the_article(write, fake):
    page = write()
    before = fake.change

    def refuse(id, index, body):
        yield {"type": "error", "message": "it is full", "code": "full"}

    fake.change = refuse
    press(page, "New narration")
    page.get_by_text("That did not work: it is full").first.wait_for()
    settled(page)
    fake.change = before
    assert page.locator(".article h2").inner_text() == "The zebra"


def test_an_article_is_exported_duplicated_and_deleted(write, fake):
    page = write()
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="Web page").click()
    assert download.value.suggested_filename == "a.html"
    assert Path(download.value.path()).read_bytes() == b"a file"
    assert page.get_by_role("menuitem").count() == 0  # closed, and only what the server has
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Duplicate").click()
    page.get_by_text("There is a copy in the library.").first.wait_for()
    assert len(fake.articles) == 2
