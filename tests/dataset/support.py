"""Small photos and videos of a textured object, made here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as PILImage

from refgc.imaging.arrays import Bytes

SIDE = 384


def texture(seed: int, side: int = 256) -> Bytes:
    """A print of coloured shapes with letters, sharp enough for keypoints."""
    random = np.random.default_rng(seed)
    picture = np.full((side, side, 3), random.integers(90, 200, 3), np.uint8)
    for _ in range(60):
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        x, y, width, height = (int(value) for value in random.integers(0, side, 4))
        match random.integers(3):
            case 0:
                cv2.circle(picture, (x, y), 4 + width // 16, colour, -1)
            case 1:
                cv2.rectangle(picture, (x, y), (x + 6 + width // 8, y + 6 + height // 8), colour, -1)
            case _:
                letter = chr(65 + int(random.integers(26)))
                cv2.putText(picture, letter, (x, y), cv2.FONT_HERSHEY_DUPLEX, 1.1, colour, 2)
    return picture


def scene(
    face: Bytes, *, turn: float = 0.0, size: float = 0.6, background: int = 0, side: int = SIDE
) -> tuple[Bytes, Bytes]:
    """A bent card that has turned by some degrees, before a background of its own, and its mask (0 or 255).

    Args:
        face: the card's print, square.
        turn: around the upright axis, in degrees.
        size: of the card, as a share of the picture's side.
        background: seed of what is behind it.
        side: of the picture in pixels.
    """
    length = size * side
    # The card is bent like a part of a cylinder, so that a turn is no similarity and no homography.
    grid_y, grid_x = np.mgrid[0:side, 0:side].astype(np.float32)
    radius = length / 2 / np.sin(np.radians(65.0))
    across = (grid_x - side / 2) / radius
    angle = np.degrees(np.arcsin(np.clip(across, -1, 1))) + turn
    u = (angle + 65.0) / 130.0
    v = (grid_y - (side - length) / 2) / length
    inside = (np.abs(across) < np.sin(np.radians(65.0))) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    scale = len(face) - 1
    card = cv2.remap(face, (u * scale).astype(np.float32), (v * scale).astype(np.float32), cv2.INTER_LINEAR)
    random = np.random.default_rng(1000 + background)
    noise = random.integers(0, 256, (12, 12, 3)).astype(np.uint8)
    behind = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    picture = np.where(inside[..., None], card, behind).astype(np.uint8)
    return picture, np.where(inside, 255, 0).astype(np.uint8)


def write_photo(path: Path, pixels: Bytes | None = None) -> None:
    """A photo, or a grey one of 64x64 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(np.full((64, 64, 3), 128, np.uint8) if pixels is None else pixels).save(path)


def write_video(path: Path, frames: Sequence[Bytes], rate: int = 10, codec: str = "libx264") -> None:
    """A video of RGB (height, width, 3) or grey (height, width) frames, nearly without loss."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    lossless = codec == "ffv1"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec, rate=rate, options={} if lossless else {"crf": "12", "preset": "ultrafast"}
        )
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "gray" if lossless else "yuv420p"
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.ndim == 3 else "gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_object(
    folder: Path, turns: Sequence[float], *, seed: int, masks: bool = True, paint: Callable[[int], Bytes] = texture
) -> None:
    """Photos of one object from several sides, each before another background."""
    face = paint(seed)
    for number, turn in enumerate(turns):
        picture, mask = scene(face, turn=turn, size=0.55 + 0.05 * (number % 3), background=seed * 100 + number)
        write_photo(folder / f"{number:02}.png", picture)
        if masks:
            write_photo(folder / f"{number:02}_mask.png", mask)
