"""Small things read with tiles and without, by a tower: of grafting.py, or alone.

    python benchmarks/_grafting_tiles.py --tower runs/world/tower/tower [--each 2]

Pictures of 192x192 pixels with one small thing (a quarter to a half of the side) somewhere, of
held-out combinations. The tower sees 64x64 pixels: of the whole picture scaled down; or of the
tiles of InternVL's grid and the thumbnail, where a class counts by the likest of them, for a thing
may lie in any. `tiles_gain` is the share of things named right among the 265 subjects with tiles,
less that without. Nothing is trained for tiles.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import _path  # noqa: F401 (before all of ours)

SIDE, TILE, MOST = 192, 96, 4
_PATIENCE = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tower", type=Path, required=True, help="a trained tower's folder")
    parser.add_argument("--each", type=int, default=2, help="pictures of a subject")
    parser.add_argument("--subjects", type=int, help="the first so many; all of them without")
    options = parser.parse_args()
    print(json.dumps(measure(options.tower, options.each, options.subjects)))


def measure(folder: Path, each: int = 2, subjects: int | None = None) -> dict[str, Any]:
    """`tiles_gain`, and both shares with Wilson's 95% intervals."""
    import numpy as np
    from _shared import machine

    from unified.evaluation.figures import wilson
    from unified.matching.tower import Tower
    from unified_data.pocket.subjects import load_subjects
    from unified_data.world.composing import compose_scene
    from unified_data.world.glyphs import styles_of
    from unified_data.world.painting import paint
    from unified_data.world.style_names import TRAIN_STYLES
    from unified_tokenizers.tiling import best_tile_grid, tile_boxes

    tower = Tower.from_pretrained(folder)
    known = load_subjects()[:subjects]
    classes = tower.embed_texts([subject.phrase for subject in known])
    grid = best_tile_grid((SIDE, SIDE), (TILE, TILE), most=MOST)
    boxes = tile_boxes(grid, (TILE, TILE))
    right: dict[str, list[bool]] = {"without": [], "with": []}
    for number, subject in enumerate(known):
        styles = [style for style in TRAIN_STYLES if style in styles_of(subject.name)]
        for turn in range(each):
            rng = np.random.default_rng((17, number, turn))
            style = styles[(number + turn) % len(styles)]
            for _ in range(_PATIENCE):
                scene = compose_scene(rng, "small", ((subject.name, style),))
                if scene.split == "heldout":
                    break
            else:
                continue
            pixels = paint(scene, SIDE)
            tiles = [pixels[top:bottom, left:right_] for top, left, bottom, right_ in boxes]
            scores = tower.embed_pictures([pixels, *tiles]) @ classes.T
            right["without"].append(int(scores[0].argmax()) == number)
            right["with"].append(int(scores.max(0).argmax()) == number)
    shares = {name: sum(each_) / len(each_) for name, each_ in right.items()}
    bounds = {name: wilson(sum(each_), len(each_)) for name, each_ in right.items()}
    return {
        "tiles_gain": round(shares["with"] - shares["without"], 4),
        "with_tiles": round(shares["with"], 4), "without_tiles": round(shares["without"], 4),
        "with_tiles_interval": [round(bound, 4) for bound in bounds["with"]],
        "without_tiles_interval": [round(bound, 4) for bound in bounds["without"]],
        "tiles": f"{grid[0]}x{grid[1]} and the whole", "pictures": len(right["with"]),
        "machine": machine(1, ("torch", "transformers")),
    }  # fmt: skip


if __name__ == "__main__":
    main()
