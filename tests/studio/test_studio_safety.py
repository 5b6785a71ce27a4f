"""Nothing that a model, a user or a file says runs in the page, even where no policy forbids it."""

from __future__ import annotations

import itertools

import pytest

PATIENCE = 300_000  # milliseconds
RUN = "window.ran=(window.ran||0)+1"
BODIES = (
    f"<script>{RUN}</script>", f"<SCRIPT>{RUN}</SCRIPT >", f"<script/x>{RUN}</script>",
    f"<img src=x onerror={RUN}>", f"<img src=x onerror='{RUN}'>", f"<img/src=x/onerror={RUN}>",
    f"<image src=x onerror={RUN}>", f"<img src onerror={RUN}//", f"<svg onload={RUN}>",
    f"<svg/onload={RUN}>", f"<svg><script>{RUN}</script></svg>",
    f"<svg><animate onbegin={RUN} attributeName=x dur=1s>",
    f"<svg><set onbegin={RUN} attributeName=x>",
    f"<svg><a xlink:href=javascript:{RUN}><text>a</text></a></svg>",
    f"<svg><use href=\"data:image/svg+xml,<svg id=x><script>{RUN}</script></svg>#x\">",
    f"<svg><foreignObject><iframe srcdoc='<script>parent.{RUN}</script>'></foreignObject></svg>",
    f"<math><mtext></form><form><mglyph><style></math><img src onerror={RUN}>",
    f"<math><maction actiontype=statusline xlink:href=javascript:{RUN}>a",
    f"<body onload={RUN}>", f"<body onpageshow={RUN}>", f"<iframe src=javascript:{RUN}>",
    f"<iframe srcdoc=\"<script>parent.{RUN}</script>\">", f"<object data=javascript:{RUN}>",
    f"<object data=\"data:text/html,<script>parent.{RUN}</script>\">",
    f"<embed src=javascript:{RUN}>", f"<video><source onerror={RUN}></video>",
    f"<video src=x onerror={RUN}>", f"<audio src=x onerror={RUN}>",
    f"<input autofocus onfocus={RUN}>", f"<select autofocus onfocus={RUN}>",
    f"<textarea autofocus onfocus={RUN}>", f"<details open ontoggle={RUN}>",
    f"<marquee onstart={RUN}>", f"<a href=javascript:{RUN} id=x tabindex=1 onfocus={RUN}>a</a>",
    f"<form action=javascript:{RUN}><button>a</button></form>", f"<base href=javascript:{RUN}//>",
    f"<link rel=stylesheet href=x onerror={RUN}>",
    f"<meta http-equiv=refresh content=\"0;javascript:{RUN}\">",
    f"<style>@import 'x'</style><style onload={RUN}></style>",
    f"<style>@keyframes x{{}}</style><p style=animation-name:x onanimationstart={RUN}>",
    f"<template><img src=x onerror={RUN}></template><img src=x onerror={RUN}>",
    f"<noscript><p title=\"</noscript><img src=x onerror={RUN}>\">",
    f"<table background=javascript:{RUN}>",
    f"<xss contenteditable onblur={RUN} autofocus tabindex=1>",
    f"<isindex action=javascript:{RUN} type=image>",
    f"javascript:{RUN}", f"[a](javascript:{RUN})",
    f"![a](x\" onerror=\"{RUN})", f"[a]: javascript:{RUN}",
    f"<!--><img src=x onerror={RUN}>-->", f"<![CDATA[><img src=x onerror={RUN}>]]>",
    f"<?xml version='1.0'?><x:script xmlns:x='http://www.w3.org/1999/xhtml'>{RUN}</x:script>",
    f"{{{{constructor.constructor('{RUN}')()}}}}", f"${{{RUN}}}", f"<%={RUN}%>",
    f"&lt;img src=x onerror={RUN}&gt;", f"\\u003cimg src=x onerror={RUN}\\u003e",
    f"<img src=x onerror=&#119;{RUN[1:]}>", f"%3Cimg src=x onerror={RUN}%3E",
)  # fmt: skip
AROUND = (
    "{}", '">{}', "'>{}", "</textarea></title></p>{}", "`}};{}//", "-->{}<!--", "</script>{}",
    "</style></noscript>{}", "</svg></math>{}", "</select></option>{}", "]]>{}", "<b>{}</b>",
    "<p title=\"{}\">", "`{}`", "| {} |\n|-|", "({})", "\u202e{}\u202c", "\0{}",
)  # fmt: skip
PAYLOADS = [around.replace("{}", body) for body, around in itertools.product(BODIES, AROUND)]
# Elements that the page never makes, and handlers that no element of it has.
STRANGE = """() => [
  window.ran ?? 0,
  document.querySelectorAll('iframe, object, embed, base, form[action], marquee, video, math, template, style, foreignObject, script:not([src="/studio/main.js"]), meta[http-equiv], a[href^="javascript" i]').length,
  [...document.querySelectorAll('*')].filter((each) => each.getAttributeNames().some((name) => /^on/i.test(name))).length,
]"""  # noqa: E501


