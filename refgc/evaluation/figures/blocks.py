"""The paper's Figure 5 for any backbone: what its blocks do with both frequency bands, and which picture is nearer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from refgc.engine import Progress, no_progress
from refgc.errors import InputError, quoted
from refgc.evaluation.figures.drawing import (
    COLOURS,
    DPI,
    GREY,
    INK,
    SMALL,
    check_outputs,
    figure_style,
    plain_text,
    save_data,
    save_figure,
)
from refgc.evaluation.figures.scenes import Scene, ScenePictures, load_scene
from refgc.imaging.arrays import Size
from refgc.imaging.journal import append_line, read_lines
from refgc.imaging.warp import fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from refgc.evaluation.figures.similarity import Probe
    from refgc.model.loading import Folders

# Of the rows of measurements; another one measures everything anew.
VERSION = 1
PANELS = ("a", "b", "c")
# The paper's timesteps, its number of triplets, and ours whose blocks are measured, each in a pass of the whole model.
PAPER_TIMESTEPS = (888.0, 558.0)
PAPER_SCENES, BLOCK_SCENES = 200, 8
SIDE, MULTIPLE = 1024, 16
LEAST_SIDE, MOST_SIDE = 32, 2048
# Inches of one panel; line styles of the timesteps.
PANEL_WIDTH, PANEL_HEIGHT = 2.75, 2.6
STYLES = ("-", ":", "--", "-.")
LOW_COLOUR, HIGH_COLOUR = COLOURS[0], COLOURS[1]
# Of the halves in which one of both pictures is nearer.
HRRI_HALF, LRGI_HALF = "#f3e9f8", "#fdf3e3"
BANDS = (("low", "LF", LOW_COLOUR), ("high", "HF", HIGH_COLOUR))


@dataclass(frozen=True, slots=True)
class BlockSettings:
    """What is measured.

    Attributes:
        panels: of `PANELS`: a, similarities of blocks; b, of latents; c, of their low frequencies.
        timesteps: of panel a, in (0, 1000].
        scenes: most scenes of the panels b and c.
        block_scenes: most scenes of panel a.
        side: longer side in pixels at which the model sees a picture; smaller pictures are not enlarged.
        seed: of the noise.
    """

    panels: str = "abc"
    timesteps: tuple[float, ...] = PAPER_TIMESTEPS
    scenes: int = PAPER_SCENES
    block_scenes: int = BLOCK_SCENES
    side: int = SIDE
    seed: int = 0

    def check(self) -> None:
        """Refuses settings that cannot be measured.

        Raises:
            InputError: one of them is out of range.
        """
        if not self.panels or any(panel not in PANELS for panel in self.panels):
            raise InputError(f"{quoted(self.panels)} names no panels; give letters of {', '.join(PANELS)}.")
        if not self.timesteps or len(self.timesteps) > len(STYLES):
            raise InputError(f"{len(self.timesteps)} timesteps cannot be drawn; give 1 to {len(STYLES)}.")
        for timestep in self.timesteps:
            if not 0 < timestep <= 1000:
                raise InputError(f"The timestep {timestep:g} is none; give numbers above 0 and at most 1000.")
        if not LEAST_SIDE <= self.side <= MOST_SIDE:
            raise InputError(f"A side of {self.side} pixels cannot be taken; give {LEAST_SIDE} to {MOST_SIDE}.")
        if self.scenes < 1 or self.block_scenes < 1:
            raise InputError("No scenes cannot be measured; give 1 or more.")


def make_blocks(
    scenes: Sequence[Scene],
    folders: Folders,
    outputs: Sequence[Path],
    settings: BlockSettings,
    progress: Progress = no_progress,
) -> Path:
    """Measure and draw Figure 5 of a model.

    Each scene's figures are kept beside the first output, in a file that ends in .jsonl. Another call of the same model,
    settings and pictures measures only what is missing there.

    Args:
        scenes: to measure on; where there are more than the settings take, they are taken at equal distances.
        folders: of base and adapter, from `refgc.model.loading.fetch`.
        outputs: files that end in .pdf, .svg or .png.
        settings: what is measured.
        progress: told of each scene.

    Returns:
        The file with the figure's data.

    Raises:
        InputError: a setting is out of range, a scene has no HRGT, or a picture cannot be read.
        EngineError: the model cannot be loaded.
    """
    check_outputs(outputs)
    settings.check()
    for scene in scenes:
        if "hrgt" not in scene.files:
            raise InputError(f"The scene {quoted(scene.id)} has no HRGT, which the others are compared with.")
    measured = _Measurements(outputs[0].with_suffix(".jsonl"), folders, settings)
    for_latents = spread(scenes, settings.scenes) if set(settings.panels) & {"b", "c"} else []
    for_blocks = spread(scenes, settings.block_scenes) if "a" in settings.panels else []
    latents = measured.latents(for_latents, progress)
    blocks = measured.blocks(for_blocks, progress)
    data = summary(measured.title, blocks, latents, settings)
    with figure_style():
        save_figure(draw_blocks(data), outputs, dpi=DPI)
    return save_data(data, outputs)


def spread(scenes: Sequence[Scene], most: int) -> list[Scene]:
    """At most so many scenes, at equal distances in their order."""
    if len(scenes) <= most:
        return list(scenes)
    return [scenes[(2 * number + 1) * len(scenes) // (2 * most)] for number in range(most)]


def working_size(size: Size, side: int) -> Size:
    """The size at which a model sees a picture: multiples of 16, its longer side at most `side`, and not enlarged."""
    width, height = fitted(size, side)
    return max(MULTIPLE, width // MULTIPLE * MULTIPLE), max(MULTIPLE, height // MULTIPLE * MULTIPLE)


def summary(
    title: str, blocks: Sequence[Mapping[str, Any]], latents: Sequence[Mapping[str, Any]], settings: BlockSettings
) -> dict[str, Any]:
    """The data of the figure: means over scenes, each scene's latents, and how often which picture is nearer."""
    data: dict[str, Any] = {"figure": "blocks", "model": title, "settings": asdict(settings), "panels": {}}
    if blocks:
        names = list(blocks[0]["blocks"])
        data["panels"]["a"] = {
            "scenes": [row["id"] for row in blocks],
            "blocks": names,
            "depth": [number / max(1, len(names) - 1) for number in range(len(names))],
            "similarities": {
                timestep: {
                    band: np.mean([row["timesteps"][timestep][band] for row in blocks], axis=0).tolist()
                    for band in ("low", "high")
                }
                for timestep in blocks[0]["timesteps"]
            },
        }
    for panel, ending in (("b", ""), ("c", "_low")):
        if latents and panel in settings.panels:
            points = [
                {"id": row["id"], "hrri": row[f"hrri{ending}"], "lrgi": row[f"lrgi{ending}"]} for row in latents
            ]
            data["panels"][panel] = {
                "points": points,
                "hrri_nearer": sum(point["hrri"] > point["lrgi"] for point in points),
                "lrgi_nearer": sum(point["lrgi"] > point["hrri"] for point in points),
            }
    return data


