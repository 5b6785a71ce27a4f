"""Articles as models of other makes write them, read into blocks."""

from __future__ import annotations

import numpy as np
import pytest

from unified.articles.blocks import (
    Figure,
    Heading,
    Listing,
    Narration,
    Paragraph,
    Quote,
    check_substance,
    read_blocks,
)
from unified.articles.html import render_page
from unified.articles.outputs import save_article
from unified_data.document import Audio, Document, Image, Text

PICTURE = Image(np.full((5, 7, 3), 9, np.uint8), role="response")
SOUND = Audio(np.full((1, 50), 0.25, np.float32), 16_000, role="response")
PROSE = "The giant panda lives in the mountains of China, where it eats bamboo all day long."


def blocks_of(*segments):
    """Blocks as tuples: the kind's first letters, then what they hold."""

    def plain(block):
        if isinstance(block, Heading):
            return ("h", block.level, block.text)
        if isinstance(block, Figure):
            assert block.image == PICTURE
            return ("figure", block.caption)
        if isinstance(block, Narration):
            assert block.audio == SOUND
            return ("sound", block.voice, block.transcript)
        if isinstance(block, Listing):
            return ("numbered" if block.numbered else "list", *block.items)
        assert isinstance(block, Paragraph | Quote)
        return ("quote" if isinstance(block, Quote) else "p", block.text)

    told = [Text(s, role="response") if isinstance(s, str) else s for s in segments]
    return [plain(block) for block in read_blocks(Document((Text("Write.", role="prompt"), *told)))]


def test_chameleon_and_anole_break_their_text_with_pictures_that_have_no_caption():
    segments = "The giant panda is", PICTURE, " a bear. It eats bamboo.", PICTURE, PICTURE
    assert blocks_of(*segments) == [
        ("p", "The giant panda is"), ("figure", ""), ("p", "a bear. It eats bamboo."),
        ("figure", ""), ("figure", ""),
    ]  # fmt: skip


def test_anole_names_its_figures_behind_them():
    first = "Step 1: peel the banana.\n\n**Step 2**\n\nSlice it into a bowl of yoghurt."
    assert blocks_of(PICTURE, f"Figure 1: a banana\n{first}", PICTURE, "*A bowl*") == [
        ("figure", "a banana"), ("p", "Step 1: peel the banana."), ("h", 1, "Step 2"),
        ("p", "Slice it into a bowl of yoghurt."), ("figure", "A bowl"),
    ]  # fmt: skip


def test_emu3_makes_one_picture_or_one_text():
    assert blocks_of(PICTURE) == [("figure", "")]
    assert blocks_of("\n A portrait of a panda. ") == [("p", "A portrait of a panda.")]


@pytest.mark.parametrize(
    "caption",
    ["![a giant panda]", "![a giant panda](panda.png)", "[Image: a giant panda]",
     "[Image 2: a giant panda]", "Figure 3. a giant panda", "*a giant panda*", "_a giant panda_",
     "Caption: a giant panda", "**Figure 1:** a giant panda", "(photo - a giant panda)"],
)  # fmt: skip
def test_a_caption_before_its_picture_in_the_ways_of_chat_models(caption):
    assert blocks_of(f"## Home\n\n{PROSE}\n\n{caption}\n", PICTURE) == [
        ("h", 1, "Home"), ("p", PROSE), ("figure", "a giant panda"),
    ]  # fmt: skip
    assert blocks_of(f"## Home\n\n{PROSE}\n{caption}", PICTURE)[1:] == [
        ("p", PROSE), ("figure", "a giant panda"),
    ]  # fmt: skip


@pytest.mark.parametrize("mark", ["[Image]", "<image>", "<picture 2>", "(Photo)", "![]"])
def test_a_mark_that_stands_for_a_picture_is_no_text(mark):
    assert blocks_of(f"{PROSE}\n\n{mark}", PICTURE) == [("p", PROSE), ("figure", "")]


def test_what_is_no_caption_stays_text_beside_the_picture():
    assert blocks_of("A picture of a panda:", PICTURE, "Image quality matters.") == [
        ("p", "A picture of a panda:"), ("figure", ""), ("p", "Image quality matters."),
    ]  # fmt: skip
    # A mark without a picture is what the model wrote.
    assert blocks_of(f"{PROSE}\n\n[Image: lost]\n\nMore.") == [
        ("p", PROSE), ("p", "[Image: lost]"), ("p", "More."),
    ]  # fmt: skip


