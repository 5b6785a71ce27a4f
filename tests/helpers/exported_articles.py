"""Articles for the tests of export: with everything in it, of hostile texts, in Chinese."""

import numpy as np

from unified_data.document import Audio, Document, Image, Text

rng = np.random.default_rng(3)
PIXELS = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
WAVE = (rng.integers(-9000, 9000, (1, 16_000)) / 32768).astype(np.float32)
NOT_16_BIT = rng.uniform(-0.3, 0.3, (1, 5_000)).astype(np.float32)
DETAILS = {"Prompt": "The giant panda", "Model": "pocket", "Seed": "7"}
# What becomes markup where it is not escaped, in HTML, XML, Markdown, or a field of Word.
HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><b>b</b>", "<!-- c",
    "]]> <![CDATA[x", "&lt;b&gt; &amp; &#60;", "[a](javascript:b)", "![i](http://x.y/z.png)",
    "</template><script>2</script>", "<svg/onload=alert(2)>", "{{ 7 * 7 }} {% raw %} ${7}",
    "`code` **bold** _it_ ~~s~~ | a | b |", "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]>",
    "\x00 \x1b[31m \x08 \x7f \ufffe", "\u202eabc\u202c \u2066d", "<http://x.y> http://x.y www.x.y",
    '" onmouseover="alert(3)', "' onfocus='4", "\\<b\\>", "&#x3c;i&#x3e;", "=HYPERLINK(1)",
)  # fmt: skip


def article(*segments, prompt="Write: x."):
    """A document with a prompt and a response of texts and media."""
    response = tuple(Text(s, role="response") if isinstance(s, str) else s for s in segments)
    return Document((Text(prompt, role="prompt"), *response))


def picture(rows=96, columns=96, role="response"):
    return Image(PIXELS[:rows, :columns], role=role)


def sound(waveform=WAVE, rate=16_000, role="response"):
    return Audio(waveform, rate, role=role)


WHOLE = Document(
    (
        Image(PIXELS[:50], role="prompt", loss=0.0),  # which no page shows
        *article(
            "# The giant panda\n\n> (ben) A bear & more.\n", sound(), "\n\n![a giant panda]",
            picture(), "\n\n## Home\n\nIt lives in China.\nIn hills.\n\n1. one\n2. two\n\nThen:\n\n"
            "1. three\n\n- dot\n\n> A quote.\n\n大熊猫住在中国的山里。\n\n",
            picture(64), "\n\n### Food\n\nBamboo.", sound(NOT_16_BIT, 22_000),
        ).segments,
    )
)  # fmt: skip
CHINESE = article(
    "# 大熊猫\n\n> (lily) 大熊猫是一种熊。\n", sound(),
    "\n\n大熊猫（giant panda）住在中国的竹林里。\n\n![一只大熊猫]", picture(),
    "\n\nThe giant panda eats bamboo all day long, and sleeps.\n\n", picture(),
)  # fmt: skip


def hostile():
    """An article, and its details, of texts that want to be markup wherever a text can stand."""
    segments = []
    for text in HOSTILE:
        line = " ".join(text.replace("\x00", "\x01").split(" "))
        segments += [
            f"\n\n## x{line}\n\nx{line}\n\n- x{line}\n\n> x{line}\n\n> (ben) x{line}\n",
            sound(WAVE[:, :900]), f"\n\n![x{line}]", picture(2, 2),
        ]  # fmt: skip
    document = article(f"# x{HOSTILE[0]}", *segments, prompt=" ".join(HOSTILE))
    return document, {"Prompt": " ".join(HOSTILE), HOSTILE[1]: HOSTILE[2]}


def plain():
    """The same shape as `hostile` has, of texts that want nothing."""
    segments = []
    for number in range(len(HOSTILE)):
        segments += [
            f"\n\n## x{number}\n\nx\n\n- x\n\n> x\n\n> (ben) x\n", sound(WAVE[:, :900]),
            f"\n\n![x{number}]", picture(2, 2),
        ]  # fmt: skip
    return article("# x", *segments), {"Prompt": "x", "y": "z"}
