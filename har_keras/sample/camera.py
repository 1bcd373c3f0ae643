"""A pinhole camera that projects points and solids to polygons."""

from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray
Generator = np.random.Generator
Color = tuple[float, float, float]

SUBPIXEL_BITS = 4
"""Corners have a resolution of 1/16 pixel, so that motion is smooth."""


@dataclass
class Part:
    """A filled polygon in T frames.

    Args:
        corners: array `(T, N, 2)`. A convex outline, x and y in pixels.
        depth: array `(T,)`. Distance from the camera, for sorting.
        color: RGB, 0 to 255.
    """

    corners: Array
    depth: Array
    color: Color


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along +y, and down by `tilt`.

    Args:
        width: int. Frame width in pixels.
        height: int. Frame height in pixels.
        distance: float. From the origin, in statures.
        eye: float. Height above the ground, in statures.
        focal: float. Focal length in pixels.
    """

    width: int
    height: int
    distance: float
    eye: float
    focal: float

    @property
    def tilt(self) -> float:
        """Angle below the horizon, so that a figure's middle is centered."""
        return float(np.arctan2(self.eye - 0.48, self.distance))

    def project(self, points: Array) -> tuple[Array, Array]:
        """Returns pixels `(..., 2)` and depths `(...)` of points `(..., 3)`."""
        along = points[..., 1] + self.distance
        above = points[..., 2] - self.eye
        sine, cosine = np.sin(self.tilt), np.cos(self.tilt)
        depth = np.maximum(along * cosine - above * sine, 0.3)
        up = above * cosine + along * sine
        x = self.width / 2 + self.focal * points[..., 0] / depth
        y = self.height / 2 - self.focal * up / depth
        return np.stack([x, y], -1), depth

    def capsule(
        self, a: Array, b: Array, radii: tuple[float, float], color: Color
    ) -> Part:
        """Returns the outline of a capsule, the convex hull of two balls."""
        (start, near), (end, far) = self.project(a), self.project(b)
        way = end - start
        angle = np.arctan2(way[..., 1], way[..., 0])[..., None]
        rim = np.linspace(-np.pi / 2, np.pi / 2, 6)
        caps = []
        for center, depth, radius, turn in (
            (end, far, radii[1], 0.0),
            (start, near, radii[0], np.pi),
        ):
            size = (self.focal * radius / depth)[..., None, None]
            spot = np.stack(
                [np.cos(angle + rim + turn), np.sin(angle + rim + turn)], -1
            )
            caps.append(center[..., None, :] + size * spot)
        return Part(np.concatenate(caps, -2), (near + far) / 2, color)

    def slab(
        self, center: Array, size: Array, color: Color, heading: float = 0.0
    ) -> list[Part]:
        """Returns the faces of an upright block; `center` is `(T, 3)`."""
        parts = []
        turn = turned(heading)
        for axis, shade in ((0, 0.8), (1, 0.9), (2, 1.12)):
            for sign in (-1, 1):
                offsets = (_face(axis, sign) * size / 2) @ turn
                corners, depth = self.project(center[:, None, :] + offsets)
                parts.append(
                    Part(corners, depth.mean(-1), shaded(color, shade))
                )
        return parts


def turned(heading: float) -> Array:
    """Returns the `(3, 3)` matrix that turns rows about the z axis."""
    cosine, sine = np.cos(heading), np.sin(heading)
    return np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])


def _face(axis: int, sign: int) -> Array:
    """Returns the `(4, 3)` corners of a face of the cube from -1 to 1."""
    square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
    return np.insert(square, axis, sign, axis=1)


def shaded(color: Color, factor: float) -> Color:
    """Returns a lighter or darker color."""
    red, green, blue = (min(255.0, channel * factor) for channel in color)
    return red, green, blue


def hue(
    rng: Generator, saturation: tuple[int, int], value: tuple[int, int]
) -> Color:
    """Returns a random color with saturation and value in ranges of 0..255."""
    pixel = np.array(
        [
            [
                [
                    rng.integers(180),
                    rng.integers(*saturation),
                    rng.integers(*value),
                ]
            ]
        ],
        np.uint8,
    )
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def fill(image: Array, corners: Array, color: Color) -> None:
    """Fills a convex polygon `(N, 2)` with antialiasing."""
    points = np.round(corners * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillConvexPoly(image, points, color, cv2.LINE_AA, SUBPIXEL_BITS)


def still(*xyz: float) -> Array:
    """Returns a point that does not move, `(1, 3)`."""
    return np.array([xyz], float)
