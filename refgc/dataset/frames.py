"""Frames of an object: read, and left out where they are blurred, badly exposed or nearly the same as another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image as PILImage

from refgc.dataset.manifest import Rejection
from refgc.dataset.settings import PairSettings
from refgc.dataset.sources import Photo, Pose, SourceObject, Video
from refgc.errors import InputError, one_line, quoted
from refgc.imaging.arrays import Bools, Bytes, Floats, luma, resized
from refgc.imaging.image import MAX_PIXELS, MAX_SIDE, Image, Mask, open_image, open_mask
from refgc.imaging.warp import fitted

if TYPE_CHECKING:
    import av

# Longer side at which all frames of a video are looked at, in pixels. Chosen by hand.
PREVIEW_SIDE = 320
# Containers that are opened. FFmpeg's others include playlists, which would open further files and addresses.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts"
# A video that ends before this share of the length that it states was cut off. Chosen by hand.
WHOLE = 0.9
# Length of the running mean of `sharpness` as a share of the picture's longer side, and its least in pixels. By hand.
REBLUR, LEAST_REBLUR = 0.004, 3


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A frame or photo that may be used.

    Attributes:
        label: the file as rows name it.
        seconds: its time in the video; None for a photo.
        image: the picture.
        mask: the source's own mask, or None.
        pose: camera to object, or None.
        sharpness: of the whole picture; see `sharpness`.
    """

    label: str
    seconds: float | None
    image: Image
    mask: Mask | None
    pose: Pose | None
    sharpness: float

    @property
    def name(self) -> str:
        """The frame in rejections and ids."""
        return self.label if self.seconds is None else f"{self.label} at {self.seconds:.3f} s"


@dataclass(slots=True)
class Frames:
    """The frames of an object, and what was left out."""

    kept: list[Frame] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


def read_frames(item: SourceObject, settings: PairSettings) -> Frames:
    """The frames or photos of an object that are sharp, well exposed and no duplicates, at most `frames_per_object`.

    What cannot be read is rejected, with the reason.
    """
    frames = Frames()
    if isinstance(item.material, Video):
        try:
            read = list(_video_frames(item.material, settings))
        except InputError as error:
            frames.rejected.append(Rejection(step="decode", what=item.material.label, reason=str(error)))
            return frames
    else:
        read = list(_photos(item.material, settings, frames.rejected))
    hashes: list[Any] = []
    for frame in read:
        reason = _fault(frame, settings)
        if not reason:
            digest = _hash(frame.image)
            if any(digest - other <= settings.duplicate_bits for other in hashes):
                reason = "It is nearly the same as another frame."
            else:
                hashes.append(digest)
        if reason:
            frames.rejected.append(Rejection(step="frames", what=frame.name, reason=reason))
        else:
            frames.kept.append(frame)
    return frames


def sharpness(grey: Bytes, where: Bools | None = None) -> float:
    """How much of a picture's differences between neighbours a running mean takes away (Crete et al., 2007), in [0, 1].

    Blurring a sharp picture changes it much, a blurred one little. The measure does not depend on contrast. A
    picture that was enlarged, or was taken out of focus, has a low one.

    Args:
        grey: uint8 (height, width).
        where: (height, width), which pixels count; None counts all.
    """
    values = grey.astype(np.float32)
    length = max(LEAST_REBLUR, round(REBLUR * max(grey.shape)) | 1)
    shares = []
    for axis, kernel in ((1, (length, 1)), (0, (1, length))):
        before = np.abs(np.diff(values, axis=axis))
        after = np.abs(np.diff(cv2.blur(values, kernel), axis=axis))
        counted = np.ones(before.shape, bool) if where is None else (where[:, 1:] if axis == 1 else where[1:])
        whole = float(before[counted].sum())
        shares.append(float(np.maximum(before - after, 0.0)[counted].sum()) / whole if whole > 0 else 0.0)
    return min(shares)