@pytest.fixture
def bare(open_page):
    """Opens a page without its policy, so that what keeps it safe is the page alone."""

    def open_at(address):
        return open_page(address, bypass_csp=True)

    return open_at


def unharmed(page):
    page.wait_for_timeout(300)
    assert page.evaluate(STRANGE) == [0, 0, 0]


def test_there_are_many_and_they_would_run(chromium):
    """A page that builds markup of strings runs dozens of them: the check sees what it is for."""
    assert len(set(PAYLOADS)) >= 1000
    page = chromium.new_page()
    page.set_default_timeout(PATIENCE)
    ran = page.evaluate(
        """async (all) => {
          for (const each of all) {
            const box = document.createElement('div');
            box.innerHTML = each;
            document.body.append(box);
            await new Promise((goOn) => setTimeout(goOn, 20));
            box.remove();  // some change what follows: <base>, <style>
          }
          return window.ran;
        }""",
        PAYLOADS[:: len(AROUND)],
    )
    assert ran >= 10
    page.close()


def test_in_an_article_as_it_is_written_and_afterwards(bare, fake):
    forms = ("{}", "# {}", "## {}", "- {}", "> (ben) {}", "**{}**", "![{}]")
    fake.texts = tuple(
        "\n\n".join(form.replace("{}", text) for text in PAYLOADS[at :: len(forms)])
        for at, form in enumerate(forms)
    )
    fake.delay = 0.0
    page = bare("#/write")
    page.get_by_label("What is the article about?").fill(PAYLOADS[3])
    page.get_by_label("Wishes").fill("\n".join(PAYLOADS[:40]))
    page.evaluate("document.querySelector('.composer').requestSubmit()")
    page.wait_for_selector(".article-editor")
    assert PAYLOADS[15] in page.locator(".article").inner_text()
    unharmed(page)


def test_in_words_of_pictures_and_sounds_notes_and_errors(bare, fake):
    def events(id, prompt):
        yield {"type": "article.created", "id": id, "seed": 1, "notes": PAYLOADS}
        for index, text in enumerate(PAYLOADS[:60], 1):
            yield {"type": "segment.started", "segment": index, "kind": "image", "width": text,
                   "caption": text}  # fmt: skip
            yield {"type": "segment.done", "segment": index, "image": {"url": text, "alt": text}}
        for index, text in enumerate(PAYLOADS[60:90], 100):
            yield {"type": "segment.started", "segment": index, "kind": "audio", "voice": text,
                   "transcript": text}  # fmt: skip
            yield {"type": "segment.done", "segment": index, "audio": {"url": f"javascript:{RUN}"}}
        yield {"type": "error", "message": " ".join(PAYLOADS), "code": PAYLOADS[0]}

    fake.write = events
    page = bare("#/write")
    page.get_by_label("What is the article about?").fill("zebra")
    page.keyboard.press("Enter")
    page.locator(".notes .notice.bad").wait_for()
    assert page.locator(".figure img").count() == 0  # an address that leads elsewhere is none
    unharmed(page)


def test_in_the_library(bare, fake):
    for text in PAYLOADS:
        id = fake.begin(text)
        fake.articles[id]["status"] = text
    rows = fake.rows(id)
    rows.append({"kind": "image", "role": "response", "image": {"url": "//evil.example/x.png"}})
    page = bare("#/library")
    page.locator(".card").nth(len(PAYLOADS) - 1).wait_for()
    page.get_by_label("Search articles").fill(PAYLOADS[3])
    page.locator(".card").nth(1).wait_for(state="detached")
    unharmed(page)


def test_in_the_playground_and_in_training(bare, fake):
    fake.facts = {**fake.facts, "model": PAYLOADS[3], "subjects": [{"name": t} for t in PAYLOADS]}
    fake.run = "<img src=x onerror=window.ran=1>"
    samples = [{"tag": text, "step": 1, "kind": "text", "text": text} for text in PAYLOADS]
    fake.samples = lambda: samples
    page = bare("#/training")
    page.locator(".run-sample").nth(len(PAYLOADS) - 1).wait_for()
    unharmed(page)
    page.get_by_role("link", name="Playground").click()
    page.get_by_label("Text").first.fill(PAYLOADS[3])
    page.get_by_role("button", name="See its ids").click()
    page.locator(".token").first.wait_for()
    page.get_by_role("link", name="Write").click()
    page.locator(".chip").first.wait_for()
    unharmed(page)
