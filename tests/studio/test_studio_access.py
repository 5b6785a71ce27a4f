"""axe-core finds no serious fault in any view; Tab reaches all of it; screen readers hear of it."""

from __future__ import annotations

from pathlib import Path

import pytest

SERIOUS = ("serious", "critical")


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, as a package brings it."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    return (Path(package.__path__[0]) / "axe.min.js").read_text("utf-8")


@pytest.fixture
def check(axe):
    """check(page): raises for every serious fault, with the elements that have it."""

    def faults(page, where):
        page.evaluate(axe)
        violations = page.evaluate("axe.run(document).then((result) => result.violations)")
        serious = [
            f"{where}: {each['id']}: {node['html'][:120]}"
            for each in violations
            if each["impact"] in SERIOUS
            for node in each["nodes"]
        ]
        assert not serious

    return faults


@pytest.mark.parametrize(
    "options",
    [{"color_scheme": "light"},
     {"color_scheme": "dark", "viewport": {"width": 390, "height": 800}, "locale": "zh-CN"}],
    ids=["desk, light, English", "phone, dark, Chinese"],
)  # fmt: skip
def test_no_view_has_a_serious_fault(open_page, fake, check, options):
    page = open_page(**options)
    check(page, "write, empty")
    page.locator(".composer input[type=text]").fill("zebra")
    page.keyboard.press("Enter")
    page.wait_for_selector(".article-editor")
    check(page, "write, an article")
    page.locator("[data-focus='anew.4']").focus()
    page.keyboard.press("Enter")
    page.locator("[data-focus='compare.4']").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] img")
    check(page, "alternatives")
    page.keyboard.press("Escape")
    page.locator("[data-focus^='edit.3']").first.focus()
    page.keyboard.press("Enter")
    check(page, "an editor")
    page.evaluate("location.hash = '#/library'")
    page.wait_for_selector(".card")
    page.locator(".card .menu button").first.click()
    check(page, "library, a menu")
    page.keyboard.press("Escape")
    page.evaluate("location.hash = '#/playground'")
    page.locator(".playground-view .primary").first.click()
    page.wait_for_selector(".sample img")
    page.locator(".sample-foot button").first.click()
    page.locator(".token").first.click()
    page.wait_for_selector(".allowed-list")
    check(page, "playground")
    page.evaluate("location.hash = '#/training'")
    page.wait_for_selector(".run-sample img")
    check(page, "training")
    page.locator("#main").focus()
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    check(page, "the list of keys")


def test_every_control_is_reached_by_tab_and_its_focus_is_seen(write):
    page = write()
    page.locator(".skip").focus()
    names = []
    for _ in range(60):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                """() => {
                  const at = document.activeElement;
                  if (at === document.body) return null;
                  const style = getComputedStyle(at);
                  const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
                  const box = at.getBoundingClientRect();
                  const name = at.getAttribute('aria-label') || at.textContent || at.id;
                  return [name, seen && box.width > 0];
                }"""
            )
        )  # fmt: skip
        if names[-1] is None:
            break
    reached = [name for name in names if name]
    assert all(seen for _, seen in reached), [name for name, seen in reached if not seen]
    labels = " ".join(name for name, _ in reached)
    for name in (
        "Library",
        "Language",
        "Options",
        "Write",
        "Export",
        "Edit",
        "New picture",
        "Play",
    ):
        assert name in labels


def test_what_happens_is_told_to_screen_readers(page, fake, until):
    page.evaluate(
        """() => {
          window.heard = [];
          const region = document.querySelector('.sr-only[aria-live]');
          new MutationObserver(() => heard.push(region.textContent)).observe(
            region, { childList: true, characterData: true, subtree: true });
        }"""
    )  # fmt: skip
    fake.delay = 0.02
    page.get_by_label("What is the article about?").fill("zebra")
    page.keyboard.press("Enter")
    until(page, "heard.some((text) => text.startsWith('The article is complete'))")
    assert "Writing has begun" in page.evaluate("heard")