def _fault(frame: Frame, settings: PairSettings) -> str:
    """Why a frame cannot be used; empty where it can."""
    mean = float(luma(frame.image.pixels).mean())
    if mean < settings.darkest:
        return f"It is too dark: its mean luma is {mean:.0f} of 255."
    if mean > settings.brightest:
        return f"It is too bright: its mean luma is {mean:.0f} of 255."
    if frame.sharpness < settings.least_sharpness:
        return f"It is blurred: its sharpness is {frame.sharpness:.2f}."
    return ""


def _hash(image: Image) -> Any:
    """The perceptual hash (64 bits) of a frame; differences count bits."""
    import imagehash

    return imagehash.phash(PILImage.fromarray(resized(image.pixels, fitted(image.size, 256))))


def _photos(photos: Sequence[Photo], settings: PairSettings, rejected: list[Rejection]) -> Iterator[Frame]:
    for photo in _spread(photos, settings.frames_per_object):
        try:
            image = open_image(photo.path, name="photo")
            mask = None if photo.mask is None else open_mask(photo.mask, size=image.size, name="mask of the photo")
        except InputError as error:
            rejected.append(Rejection(step="decode", what=photo.label, reason=str(error)))
            continue
        yield Frame(photo.label, None, image, mask, None, sharpness(luma(image.pixels)))


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


@dataclass(frozen=True, slots=True)
class _Preview:
    """A frame of a video as it is looked at first: its timestamp, its time and its sharpness at a small size."""

    timestamp: int
    seconds: float
    sharpness: float


def _video_frames(video: Video, settings: PairSettings) -> Iterator[Frame]:
    """The sharpest frame of each stretch of the video's longest shot.

    Raises:
        InputError: the video, or its mask video, cannot be decoded to its end.
    """
    shots = _shots(video.path, settings)
    # An object may be left for another one at a cut.
    shot = max(shots, key=lambda frames: frames[-1].seconds - frames[0].seconds)
    best: dict[int, _Preview] = {}
    for preview in shot:
        stretch = int((preview.seconds - shot[0].seconds) / settings.frame_seconds)
        if stretch not in best or preview.sharpness > best[stretch].sharpness:
            best[stretch] = preview
    chosen = _spread([best[stretch] for stretch in sorted(best)], settings.frames_per_object)
    pictures = _pictures_at(video.path, [preview.timestamp for preview in chosen])
    masks: Iterator[Bytes | None] = iter([None] * len(chosen))
    if video.mask is not None:
        masks = iter(_masks_at(video.mask, [preview.seconds for preview in chosen]))
    for preview, pixels in zip(chosen, pictures, strict=True):
        image = open_image(pixels, name="frame")
        marked = next(masks)
        mask = None
        if marked is not None and (marked >= 128).any():
            mask = open_mask(marked, size=image.size, name="mask of the frame")
        elif marked is not None:
            mask = Mask(np.zeros(pixels.shape[:2], np.float32))
        pose = _nearest_pose(video, preview.seconds)
        yield Frame(video.label, round(preview.seconds, 6), image, mask, pose, sharpness(luma(image.pixels)))


def _nearest_pose(video: Video, seconds: float) -> Pose | None:
    """The pose of a frame: that of the nearest time, where that is less than a twentieth of a second away."""
    if not video.poses:
        return None
    time, pose = min(video.poses, key=lambda known: abs(known[0] - seconds))
    return pose if abs(time - seconds) < 0.05 else None


def _shots(path: Path, settings: PairSettings) -> list[list[_Preview]]:
    """All frames of a video, by shots."""
    from scenedetect import ContentDetector, FrameTimecode

    detector = ContentDetector(threshold=settings.shot_threshold, min_scene_len=1)
    shots: list[list[_Preview]] = [[]]
    with _opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or 25
        for number, (timestamp, seconds, frame) in enumerate(_decoded(container, stream, path)):
            if seconds > settings.longest_video:
                break
            small = frame.reformat(*fitted((frame.width, frame.height), PREVIEW_SIDE), format="bgr24").to_ndarray()
            if detector.process_frame(FrameTimecode(number, fps=float(rate)), small) and shots[-1]:
                shots.append([])
            grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)
            shots[-1].append(_Preview(timestamp, seconds, sharpness(grey)))
        stated = 0.0 if container.duration is None else container.duration / 1_000_000
    if not shots[-1]:
        raise InputError(f"{quoted(path.name)} has no frames; give another video.")
    if shots[-1][-1].seconds - shots[0][0].seconds < WHOLE * min(stated, settings.longest_video) - 2.0 / float(rate):
        raise InputError(f"{quoted(path.name)} ends before the length that it states; copy it again.")
    return shots