def test_a_chat_model_talks_before_and_after_its_markdown():
    text = (
        "Sure! Here is an illustrated article:\n\n```markdown\n## The Giant Panda\n\n"
        f"**Pandas** are *gentle* bears.\n\n### Habitat\n\n{PROSE}\n\n---\n\n### Facts\n\n"
        "- It eats **bamboo**\n- It sleeps\n\n1. One\n2) Two\n\n> Quiet\n> friends\n```\n\n"
        "I hope this helps!"
    )
    assert blocks_of(text) == [
        ("p", "Sure! Here is an illustrated article:"), ("h", 1, "The Giant Panda"),
        ("p", "Pandas are gentle bears."), ("h", 2, "Habitat"), ("p", PROSE), ("h", 2, "Facts"),
        ("list", "It eats bamboo", "It sleeps"), ("numbered", "One", "Two"),
        ("quote", "Quiet\nfriends"), ("p", "I hope this helps!"),
    ]  # fmt: skip


def test_underlined_headings_and_bold_ones():
    assert blocks_of("The panda\n=====\n\nHome\n---\nIn China.\n\n__Food__\nBamboo.") == [
        ("h", 1, "The panda"), ("h", 2, "Home"), ("p", "In China."), ("h", 2, "Food"),
        ("p", "Bamboo."),
    ]  # fmt: skip


def test_headings_of_one_level_have_no_title_above_them():
    assert blocks_of("## A\n\nx.\n\n## B\n\ny.") == [
        ("h", 2, "A"), ("p", "x."), ("h", 2, "B"), ("p", "y."),
    ]  # fmt: skip


def test_plain_paragraphs_have_a_title_and_headings_where_lines_look_like_them():
    assert blocks_of(f"The Giant Panda\n\n{PROSE}\n\nHabitat\n\n{PROSE}\n\nThe end.") == [
        ("h", 1, "The Giant Panda"), ("p", PROSE), ("h", 2, "Habitat"), ("p", PROSE),
        ("p", "The end."),
    ]  # fmt: skip
    assert blocks_of(f"Title: Pandas\n\n{PROSE}")[0] == ("h", 1, "Pandas")
    assert blocks_of(f"{PROSE}\n\nHabitat\n\nshort.") == [
        ("p", PROSE), ("p", "Habitat"), ("p", "short."),
    ]  # fmt: skip


def test_orpheus_speaks_with_or_without_words_beside_it():
    assert blocks_of(SOUND) == [("sound", "", "")]
    assert blocks_of("tara: Hello there.", SOUND) == [("sound", "tara", "Hello there.")]
    assert blocks_of("> (leo) Hello there.", SOUND) == [("sound", "leo", "Hello there.")]
    assert blocks_of("Note: loud.", SOUND) == [("p", "Note: loud."), ("sound", "", "")]


@pytest.mark.parametrize(
    "text", ["2 * 3 * 4 = 24", "snake_case_name", "a ** b ** c", "5*6*7", "C:\\*"]
)
def test_stars_and_lines_that_are_no_emphasis_stay(text):
    assert blocks_of(f"It is {text} here.") == [("p", f"It is {text} here.")]


def test_lists_are_lists_in_every_form(tmp_path):
    document = Document((Text("# T\n\n- one <b>\n- two\n\n1. three\n2. four", role="response"),))
    page = render_page(document)
    assert "<ul><li>one &lt;b&gt;</li><li>two</li></ul>" in page.replace("\n", "")
    assert "<ol><li>three</li><li>four</li></ol>" in page.replace("\n", "")
    longer = Document((Text("# T\n\n- one of many\n- two of many more", role="response"),))
    save_article(tmp_path / "x.md", longer)
    assert "- one of many\n- two of many more\n" in (tmp_path / "x.md").read_text()


@pytest.mark.parametrize("text", ["# The giant panda", "...", "# A\n\n## B\n\n- x", "Hm, well."])
def test_an_article_of_next_to_nothing_is_refused_and_not_written(tmp_path, text):
    document = Document((Text("A long prompt that says a lot", role="prompt"),
                         Text(text, role="response")))  # fmt: skip
    for name in ("x.html", "x.md", "x.json"):
        with pytest.raises(ValueError, match=r"next to nothing \(\d+ letters of text, no picture"):
            save_article(tmp_path / name, document)
    assert list(tmp_path.iterdir()) == []
    check_substance(Document((Text(text, role="response"), PICTURE)))
    check_substance(Document((Text(PROSE, role="response"),)))
