"""Renders the example products on a turntable, in two lights, with exact masks and poses, and packs them into videos.

usage: python -m benchmarks.turntables render [--into DIR] [--products NAME ...] [--size N] [--samples N]
       python -m benchmarks.turntables pack [--into DIR] [--videos DIR]

`render` needs what `examples/make/requirements.txt` lists, and LLVM for Mitsuba (see `examples/README.md`); it says so
where that is missing. Each frame is written as `DIR/<product>/<light>/NN.png` with `NN_mask.png` (0 to 255); what is
there already is skipped, so that a run may be stopped at any time. The same names give the same scenes again.

Two processes with different products may render into one folder. After the last frame comes `seen.json`: in row i and
column j, how much of the surface that frame i shows is also shown by frame j (0 to 1, by its area in frame i).

`pack` needs PyAV (extra `dataset`). For each product and light it writes `<product>_<light>.mp4` (H.264), and into
`truth/` a lossless video of the masks, and `poses.json`: by video the camera's elevation and the turn of the product in
each frame, in degrees, and the table of `seen.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from benchmarks.product_scenes import EXTENT, normalised, projected, scene_view, studio_view
from benchmarks.product_scenes import Pose as SeenPose
from benchmarks.split import all_products
from refgc.imaging.arrays import Bytes
from refgc.imaging.files import write_whole

if TYPE_CHECKING:
    from examples.make.scene import Camera, Part, View
    from examples.make.shapes import Points

FRAMES, SIZE, SAMPLES, SAMPLES_A_PASS, MASK_SAMPLES = 12, 384, 8, 4, 16
# Each light with the elevation of the camera in degrees.
LIGHTS = {"studio": 14.0, "room": 28.0}
# How much of the half frame the product fills in its widest frame, and the camera's angle in degrees.
FILLED, ANGLE = 0.8, 26.0
# Of the videos. Sixteen is near the best that H.264 has; the videos of all products together stay under 15 MB.
# `refgc dataset pairs` looks at one frame of each half second.
FRAMES_A_SECOND, QUALITY = 2, 16
# Points on a product by which the surface that two frames share is measured; and the sine of the angle under which a
# surface must be looked at to be seen, of about 12 degrees.
SURFACE_POINTS, LEAST_SLANT = 20_000, 0.2
VIDEOS = Path(__file__).with_name("data") / "turntables"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: `number` of `FRAMES` turns the product by that part of a whole turn."""

    product: str
    light: str
    number: int

    @property
    def yaw(self) -> float:
        """How far the product is turned from its studio photo, in degrees."""
        return 360.0 * self.number / FRAMES

    def picture(self, folder: Path) -> Path:
        """Its file in the folder of all frames."""
        return folder / self.product / self.light / f"{self.number:02d}.png"

    def mask(self, folder: Path) -> Path:
        """Its mask's file."""
        return folder / self.product / self.light / f"{self.number:02d}_mask.png"


def frames(names: Sequence[str]) -> Iterator[Frame]:
    """All frames, product by product, so that a stopped run has whole turntables."""
    for product in names:
        for light in LIGHTS:
            yield from (Frame(product, light, number) for number in range(FRAMES))


def scene_of(frame: Frame, parts: Sequence[Part]) -> View:
    """The turned product; place, light and camera are the same for all frames of one product and light."""
    random = np.random.default_rng([zlib.crc32(frame.product.encode()), zlib.crc32(frame.light.encode())])
    pose = SeenPose(frame.yaw, LIGHTS[frame.light], 0.5)
    if frame.light == "studio":
        view = studio_view(parts, pose, random)
    else:
        view = scene_view(parts, pose, "window", None, random)
    return replace(view, camera=camera_of(parts, LIGHTS[frame.light]))


def camera_of(parts: Sequence[Part], elevation: float) -> Camera:
    """A camera that holds the product in view in every frame, with all of it in focus."""
    from examples.make.scene import Camera, moved

    turned = [moved(parts, yaw=360.0 * number / FRAMES) for number in range(FRAMES)]
    vertices = np.concatenate([part.mesh.vertices for turn in turned for part in turn])
    middle = float(vertices[:, 2].max()) / 2
    near, far = EXTENT, 40.0
    for _ in range(24):
        distance = (near + far) / 2
        camera = Camera((0.0, 0.0, middle), distance, 0.0, elevation, ANGLE, 0.001, distance)
        near, far = (near, distance) if np.abs(projected(vertices, camera)).max() < FILLED else (distance, far)
    return camera


