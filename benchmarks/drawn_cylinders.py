"""What the cylinder's map gains: drawn cans and jars, turned between the two pictures, with simulated artifacts.

usage: python -m benchmarks.drawn_cylinders [--seeds N] [--json FILE]

Each can is drawn with a print of its own, seen by two cameras, and refined twice: as it is, and with no cylinder
fitted. The command prints the mean gain over the enlargement inside the can, in dB, by the turn.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

from benchmarks.trust_set import SCALE, gain_of
from refgc.correspondence import find
from refgc.correspondence.engine import CorrespondenceEngine
from refgc.imaging.arrays import Bools, Bytes
from refgc.imaging.files import write_whole
from refgc.imaging.image import Image, Mask
from refgc.request import RefineRequest
from refgc.simulator.artifacts import Strengths, simulate

SIDE = 1024
TURNS = (10.0, 20.0, 30.0, 45.0)
# Distance of the camera in radii of the can.
DISTANCE = 7.0
WORDS = ("HONEY", "ORGANIC", "PEAR", "No. 42", "FRESH", "250 g", "since 1921", "LEMON", "Oolong", "quality")


@dataclass(frozen=True, slots=True)
class Camera:
    """How a can is seen: angles in degrees, size and place as shares of the picture's side."""

    turn: float
    elevation: float
    roll: float = 0.0
    height: float = 0.8
    middle: tuple[float, float] = (0.5, 0.5)


def print_of(seed: int) -> Bytes:
    """A print all around a can (1100, 3000, 3)."""
    random = np.random.default_rng(seed)
    label = np.full((1100, 3000, 3), random.integers(60, 230, 3), np.uint8)

    def colour() -> tuple[int, ...]:
        return tuple(int(value) for value in random.integers(0, 255, 3))

    def place() -> tuple[int, int]:
        return int(random.integers(-100, 3000)), int(random.integers(60, 1080))

    for _ in range(6):
        cv2.circle(label, place(), int(random.integers(30, 160)), colour(), -1)
        x, y = place()
        cv2.rectangle(label, (x, y), (x + int(random.integers(60, 420)), y + 120), colour(), -1)
    for _ in range(30):
        word, size = WORDS[random.integers(len(WORDS))], float(random.uniform(0.8, 4))
        cv2.putText(label, word, place(), cv2.FONT_HERSHEY_DUPLEX, size, colour(), 5, cv2.LINE_AA)
    return label


def seen(label: Bytes, camera: Camera, ground: Bytes, half_height: float, light: float = 0.0) -> tuple[Bytes, Bools]:
    """A can before a ground (SIDE, SIDE, 3), and where its side is seen.

    Each line of sight is cut with the cylinder of radius 1.
    """
    elevation, roll = np.radians(camera.elevation), np.radians(camera.roll)
    eye = DISTANCE * np.array([0.0, -np.sin(elevation), -np.cos(elevation)])
    forward = -eye / DISTANCE
    right = np.array([1.0, 0.0, 0.0])
    down = np.cross(forward, right)
    right, down = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    focal = camera.height * DISTANCE / (2 * half_height)
    place = (np.arange(SIDE) + 0.5) / SIDE
    x, y = np.meshgrid((place - camera.middle[0]) / focal, (place - camera.middle[1]) / focal)
    ray = forward + x[..., None] * right + y[..., None] * down
    squared = ray[..., 0] ** 2 + ray[..., 2] ** 2
    half = eye[0] * ray[..., 0] + eye[2] * ray[..., 2]
    hit = half * half - squared * (eye[0] ** 2 + eye[2] ** 2 - 1.0)
    point = eye + ((-half - np.sqrt(np.maximum(hit, 0.0))) / squared)[..., None] * ray
    side = (hit > 0) & (np.abs(point[..., 1]) < half_height)
    angle = np.arctan2(point[..., 0], -point[..., 2])
    around = (angle + np.radians(camera.turn)) % (2 * np.pi) / (2 * np.pi) * label.shape[1]
    along = (point[..., 1] / half_height + 1) / 2 * (label.shape[0] - 1)
    # One pixel of the picture is some of the print.
    soft = cv2.GaussianBlur(label, (0, 0), 1.0)
    painted = cv2.remap(
        soft, around.astype(np.float32), along.astype(np.float32), cv2.INTER_LINEAR, None, cv2.BORDER_WRAP
    )
    shade = 0.55 + 0.45 * np.clip(np.cos(angle - light), 0, 1)
    picture = np.where(side[..., None], painted * shade[..., None], ground)
    return picture.astype(np.uint8), side


def pair(seed: int, turn: float) -> tuple[Bytes, Bytes, Bools]:
    """Reference, truth and where the truth shows the can's side."""
    random = np.random.default_rng(seed)
    label, half_height, start = print_of(seed), random.uniform(1.0, 1.7), random.uniform(0, 360)
    white = np.full((SIDE, SIDE, 3), 245, np.uint8)
    reference, _ = seen(label, Camera(start, random.uniform(3, 12)), white, half_height)
    noise = random.normal(size=(32, 32, 3)).astype(np.float32) * 30 + random.integers(60, 200, 3)
    ground = np.clip(cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)
    middle = float(random.uniform(0.4, 0.6)), float(random.uniform(0.45, 0.55))
    camera = Camera(start + turn, random.uniform(5, 25), random.uniform(-8, 8), random.uniform(0.4, 0.65), middle)
    truth, side = seen(label, camera, ground, half_height, random.uniform(-0.6, 0.6))
    return reference, truth, side


def request_of(seed: int, turn: float) -> tuple[RefineRequest, Bytes, Bools]:
    """What is asked for, the truth, and where that shows the can's side."""
    reference, truth, side = pair(seed, turn)
    strengths = Strengths(identity_distortion=0.05, detail_inconsistency=0.3, texture_loss=0.3, quality_degradation=0.4)
    size = SIDE // SCALE, SIDE // SCALE
    generated = simulate(Image(truth), Mask(side.astype(np.float32)), size=size, strengths=strengths, seed=seed).image
    return RefineRequest(Image(reference), generated, SCALE), truth, side


def gain(request: RefineRequest, truth: Bytes, side: Bools) -> float:
    """By how much the result is nearer to the truth than the enlargement, in dB inside the can's side."""
    return gain_of(CorrespondenceEngine().refine(request), truth, side)


def measure(seeds: int) -> list[dict[str, Any]]:
    """One line for each turn."""
    lines = []
    for turn in TURNS:
        found = []
        for seed in range(seeds):
            asked = request_of(seed, turn)
            with patch.object(find, "fit_cylinder", lambda *_: None):
                without = gain(*asked)
            found.append((gain(*asked), without))
        gains, others = np.array(found).T
        line = {"turn": turn, "cans": seeds, "gain": gains.mean(), "without": others.mean(), "worst": gains.min()}
        lines.append({name: round(float(value), 3) for name, value in line.items()})
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, metavar="N", help="cans (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    lines = measure(options.seeds)
    if options.json:
        write_whole(options.json, (json.dumps(lines, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
