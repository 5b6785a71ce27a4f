"""Makes the glyph sheets in `styles/` from npm packages and Noto's font; run by hand, once.

    npm install --prefix ART @twemoji/svg@15.0.0 @iconify-json/fluent-emoji-flat@1.2.6 \\
        @lobehub/fluent-emoji-3d@1.1.0 @iconify-json/emojione@1.2.3 @resvg/resvg-js@2.6.2
    python -m unified_data.world.make_styles ART NotoColorEmoji.ttf

Every glyph is cut to what it paints and fitted into a tile of `TILE` pixels. SVG is rasterised by
resvg under Node at four times the side, then scaled down.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from unified_data.pocket.atlas import TILE, font_glyph
from unified_data.pocket.subjects import load_subjects
from unified_data.world.style_names import COLUMNS, STRANGERS, STYLES, WHOLE_STYLES

_OVER = 4
_QUALITY = 88  # of lossy WebP; alpha is lossless. PSNR of the painted pixels is above 37 dB.
_NAMESAKES = {("emojione", "🦗")}  # its icon called `cricket` is the game
_RASTERISE = """
const {Resvg} = require("@resvg/resvg-js"), fs = require("fs");
for (const [svg, png, side] of JSON.parse(fs.readFileSync(0, "utf8")))
  fs.writeFileSync(png, new Resvg(svg, {fitTo: {mode: "width", value: side}}).render().asPng());
"""


def make_styles(art: Path, font: Path, folder: Path) -> dict[str, int]:
    """Write STYLE.webp (of Noto, whose subjects are in the pocket atlas, none), strangers.webp
    and index.json into a folder; returns their sizes in bytes.

    art: the folder that npm installed into; font: NotoColorEmoji.ttf.

    Raises ValueError where a font, a package or a glyph is missing.
    """
    packages = art / "node_modules"
    subjects = [subject.glyph for subject in load_subjects()]
    drawn = dict.fromkeys(STYLES, subjects)
    rows: list[Image.Image] = []
    for style in WHOLE_STYLES:
        if style == "noto":
            rows += [Image.fromarray(font_glyph(each, TILE, font)) for each in STRANGERS]
            continue
        tiles = [_fitted(each) for each in _drawn(style, packages, [*subjects, *STRANGERS])]
        _save(folder / f"{style}.webp", tiles[: len(subjects)])
        rows += tiles[len(subjects) :]
    for style in STYLES:
        if style not in WHOLE_STYLES:
            drawn[style] = [each for each in subjects if _icon(style, packages, each)]
            _save(folder / f"{style}.webp",
                  [_fitted(each) for each in _drawn(style, packages, drawn[style])])  # fmt: skip
    _save(folder / "strangers.webp", rows)
    index = {"subjects": drawn, "strangers": list(STRANGERS)}
    (folder / "index.json").write_text(json.dumps(index, ensure_ascii=False) + "\n", "utf-8")
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def _drawn(style: str, packages: Path, glyphs: list[str]) -> list[Image.Image]:
    """A style's own pictures of glyphs, of any size."""
    if style == "fluent-3d":
        folder = packages / "@lobehub" / "fluent-emoji-3d" / "assets"
        return [Image.open(_file(folder, glyph, "webp")).convert("RGBA") for glyph in glyphs]
    if style == "twemoji":
        folder = packages / "@twemoji" / "svg"
        return _rasterised([_file(folder, each, "svg").read_text("utf-8") for each in glyphs],
                           packages)  # fmt: skip
    bodies = []
    for glyph in glyphs:
        body = _icon(style, packages, glyph)
        if body is None:
            raise ValueError(f"{style} has no glyph {glyph!r} in {packages / '@iconify-json'}")
        bodies.append(body)
    return _rasterised(bodies, packages)


@cache
def _icons(style: str, packages: Path) -> Any:
    folder = {"fluent-flat": "fluent-emoji-flat"}.get(style, style)
    return json.loads((packages / "@iconify-json" / folder / "icons.json").read_text("utf-8"))


@cache
def _icon_names(packages: Path) -> Any:
    """Icons' names by code points; of the other styles, too, which do not say them."""
    path = packages / "@iconify-json" / "fluent-emoji-flat" / "chars.json"
    return json.loads(path.read_text("utf-8"))


def _icon(style: str, packages: Path, glyph: str) -> str | None:
    """A glyph of a set of icons as SVG, or None where the set has none."""
    icons, names = _icons(style, packages), _icon_names(packages)
    name = next((names[code] for code in _codes(glyph) if code in names), None)
    name = icons.get("aliases", {}).get(name, {}).get("parent", name)
    if name not in icons["icons"] or (style, glyph) in _NAMESAKES:
        return None
    side = icons["height"]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">'
        f"{icons['icons'][name]['body']}</svg>"
    )


def _codes(glyph: str) -> list[str]:
    """A glyph's code points as packages may name it: with or without the emoji selector."""
    code = "-".join(f"{ord(character):x}" for character in glyph)
    return [code, f"{code}-fe0f", code.replace("-fe0f", "")]


def _file(folder: Path, glyph: str, ending: str) -> Path:
    for code in _codes(glyph):
        if (folder / f"{code}.{ending}").is_file():
            return folder / f"{code}.{ending}"
    raise ValueError(f"{folder} has no glyph {glyph!r} ({_codes(glyph)[0]}.{ending})")


def _rasterised(texts: list[str], packages: Path) -> list[Image.Image]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{number}.png") for number in range(len(texts))]
        jobs = [[text, path, _OVER * TILE] for text, path in zip(texts, paths)]
        subprocess.run(["node", "-e", _RASTERISE], input=json.dumps(jobs), text=True, check=True,
                       cwd=packages)  # fmt: skip
        return [Image.open(path).convert("RGBA") for path in paths]


def _fitted(drawn: Image.Image) -> Image.Image:
    """A picture cut to what it paints, centred in a tile that its longer side fills."""
    box = drawn.getchannel("A").point(lambda alpha: 255 * (alpha > 8)).getbbox()
    if box is None:
        raise ValueError("a glyph paints nothing")
    cut = drawn.crop(box)
    longest = max(cut.size)
    square = Image.new("RGBA", (longest, longest))
    square.paste(cut, ((longest - cut.width) // 2, (longest - cut.height) // 2))
    return square.convert("RGBa").resize((TILE, TILE), Image.Resampling.LANCZOS).convert("RGBA")


def _save(path: Path, tiles: list[Image.Image]) -> None:
    sheet = Image.new("RGBA", (COLUMNS * TILE, -(-len(tiles) // COLUMNS) * TILE))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, COLUMNS)
        sheet.paste(tile, (column * TILE, row * TILE))
    sheet.save(path, quality=_QUALITY, alpha_quality=100, method=6)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m unified_data.world.make_styles ART NotoColorEmoji.ttf")
    home = Path(__file__).parent / "styles"
    print(make_styles(Path(sys.argv[1]), Path(sys.argv[2]), home))