def render_all(options: argparse.Namespace) -> None:
    """Renders what is missing, frame by frame."""
    try:
        from examples.make.develop import develop
        from examples.make.render import load
        from examples.make.renderer import render, render_mask
    except ImportError as error:
        raise SystemExit(
            f"Rendering needs {error.name}; install examples/make/requirements.txt, and LLVM 19 or newer (on Debian "
            "`apt install libllvm19`), which DRJIT_LIBLLVM_PATH may name."
        ) from error
    os.nice(15)
    for product in options.products:
        missing = [frame for frame in frames([product]) if not frame.mask(options.into).is_file()]
        unseen = [light for light in LIGHTS if not _seen_file(options.into, product, light).is_file()]
        parts = normalised(load(product).reference.product) if missing or unseen else []
        for frame in missing:
            started = time.perf_counter()
            view = scene_of(frame, parts)
            seed = zlib.crc32(f"{product}/{frame.light}/{frame.number}".encode()) % 100_000
            # The exposure is the camera's own in every frame, as it is in a video; its noise differs.
            pixels = develop(render(view, options.size, options.samples, seed, SAMPLES_A_PASS), view.key, seed)
            mask = np.rint(render_mask(view, options.size, MASK_SAMPLES, seed) * 255).astype(np.uint8)
            frame.picture(options.into).parent.mkdir(parents=True, exist_ok=True)
            # The mask comes last: it says that the frame is there.
            _write(frame.picture(options.into), pixels[..., ::-1])
            _write(frame.mask(options.into), mask)
            print(f"{product}, {frame.light}, {frame.number}: {time.perf_counter() - started:.0f} s", flush=True)
        for light in unseen:
            turn = [scene_of(frame, parts) for frame in frames([product]) if frame.light == light]
            table = np.round(shared_surface(turn), 3).tolist()
            write_whole(_seen_file(options.into, product, light), json.dumps(table).encode())


def shared_surface(turn: Sequence[View]) -> Points:
    """How much of the product's surface that view i shows is also shown by view j, (n, n), by its area in view i."""
    from examples.make.renderer import shown_area

    # The same pieces of the product in each view, since the same numbers choose them.
    surfaces = [_on_surface(view.product, np.random.default_rng(0)) for view in turn]
    areas = np.stack([shown_area(view, *surface, LEAST_SLANT) for view, surface in zip(turn, surfaces, strict=True)])
    return np.asarray(areas @ (areas > 0).T / areas.sum(axis=1, keepdims=True))


def _on_surface(parts: Sequence[Part], random: np.random.Generator) -> tuple[Points, Points]:
    """Points spread evenly over the surfaces, and the normals there, both (n, 3)."""
    corners = np.concatenate([part.mesh.vertices[part.mesh.faces] for part in parts])
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = np.linalg.norm(across, axis=1)
    which = random.choice(len(corners), SURFACE_POINTS, p=areas / areas.sum())
    weights = random.dirichlet((1.0, 1.0, 1.0), SURFACE_POINTS)
    return np.einsum("nc,ncd->nd", weights, corners[which]), across[which] / areas[which, None]


def _seen_file(folder: Path, product: str, light: str) -> Path:
    return folder / product / light / "seen.json"


def _write(place: Path, pixels: Bytes) -> None:
    write_whole(place, cv2.imencode(".png", pixels)[1].tobytes())


def pack(options: argparse.Namespace) -> None:
    """Writes the videos of all turntables that are whole, their masks, and their poses."""
    poses: dict[str, dict[str, Any]] = {}
    for product in all_products():
        for light in LIGHTS:
            turn = [frame for frame in frames([product]) if frame.light == light]
            seen = _seen_file(options.into, product, light)
            if not seen.is_file() or not all(frame.mask(options.into).is_file() for frame in turn):
                print(f"{product}, {light}: not all frames are there")
                continue
            name = f"{product}_{light}"
            pictures = [cv2.imread(str(frame.picture(options.into)))[..., ::-1] for frame in turn]
            masks = [cv2.imread(str(frame.mask(options.into)), cv2.IMREAD_GRAYSCALE) for frame in turn]
            _encode(options.videos / f"{name}.mp4", pictures, "libx264", "yuv444p", {"crf": str(QUALITY)})
            _encode(options.videos / "truth" / f"{name}_mask.mkv", masks, "ffv1", "gray", {"level": "3"})
            table = json.loads(seen.read_bytes())
            poses[name] = {"elevation": LIGHTS[light], "turns": [frame.yaw for frame in turn], "seen": table}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(pose)}" for name, pose in poses.items())
    write_whole(options.videos / "truth" / "poses.json", f"{{\n{lines}\n}}\n".encode())
    size = sum(file.stat().st_size for file in options.videos.rglob("*") if file.is_file())
    print(f"{len(poses)} turntables, {size / 1e6:.1f} MB")


def _encode(place: Path, pictures: Sequence[Bytes], codec: str, pixel_format: str, settings: dict[str, str]) -> None:
    import av

    place.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(place), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(FRAMES_A_SECOND), options=settings)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.thread_count = 1
        for picture in pictures:
            kind = "gray" if picture.ndim == 2 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), kind)))
        container.mux(stream.encode())


def main() -> None:
    """Renders or packs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("render", "pack"))
    parser.add_argument("--into", type=Path, default=Path("build/turntables"), help="folder of the frames")
    parser.add_argument("--products", nargs="*", choices=all_products(), default=all_products(), metavar="NAME")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels a side")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="paths a pixel")
    parser.add_argument("--videos", type=Path, default=VIDEOS, help="folder of the videos")
    options = parser.parse_args()
    (render_all if options.action == "render" else pack)(options)


if __name__ == "__main__":
    main()