def _pictures_at(path: Path, timestamps: Sequence[int]) -> Iterator[Bytes]:
    """The frames of rising timestamps in full size, upright, RGB (height, width, 3), one at a time."""
    with _opened(path) as (container, stream):
        wanted = iter(timestamps)
        timestamp = next(wanted, None)
        if timestamp is not None:
            container.seek(timestamp, stream=stream)
        for found, _, frame in _decoded(container, stream, path):
            if timestamp is None:
                return
            if found >= timestamp:
                pixels = frame.to_ndarray(format="rgb24")
                # FFmpeg's angle is that by which the stored frame is turned, against the clock.
                yield np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4))
                timestamp = next(wanted, None)
    if timestamp is not None:
        raise InputError(f"{quoted(path.name)} changed while it was read.")


def _masks_at(path: Path, seconds: Sequence[float]) -> list[Bytes]:
    """The frames of a mask video that are nearest to rising times, grey (height, width)."""
    masks: list[Bytes] = []
    with _opened(path) as (container, stream):
        half = 0.5 / float(stream.average_rate or stream.guessed_rate or 25)
        for _, time, frame in _decoded(container, stream, path):
            if len(masks) == len(seconds):
                break
            if time >= seconds[len(masks)] - half:
                pixels = np.asarray(frame.to_ndarray(format="gray"), np.uint8)
                masks.append(np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90) % 4)))
    if len(masks) < len(seconds):
        raise InputError(f"The mask video {quoted(path.name)} is shorter than its video.")
    return masks


class _opened:  # noqa: N801 (a context manager, used as a function)
    """A video and its first stream of pictures.

    Raises:
        InputError: it is no video, or its pictures are too large.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        import av

        try:
            self._container = av.open(
                str(self._path.absolute()),
                options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _unreadable(self._path, error) from error
        try:
            stream = next(iter(self._container.streams.video), None)
            if stream is None:
                raise InputError(f"{quoted(self._path.name)} holds no pictures; give a video.")
            width, height = stream.codec_context.width, stream.codec_context.height
            if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                raise InputError(
                    f"{quoted(self._path.name)} has frames of {width}x{height} pixels, which are too large."
                )
            stream.thread_type = "AUTO"
        except BaseException:
            self._container.close()
            raise
        return self._container, stream

    def __exit__(self, *_: object) -> None:
        self._container.close()


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, path: Path
) -> Iterator[tuple[int, float, av.VideoFrame]]:
    """Timestamp, seconds and frame, by rising time; what has no time is left out.

    Raises:
        InputError: the stream is damaged, or its frames change their size beyond the limits.
    """
    import av

    latest = None
    try:
        for frame in container.decode(stream):
            if frame.width * frame.height > MAX_PIXELS:
                raise InputError(f"{quoted(path.name)} has frames that are too large.")
            if frame.is_corrupt:
                raise InputError(f"{quoted(path.name)} is damaged in its frames; copy it again.")
            if frame.pts is None or frame.time is None or (latest is not None and frame.pts <= latest):
                continue
            latest = frame.pts
            yield frame.pts, frame.time, frame
    except (av.FFmpegError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"{quoted(path.name)} is no video that can be read ({one_line(reason)}).")


def object_sharpness(pixels: Bytes, mask: Floats) -> float:
    """`sharpness` inside an object's mask.

    Args:
        pixels: uint8 RGB (height, width, 3), the part of a frame around the object.
        mask: (height, width) in [0, 1].
    """
    inside = cv2.erode((mask > 0.5).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return sharpness(luma(pixels), inside if inside.any() else None)
