"""Measures the chain of preview and refinement on the examples, against the truth, inside the object.

usage: python -m benchmarks.chain [--seeds N] [--json FILE] [NAME ...]

The generated pictures are simulated with the default strengths. The figures are the gains in PSNR and SSIM of the
refined picture over the upscaled generated picture. The correspondence engine refines once with the masks of both
pictures and once without. The seeds are fixed, so that every run gives the same figures.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.correspondence import EXAMPLES
from refgc.diptych.comparison import Comparison, compare
from refgc.diptych.preview import make_preview_request, preview
from refgc.refinement import refine


def run(name: str, seed: int) -> tuple[Comparison, Comparison]:
    """The comparison of a refinement with masks, and of one without."""
    folder = EXAMPLES / name
    reference, masks = folder / "hrri.jpg", (folder / "hrri_mask.png", folder / "hrgt_mask.png")
    request = make_preview_request(
        reference, folder / "hrgt.jpg", reference_mask=masks[0], scene_mask=masks[1], seed=seed
    )
    made = preview(request, generator="simulated")
    picture = made.generated.pixels
    marked = refine(reference, picture, engine="correspondence", reference_mask=masks[0], generated_mask=masks[1])
    unmarked = refine(reference, picture, engine="correspondence")
    with_masks, without = (
        compare(made.truth, result.stages["upscaled"], result.image, made.mask) for result in (marked, unmarked)
    )
    return with_masks, without


def measure(name: str, seeds: int) -> dict[str, Any]:
    """The gains of every seed, and their means."""
    comparisons = [run(name, seed) for seed in range(seeds)]
    row: dict[str, Any] = {"example": name}
    for column, how in enumerate(("with masks", "without masks")):
        gains = [pair[column] for pair in comparisons]
        row[how] = {
            "psnr_gain_inside": [round(gain.psnr_gain_inside, 2) for gain in gains],
            "ssim_gain_inside": [round(gain.ssim_gain_inside, 3) for gain in gains],
            "mean_psnr_gain_inside": round(statistics.mean(gain.psnr_gain_inside for gain in gains), 2),
            "mean_ssim_gain_inside": round(statistics.mean(gain.ssim_gain_inside for gain in gains), 3),
        }
    row["mean_psnr_upscaled_inside"] = round(statistics.mean(pair[0].upscaled.psnr_inside for pair in comparisons), 2)
    return row


def main() -> None:
    """Measure every example and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="examples; all without a name")
    parser.add_argument("--seeds", type=int, default=3, help="previews of each example, with the seeds from 0 on")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    names = options.names or sorted(path.parent.name for path in EXAMPLES.glob("*/hrgt.jpg"))
    table = Table(title="refined over enlarged, inside the object")
    for heading in ("example", "PSNR enlarged", "with masks", "mean", "SSIM", "without masks", "mean", "SSIM"):
        table.add_column(heading)
    rows = []
    for name in names:
        row = measure(name, options.seeds)
        cells = [name, f"{row['mean_psnr_upscaled_inside']:.2f} dB"]
        for how in ("with masks", "without masks"):
            gains = row[how]
            cells.append(" ".join(f"{gain:+.2f}" for gain in gains["psnr_gain_inside"]))
            cells += [f"{gains['mean_psnr_gain_inside']:+.2f} dB", f"{gains['mean_ssim_gain_inside']:+.3f}"]
        table.add_row(*cells)
        rows.append(row)
    Console(width=140).print(table)
    if options.json:
        options.json.write_text(json.dumps({"seeds": options.seeds, "examples": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
