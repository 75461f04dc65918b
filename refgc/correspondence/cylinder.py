"""A turned cylinder: two views of one round body, such as a can, a jar or a bottle, as one parametric map.

Both pictures see the cylinder through a camera of their own. A point of the generated picture is cast onto the
cylinder, turned by the angle between the two, and projected into the reference.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import scipy  # imports a part of it at its first use: the start of the page need not wait for that
from numpy.typing import NDArray

from refgc.correspondence.match import Matches, folds
from refgc.imaging.arrays import Floats, smoothstep

# The constants of this file were chosen by hand, not fitted.
# Fewer matches than this say nothing about a curvature.
LEAST_MATCHES = 80
# Error at which a match's weight has fallen to a half, in pixels of a reference's matching frame.
TOLERANCE = 4.0
# The most matches that a fit takes, and the most that its starts are compared with.
MOST_MATCHES, STARTING_MATCHES = 250, 80
# Starts: radii in units of the matches' extent across the axis, and turns in radians; how many of them are fitted, and
# the steps of those fits, of the last one and of those without some of the matches.
RADII, TURNS = (1.1, 1.8), (-0.9, -0.45, 0.0, 0.45, 0.9)
FITTED_STARTS, STARTING_STEPS, STEPS, HELD_OUT_STEPS = 8, 10, 30, 8
# Prior of each view: mean and standard deviation of the elevation in radians, and of the nearness, which is the radius
# over the camera's distance; standard deviations of the roll and of the turn in radians.
ELEVATION, NEARNESS = (0.15, 0.4), (0.12, 0.06)
ROLL_DEVIATION, TURN_DEVIATION = 0.3, 1.0
# Weight of the prior; of a point outside of the cylinder, and of one on its back, in the units of the residuals.
PRIOR, OUTSIDE, BACK = 0.7, 30.0, 30.0
BACK_ANGLE = 1.5
# A cylinder is taken if it predicts matches that it was not fitted to better than other maps do, by so much of the mean
# of log(1 + (error / TOLERANCE)^2), and with less than so much of it.
AHEAD, LARGEST_ERROR = 0.03, 1.3
# Where another map misses them by less than so much of it, there is nothing to gain, and none is fitted.
SMALL_ERROR = 0.5
# Largest difference between the logarithms of the radius in both pictures, each in units of the matches' extent there:
# one body is as large as its own print. It is at most 0.09 of seven drawn cans, a mug and a jar under JPEG. Of boots,
# bags and toys it was mostly 0.24 and more.
SAME_RADIUS = 0.18
# Range of the cosine between a surface's normal and the line of sight, in the reference, over which it is shown there.
SHOWN_RANGE = (0.05, 0.25)

Vector = NDArray[np.float64]
# Elevation, roll, centre (x, y), logarithm of the radius and nearness of a view; the turn follows both views.
VIEW, LOG_RADIUS = 6, 4
# Steps of the parameters that change a map by about as much.
STEP = np.array([0.2, 0.2, 0.3, 0.3, 0.3, 0.1] * 2 + [0.3])


@dataclass(frozen=True, slots=True, eq=False)
class Cylinder:
    """A map from the generated picture into the reference over the surface of a cylinder.

    Attributes:
        parameters: (13,): six of the view in the generated picture, six of that in the reference, and the turn in
            radians.
        origins: (2, 2), of the coordinates in which the parameters are, in pixels of each picture.
        units: of these coordinates, in pixels of each picture.
    """

    parameters: Vector
    origins: Vector
    units: tuple[float, float]

    @property
    def turn(self) -> float:
        """By how much the object is turned between the pictures, in radians."""
        return float(self.parameters[-1])

    def mapped(self, points: Floats) -> tuple[Floats, Floats]:
        """Points (..., 2) of the generated picture in the reference, and how well it shows them, (...) in [0, 1]."""
        here = (points.reshape(-1, 2) - self.origins[0]) / self.units[0]
        angle, height, hit = _cast(self.parameters[:VIEW], here)
        turned = angle + self.turn
        # What the reference does not show lies at its edge.
        limited = np.clip(turned, -0.5 * np.pi, 0.5 * np.pi)
        there = _projected(self.parameters[VIEW:-1], limited, height) * self.units[1] + self.origins[1]
        elevation, nearness = self.parameters[VIEW], self.parameters[2 * VIEW - 1]
        in_front = (hit > 0.0) & (np.abs(turned) < np.pi)
        facing = np.where(in_front, np.cos(turned) - nearness / np.cos(elevation), -1.0)
        shown = smoothstep(facing.astype(np.float32), *SHOWN_RANGE)
        shape = points.shape[:-1]
        return there.astype(np.float32).reshape(*shape, 2), shown.reshape(shape)

    def outline(self, reference_points: Floats) -> Floats:
        """The corners (n, 2) in the generated picture of what lies between some heights, all around its front.

        Args:
            reference_points: (n, 2) of the object in the reference.
        """
        there = (reference_points - self.origins[1]) / self.units[1]
        _, height, hit = _cast(self.parameters[VIEW:-1], there)
        ends = height[hit > 0.0] if (hit > 0.0).any() else height
        ends = np.percentile(ends, (1, 99))
        angles, heights = (field.ravel() for field in np.meshgrid(np.linspace(-0.5 * np.pi, 0.5 * np.pi, 19), ends))
        seen = _projected(self.parameters[:VIEW], angles, heights) * self.units[0] + self.origins[0]
        return np.asarray(seen, np.float32)

    def refitted(self, here: Floats, there: Floats, tolerance: float) -> "Cylinder":
        """The cylinder fitted to denser points, from this one on.

        Args:
            here: (n, 2), points of the generated picture.
            there: (n, 2), the same in the reference.
            tolerance: error at which a point's weight has fallen to a half, in pixels of the reference.
        """
        one = (here - self.origins[0]) / self.units[0]
        other = (there - self.origins[1]) / self.units[1]
        prior = _prior(self.parameters[1], self.parameters[VIEW + 1])
        parameters = _fit(self.parameters, one, other, tolerance / self.units[1], prior, STEPS, "cauchy")
        return replace(self, parameters=parameters)


def fit_cylinder(matches: Matches, unit: float, others: list[Vector]) -> Cylinder | None:
    """The cylinder that matches lie on, or None where another map predicts them as well.

    Args:
        matches: that agree with each other, in pixels of the two pictures.
        unit: pixels of the reference per pixel of its matching frame.
        others: (n,) each, by how many pixels of the reference other maps miss matches that they were not fitted to.

    The parameters are found by least squares with Cauchy weights (Levenberg-Marquardt), from several starts.
    """
    rest = min((_score(other / unit) for other in others), default=np.inf)
    if len(matches) < LEAST_MATCHES or rest < SMALL_ERROR:
        return None
    keep = np.linspace(0, len(matches) - 1, min(len(matches), MOST_MATCHES)).astype(int)
    points = [field[keep].astype(np.float64) for field in (matches.generated, matches.reference)]
    origins = np.stack([field.mean(axis=0) for field in points])
    units = [float(np.linalg.norm(field - field.mean(axis=0), axis=1).mean()) + 1e-6 for field in points]
    here, there = ((field - origin) / size for field, origin, size in zip(points, origins, units, strict=True))
    tolerance = TOLERANCE * unit / units[1]
    found = _surest(here, there, tolerance)
    if found is None:
        return None
    parameters, prior = found
    if abs(parameters[LOG_RADIUS] - parameters[VIEW + LOG_RADIUS]) > SAME_RADIUS:
        return None
    error = _held_out_error(parameters, prior, here, there, tolerance) * units[1] / unit
    score = _score(error)
    if score > LARGEST_ERROR or score > rest - AHEAD:
        return None
    return Cylinder(parameters, origins, (units[0], units[1]))


def _score(error: Vector) -> float:
    return float(np.log1p((error / TOLERANCE) ** 2).mean())


def _surest(here: Vector, there: Vector, tolerance: float) -> tuple[Vector, Vector] | None:
    """The parameters with the smallest error, with the prior they were found with."""
    design = np.column_stack([here, np.ones(len(here))])
    (a, b), (c, d) = np.linalg.lstsq(design, there, rcond=None)[0][:2].T
    size, roll = float(np.sqrt(abs(a * d - b * c))), float(np.arctan2(c - b, a + d))
    if size < 1e-3 or a * d - b * c <= 0.0:
        return None
    few = np.linspace(0, len(here) - 1, min(len(here), STARTING_MATCHES)).astype(int)
    one, other = here[few], there[few]

    def cost(start: tuple[Vector, Vector], error: float) -> float:
        parameters, prior = start
        return float(np.log1p(_residuals(parameters, one, other, error, prior) ** 2).sum())

    starts = sorted(_starts(there, size, roll), key=lambda start: cost(start, 4 * tolerance))
    fitted = [
        (_fit(start, one, other, 4 * tolerance, prior, STARTING_STEPS, "soft_l1"), prior)
        for start, prior in starts[:FITTED_STARTS]
    ]
    best, prior = min(fitted, key=lambda rough: cost(rough, tolerance))
    return _fit(best, here, there, tolerance, prior, STEPS, "cauchy"), prior


def _starts(there: Vector, size: float, roll: float) -> Iterator[tuple[Vector, Vector]]:
    """Parameters with their prior: the axis upright or lying in the reference, some radii and some turns.

    Args:
        there: (n, 2), points of the reference around its origin.
        size: units of the reference per unit of the generated picture.
        roll: from the generated picture to the reference, in radians.
    """
    for axis, radius, turn in product((0.0, 0.5 * np.pi), RADII, TURNS):
        across, across_here = (np.array([np.cos(angle), np.sin(angle)]) for angle in (axis, axis - roll))
        shown = float(np.percentile(np.abs(there @ across), 95)) * radius
        seen, offset = shown / size, np.sin(0.5 * turn)
        view = (ELEVATION[0], axis - roll, *(seen * offset * across_here), np.log(seen), NEARNESS[0])
        reference_view = (ELEVATION[0], axis, *(-shown * offset * across), np.log(shown), NEARNESS[0])
        yield np.array([*view, *reference_view, turn]), _prior(axis - roll, axis)


def _held_out_error(parameters: Vector, prior: Vector, here: Vector, there: Vector, tolerance: float) -> Vector:
    """By how much each point is missed by the cylinder that was fitted without it, (n,)."""
    error = np.zeros(len(here))
    for left in folds(len(here)):
        refitted = _fit(parameters, here[~left], there[~left], tolerance, prior, HELD_OUT_STEPS, "cauchy")
        error[left] = np.linalg.norm(_forward(refitted, here[left])[0] - there[left], axis=1)
    return error


def _fit(start: Vector, here: Vector, there: Vector, tolerance: float, prior: Vector, steps: int, loss: str) -> Vector:
    """The parameters nearest to `start` with the least cost."""
    found = scipy.optimize.least_squares(
        _residuals, start, args=(here, there, tolerance, prior), loss=loss, max_nfev=steps, x_scale=STEP
    )
    return np.asarray(found.x)


def _prior(roll: float, reference_roll: float) -> Vector:
    """(2, 13): means and standard deviations of the parameters, infinite where nothing is known."""
    means, deviations = [], []
    for angle in (roll, reference_roll):
        means += [ELEVATION[0], angle, 0.0, 0.0, 0.0, NEARNESS[0]]
        deviations += [ELEVATION[1], ROLL_DEVIATION, np.inf, np.inf, np.inf, NEARNESS[1]]
    return np.array([[*means, 0.0], [*deviations, TURN_DEVIATION]])


def _residuals(parameters: Vector, here: Vector, there: Vector, tolerance: float, prior: Vector) -> Vector:
    predicted, angle, hit = _forward(parameters, here)
    return np.concatenate(
        [
            ((predicted - there) / tolerance).ravel(),
            OUTSIDE * np.maximum(0.0, -hit),
            BACK * np.maximum(0.0, np.abs(angle) - BACK_ANGLE),
            PRIOR * (parameters - prior[0]) / prior[1],
        ]
    )


def _forward(parameters: Vector, here: Vector) -> tuple[Vector, Vector, Vector]:
    """Points of the generated picture in the reference; their angles there; what `_cast` says of a hit."""
    angle, height, hit = _cast(parameters[:VIEW], here)
    turned = angle + parameters[-1]
    return _projected(parameters[VIEW:-1], turned, height), turned, hit


def _cast(view: Vector, points: Vector) -> tuple[Vector, Vector, Vector]:
    """Angle in radians and height in radii at which a view's points (n, 2) hit the cylinder, and whether they do.

    The third array is positive for a hit; what misses is put where it misses by the least.
    """
    elevation, roll, x, y, log_radius, nearness = view
    cosine, sine = np.cos(roll), np.sin(roll)
    across, down = (points - (x, y)).T / np.exp(log_radius)
    across, down = cosine * across + sine * down, cosine * down - sine * across
    up, out = np.sin(elevation), np.cos(elevation)
    # A point of the line of sight at depth z is (across, down) * (1 + nearness * z), z. The cylinder is x^2 + z^2 = 1.
    slope = out - down * nearness * up
    squared = np.maximum((across * nearness) ** 2 + slope**2, 1e-9)
    half = across * across * nearness - down * up * slope
    hit = half * half - squared * (across * across + (down * up) ** 2 - 1.0)
    depth = (-half - np.sqrt(np.maximum(hit, 0.0))) / squared
    far = 1.0 + nearness * depth
    return (
        np.arctan2(across * far, down * far * up - depth * out),
        down * far * out + depth * up,
        hit,
    )


def _projected(view: Vector, angle: Vector, height: Vector) -> Vector:
    """Points (n, 2) of a view at which angles in radians and heights in radii of the cylinder are seen."""
    elevation, roll, x, y, log_radius, nearness = view
    up, out = np.sin(elevation), np.cos(elevation)
    back = -np.cos(angle)
    # What is behind the camera is put just before it.
    far = np.maximum(1.0 + nearness * (height * up + back * out), 0.05)
    across, down = np.sin(angle) / far, (height * out - back * up) / far
    cosine, sine = np.cos(roll), np.sin(roll)
    turned = np.stack([cosine * across - sine * down, sine * across + cosine * down], axis=1)
    return np.asarray(turned * np.exp(log_radius) + (x, y))
