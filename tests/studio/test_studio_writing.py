"""The article grows on the page as it is written: text, rows of pictures, sound; and Stop."""

from __future__ import annotations

LABEL = "What is the article about?"


def test_an_article_grows_in_reading_order_and_can_then_be_changed(page, fake):
    fake.delay = 0.02
    page.evaluate(
        """() => {
          window.seen = { text: 0, rows: new Set(), sounds: 0, progress: '' };
          const start = AudioBufferSourceNode.prototype.start;
          AudioBufferSourceNode.prototype.start = function (...at) {
            seen.sounds += 1;
            return start.apply(this, at);
          };
          new MutationObserver(() => {
            if (document.querySelector('.article.live .growing')) seen.text += 1;
            const scan = document.querySelector('.picture.pending .scan');
            if (scan) seen.rows.add(scan.style.top);
            const line = document.querySelector('.progress .line');
            if (line && /ids/.test(line.textContent)) seen.progress = line.textContent;
          }).observe(document.body, {
            subtree: true, childList: true, attributes: true, characterData: true,
          });
        }"""
    )  # fmt: skip
    page.get_by_label(LABEL).fill("zebra")
    page.get_by_label("Wishes").fill("one picture")
    page.get_by_label("Pictures", exact=True).select_option("1")
    page.get_by_label("Seed").first.fill("7")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".article-editor")
    seen = page.evaluate("({...seen, rows: [...seen.rows].length})")
    assert seen["text"] > 2
    assert seen["rows"] >= 2  # the picture was there in parts
    assert seen["sounds"] == 3  # pieces played as they came, before the file was there
    assert "ids" in seen["progress"]
    assert "left" in seen["progress"]
    method, path, body = next(each for each in fake.asked if each[0] == "POST")
    assert (method, path) == ("POST", "/v1/articles")
    assert body == {
        "prompt": "zebra. one picture", "narration": True, "stream": True, "pictures": 1,
        "seed": 7, "language": "en", "decoder": "vq",
    }  # fmt: skip
    article = page.locator(".article")
    assert article.locator("h2").inner_text() == "The zebra"
    assert article.locator("h3").inner_text() == "Home"
    assert article.locator("li").all_inner_texts() == ["one", "two"]
    assert article.locator(".narration blockquote").inner_text() == "The zebra is here."
    assert article.locator("figcaption").all_inner_texts() == ["Read aloud by Ben", "zebra"]
    assert "has emphasis" in article.inner_text()
    assert "![" not in article.inner_text()
    assert "(ben)" not in article.inner_text()
    assert page.locator(".picture img").get_attribute("src").startswith("/v1/articles/")
    assert page.get_by_text("a note of the server").is_visible()


def test_stop_ends_the_request_and_shows_what_was_finished(page, fake):
    fake.delay = 0.5
    page.get_by_label(LABEL).fill("zebra")
    page.keyboard.press("Enter")
    page.wait_for_selector(".article.live h2")
    assert page.get_by_role("button", name="Write", exact=True).is_hidden()
    page.keyboard.press("Escape")
    assert fake.gone.wait(60), "the server still writes for nobody"
    page.wait_for_selector(".article-editor")
    assert page.get_by_text("This article was stopped before its end.").is_visible()
    assert page.get_by_role("button", name="Write", exact=True).is_visible()
    assert fake.articles["0" * 15 + "1"]["status"] == "stopped"


def test_another_view_does_not_stop_the_writing(page, fake):
    fake.delay = 0.1
    page.get_by_label(LABEL).fill("zebra")
    page.keyboard.press("Enter")
    page.wait_for_selector(".article.live")
    page.get_by_role("link", name="Library").click()
    page.wait_for_selector(".library-view")
    page.locator(".nav .live-dot").wait_for(state="detached")
    page.get_by_role("link", name="Write").click()
    assert page.locator(".article-editor h2").inner_text() == "The zebra"
    assert not fake.gone.is_set()


def test_an_error_of_the_server_is_told_and_the_next_article_can_be_written(page, fake, write):
    def refuse(id, prompt):
        yield {"type": "article.created", "id": id, "seed": 1, "notes": []}
        yield {"type": "error", "message": "no room <b>here</b>", "code": "busy"}

    fake.write, own = refuse, fake.write
    page.get_by_label(LABEL).fill("zebra")
    page.keyboard.press("Enter")
    notice = page.locator(".notes .notice.bad")
    notice.wait_for()
    assert "no room <b>here</b>" in notice.inner_text()
    fake.write = own
    write("cat")


def test_enter_in_any_field_of_one_line_writes_and_a_seed_is_checked_first(page, fake):
    def posts():
        return [body for method, path, body in fake.asked if path == "/v1/articles" and body]

    subject, seed = page.get_by_label(LABEL), page.get_by_label("Seed").first
    subject.fill("zebra")
    subject.evaluate(
        "field => field.dispatchEvent(new KeyboardEvent("
        "'keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    page.get_by_label("Wishes").press("Enter")  # of several lines: another line
    for wrong in ("-4", "1.5"):
        seed.fill(wrong)
        seed.press("Enter")
    assert not posts()
    assert page.evaluate("document.activeElement.matches(':invalid')")
    seed.fill("11")
    seed.press("Enter")
    page.wait_for_selector(".article-editor")
    assert [body["seed"] for body in posts()] == [11]


def test_a_subject_is_suggested_and_an_empty_one_is_not_sent(page, fake):
    page.get_by_role("button", name="Write", exact=True).click()
    assert not any(method == "POST" for method, _, _ in fake.asked)
    page.get_by_role("button", name="panda").click()
    assert page.get_by_label(LABEL).input_value() == "panda"
    assert page.evaluate("document.activeElement.value") == "panda"