def draw_blocks(data: Mapping[str, Any]) -> Figure:
    """The figure of what `summary` returns."""
    from matplotlib.figure import Figure

    panels = data["panels"]
    # The first panel is wider, for its legend.
    widths = [1.25 if name == "a" else 1.0 for name in panels]
    figure = Figure(figsize=(PANEL_WIDTH * sum(widths), PANEL_HEIGHT), layout="constrained")
    titles = {"a": f"blocks of {data['model']}", "b": "latents", "c": "low frequencies of latents"}
    for (name, panel), axes in zip(
        panels.items(), figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0], strict=True
    ):
        axes.set_title(plain_text(f"({name}) {titles[name]}"))
        (_draw_similarities if name == "a" else _draw_points)(axes, panel)
    return figure


def _draw_similarities(axes: Axes, panel: Mapping[str, Any]) -> None:
    depth = panel["depth"]
    for style, (timestep, bands) in zip(STYLES, panel["similarities"].items(), strict=False):
        for band, named, colour in BANDS:
            axes.plot(
                depth,
                bands[band],
                color=colour,
                linestyle=style,
                marker="o",
                markersize=2,
                label=f"{named} (t = {timestep})",
            )
    double = sum(name.startswith("transformer_blocks.") for name in panel["blocks"])
    if 0 < double < len(depth):
        axes.axvline((depth[double - 1] + depth[double]) / 2, color=GREY, linewidth=0.8, linestyle="--")
    lowest = min(min(bands[band]) for bands in panel["similarities"].values() for band, *_ in BANDS)
    axes.set(xlabel="depth (block / last block)", ylabel="cosine similarity to the last block")
    axes.set_ylim(min(0.0, lowest) - 0.03, 1.03)
    axes.legend(loc="best", frameon=True, framealpha=0.9, edgecolor="none")


def _draw_points(axes: Axes, panel: Mapping[str, Any]) -> None:
    points = panel["points"]
    across, up = [point["lrgi"] for point in points], [point["hrri"] for point in points]
    least = min(0.0, *across, *up) - 0.03
    ends = (least, 1.03)
    axes.fill_between(ends, ends, ends[1], color=HRRI_HALF, linewidth=0)
    axes.fill_between(ends, ends[0], ends, color=LRGI_HALF, linewidth=0)
    axes.plot(ends, ends, color=GREY, linewidth=0.8)
    axes.scatter(across, up, s=10, color=COLOURS[0], alpha=0.7, linewidth=0)
    for x, y, side, vertical, text in (
        (0.03, 0.97, "left", "top", f"HRRI nearer: {panel['hrri_nearer']} of {len(points)}"),
        (0.97, 0.03, "right", "bottom", f"LRGI nearer: {panel['lrgi_nearer']} of {len(points)}"),
    ):
        axes.text(x, y, text, transform=axes.transAxes, ha=side, va=vertical, size=SMALL, color=INK)
    axes.set(xlim=ends, ylim=ends, aspect="equal", xlabel="cos(LRGI, HRGT)", ylabel="cos(HRRI, HRGT)")


class _Measurements:
    """Measures scenes, and keeps what was measured in a file of JSON lines."""

    def __init__(self, journal: Path, folders: Folders, settings: BlockSettings) -> None:
        from refgc.evaluation.figures.similarity import model_digest
        from refgc.model.loading import pipeline_class

        self.title = pipeline_class(folders.base).backbone.title
        self._journal, self._folders, self._settings = journal, folders, settings
        self._model = model_digest(folders)
        self._known = {row["key"]: row for row in read_lines(journal) if "key" in row}
        self._probe: Probe | None = None

    def latents(self, scenes: Sequence[Scene], progress: Progress) -> list[dict[str, Any]]:
        """For the panels b and c, a row a scene."""
        from refgc.evaluation.figures.similarity import latent_similarities

        def measure(probe: Probe, scene: Scene, pictures: ScenePictures) -> dict[str, Any]:
            del scene
            return asdict(latent_similarities(self._encoded(probe, pictures)))

        return self._rows("latents", scenes, (), measure, progress)

    def blocks(self, scenes: Sequence[Scene], progress: Progress) -> list[dict[str, Any]]:
        """For panel a, a row a scene."""
        from refgc.evaluation.figures.similarity import noise_for

        def measure(probe: Probe, scene: Scene, pictures: ScenePictures) -> dict[str, Any]:
            latents = self._encoded(probe, pictures)
            noise = noise_for(scene.id, self._settings.seed, latents.hrgt)
            found = {
                f"{timestep:g}": asdict(probe.block_similarities(latents, scene.object_name, timestep, noise))
                for timestep in self._settings.timesteps
            }
            return {"blocks": list(probe.blocks), "timesteps": found}

        depends_on = (self._settings.timesteps, self._settings.seed)
        return self._rows("blocks", scenes, depends_on, measure, progress)

    def _encoded(self, probe: Probe, pictures: ScenePictures) -> Any:
        assert pictures.hrgt is not None, "all scenes have one"
        size = working_size(pictures.hrgt.size, self._settings.side)
        return probe.encode(pictures.hrri.pixels, pictures.lrgi.pixels, pictures.hrgt.pixels, size)

    def _rows(
        self, kind: str, scenes: Sequence[Scene], depends_on: Sequence[Any], measure: Any, progress: Progress
    ) -> list[dict[str, Any]]:
        rows = []
        for number, scene in enumerate(scenes):
            progress(f"{kind} of {scene.id}", number / len(scenes))
            pictures = load_scene(scene)
            key = self._key(kind, scene, pictures, depends_on)
            if key not in self._known:
                row = {"key": key, "kind": kind, "id": scene.id, **measure(self._loaded(), scene, pictures)}
                # As it will be read: every number a double.
                append_line(self._journal, row)
                self._known[key] = json.loads(json.dumps(row))
            rows.append(self._known[key])
        return rows

    def _loaded(self) -> Probe:
        if self._probe is None:
            from refgc.evaluation.figures.similarity import Probe

            self._probe = Probe.load(self._folders, with_blocks="a" in self._settings.panels)
        return self._probe

    def _key(self, kind: str, scene: Scene, pictures: ScenePictures, depends_on: Sequence[Any]) -> str:
        """A hash of all that a row depends on."""
        digest = hashlib.sha256()
        for one in (VERSION, kind, self._model, self._settings.side, *depends_on, scene.id, scene.object_name):
            digest.update(f"{one!r}\n".encode(errors="surrogateescape"))
        for pixels in _pixels(pictures):
            digest.update(f"{pixels.shape}".encode())
            digest.update(pixels.tobytes())
        return digest.hexdigest()


def _pixels(pictures: ScenePictures) -> Iterable[np.ndarray[Any, np.dtype[np.uint8]]]:
    return [one.pixels for one in (pictures.hrri, pictures.lrgi, pictures.hrgt) if one is not None]
