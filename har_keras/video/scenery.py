"""What stands around a drawn figure: camera, room or street, and things."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray
Generator = np.random.Generator
Colour = tuple[float, float, float]

SUBPIXEL_BITS = 4
"""Corners are given to OpenCV in sixteenths of a pixel, so motion is smooth."""


@dataclass
class Part:
    """A filled shape in T frames.

    Args:
        corners: array `(T, N, 2)`. A convex outline, x and y in pixels.
        depth: array `(T,)`. Distance from the camera, to sort by.
        colour: RGB, 0 to 255.
    """

    corners: Array
    depth: Array
    colour: Colour


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
        """Angle below the horizon, so that a figure's middle is centred."""
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
        self, a: Array, b: Array, radii: tuple[float, float], colour: Colour
    ) -> Part:
        """Returns the outline of two balls and the skin between them."""
        (start, near), (end, far) = self.project(a), self.project(b)
        way = end - start
        angle = np.arctan2(way[..., 1], way[..., 0])[..., None]
        rim = np.linspace(-np.pi / 2, np.pi / 2, 6)
        caps = []
        for centre, depth, radius, turn in (
            (end, far, radii[1], 0.0),
            (start, near, radii[0], np.pi),
        ):
            size = (self.focal * radius / depth)[..., None, None]
            spot = np.stack(
                [np.cos(angle + rim + turn), np.sin(angle + rim + turn)], -1
            )
            caps.append(centre[..., None, :] + size * spot)
        return Part(np.concatenate(caps, -2), (near + far) / 2, colour)

    def slab(
        self, centre: Array, size: Array, colour: Colour, heading: float = 0.0
    ) -> list[Part]:
        """Returns the faces of an upright block; `centre` is `(T, 3)`."""
        parts = []
        turn = turned(heading)
        for axis, shade in ((0, 0.8), (1, 0.9), (2, 1.12)):
            for sign in (-1, 1):
                offsets = (_face(axis, sign) * size / 2) @ turn
                corners, depth = self.project(centre[:, None, :] + offsets)
                parts.append(
                    Part(corners, depth.mean(-1), shaded(colour, shade))
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


def shaded(colour: Colour, factor: float) -> Colour:
    """Returns a colour, lighter or darker."""
    red, green, blue = (min(255.0, channel * factor) for channel in colour)
    return red, green, blue


def hue(
    rng: Generator, saturation: tuple[int, int], value: tuple[int, int]
) -> Colour:
    """Returns a random colour with saturation and value in ranges of 0..255."""
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


def fill(image: Array, corners: Array, colour: Colour) -> None:
    """Fills a convex outline `(N, 2)` of pixels with smooth edges."""
    points = np.round(corners * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillConvexPoly(image, points, colour, cv2.LINE_AA, SUBPIXEL_BITS)


def still(*xyz: float) -> Array:
    """Returns a point that does not move, `(1, 3)`."""
    return np.array([xyz], float)


# --- things ------------------------------------------------------------------


def desk(
    camera: Camera, at: Array, heading: float, colour: Colour
) -> list[Part]:
    """Returns a desk with a laptop on it; `at` is its top, `(1, 3)`."""
    turn, (_, _, top) = turned(heading), at[0]
    size = np.array([0.34, 0.55, 0.04])
    parts = camera.slab(at - [0, 0, 0.02], size, colour, heading)
    for x in (-0.14, 0.14):
        for y in (-0.24, 0.24):
            knee = at + np.array([x, y, -0.04]) @ turn
            foot = knee - [0, 0, top - 0.04]
            parts.append(
                camera.capsule(foot, knee, (0.016, 0.016), shaded(colour, 0.7))
            )
    return parts


def laptop(camera: Camera, at: Array, heading: float) -> list[Part]:
    """Returns an open laptop whose keys are at -x before it is turned."""
    turn = turned(heading)
    base, lid = np.array([-0.02, 0, 0.01]), np.array([0.08, 0, 0.08])
    return [
        *camera.slab(
            at + base @ turn,
            np.array([0.16, 0.2, 0.015]),
            (70, 72, 80),
            heading,
        ),
        *camera.slab(
            at + lid @ turn,
            np.array([0.015, 0.2, 0.14]),
            (110, 150, 190),
            heading,
        ),
    ]


def block(
    camera: Camera, at: Array, heading: float, colour: Colour
) -> list[Part]:
    """Returns a box on the ground; `at` is the middle of its top, `(1, 3)`."""
    top = at[0, 2]
    size = np.array([0.26, 0.32, top])
    return camera.slab(at - [0, 0, top / 2], size, colour, heading)


def bucket(camera: Camera, x: float, y: float, colour: Colour) -> list[Part]:
    """Returns a bucket."""
    return [
        camera.capsule(
            still(x, y, 0.05), still(x, y, 0.2), (0.07, 0.09), colour
        ),
        camera.capsule(
            still(x, y - 0.01, 0.21),
            still(x, y - 0.01, 0.22),
            (0.075, 0.075),
            shaded(colour, 0.6),
        ),
    ]


def dumbbell(
    camera: Camera, at: Array, along: Array, colour: Colour
) -> list[Part]:
    """Returns a dumbbell held at `(T, 3)`, its bar along `(T, 3)`."""
    ends = at - 0.07 * along, at + 0.07 * along
    parts = [camera.capsule(*ends, (0.014, 0.014), (150, 150, 155))]
    for end in ends:
        parts.append(
            camera.capsule(
                end - 0.02 * along, end + 0.02 * along, (0.045, 0.045), colour
            )
        )
    return parts


def pole(camera: Camera, a: Array, b: Array, colour: Colour) -> list[Part]:
    """Returns a mop from its handle to its head."""
    half = np.array([0, 0.06, 0])
    return [
        camera.capsule(a, b, (0.012, 0.012), colour),
        camera.capsule(b + half, b - half, (0.035, 0.035), (205, 205, 200)),
    ]


def hammer(
    camera: Camera, hand: Array, along: Array, across: Array
) -> list[Part]:
    """Returns a hammer that sticks out of a hand `along` a unit vector."""
    top = hand + 0.17 * along
    return [
        camera.capsule(
            hand - 0.04 * along, top, (0.014, 0.014), (150, 100, 55)
        ),
        camera.capsule(
            top - 0.06 * across,
            top + 0.06 * across,
            (0.032, 0.032),
            (80, 82, 90),
        ),
    ]


def clutter(
    camera: Camera, kind: str, x: float, y: float, rng: Generator
) -> list[Part]:
    """Returns a thing of a kind that stands on the ground."""
    colour, heading = hue(rng, (30, 170), (70, 210)), rng.uniform(0, 2 * np.pi)
    if kind == "desk":
        at = still(x, y, rng.uniform(0.38, 0.5))
        return desk(camera, at, heading, colour) + laptop(camera, at, heading)
    if kind == "mop":
        top = still(x + rng.uniform(-0.15, 0.15), y + 0.1, 0.75)
        return pole(camera, top, still(x, y, 0.03), colour)
    if kind == "bucket":
        return bucket(camera, x, y, colour)
    if kind == "dumbbell":
        return dumbbell(camera, still(x, y, 0.05), still(1, 0, 0), colour)
    at = still(x, y, rng.uniform(0.15, 0.35))
    parts = block(camera, at, heading, colour)
    if kind == "hammer":
        at = at + np.array([-0.08, -0.05, 0.02])
        parts += hammer(camera, at, still(1, 0, 0), still(0, 1, 0))
    return parts


CLUTTER = ("desk", "mop", "bucket", "dumbbell", "hammer", "box")


# --- the place ---------------------------------------------------------------


class Canvas:
    """A picture of the place, wider than a frame, to move a camera over.

    Args:
        camera: Camera. Its frame is the middle of the canvas.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.margin = np.array([camera.width, camera.height // 3])
        height = camera.height + 2 * int(self.margin[1])
        self.image = np.zeros((height, 3 * camera.width, 3), np.uint8)

    def floor_line(self, y: float) -> float:
        """Returns the canvas row at which the ground lies at depth y."""
        pixel, _ = self.camera.project(np.array([0.0, y, 0.0]))
        return float(pixel[1] + self.margin[1])

    def paint(self, parts: list[Part]) -> None:
        """Fills parts, far ones first, from their first frame."""
        for part in sorted(parts, key=lambda part: -part.depth[0]):
            fill(self.image, part.corners[0] + self.margin, part.colour)

    def ground(self, corners: Array, colour: Colour) -> None:
        """Fills an outline `(N, 3)` of points."""
        pixels, _ = self.camera.project(corners)
        fill(self.image, pixels + self.margin, colour)

    def rectangle(
        self, x: float, top: float, width: float, height: float, colour: Colour
    ) -> None:
        """Fills an upright rectangle, in pixels of the canvas."""
        corners = np.array(
            [
                [x, top],
                [x + width, top],
                [x + width, top + height],
                [x, top + height],
            ]
        )
        fill(self.image, corners, colour)


def paint_place(camera: Camera, rng: Generator) -> Canvas:
    """Returns a canvas with a room or a street on it, and clutter."""
    canvas = Canvas(camera)
    back = rng.uniform(0.8, 2.2)
    if rng.uniform() < 0.6:
        _room(canvas, back, rng)
    else:
        _street(canvas, back, rng)
    for x in _spread(rng, -5.0, 5.0, 0.5, 1.3):
        y = rng.uniform(0.4, back - 0.2) if back > 0.7 else 0.5
        canvas.paint(clutter(camera, str(rng.choice(CLUTTER)), x, y, rng))
    canvas.image = cv2.GaussianBlur(canvas.image, (3, 3), rng.uniform(0.3, 0.8))
    return canvas


def _spread(
    rng: Generator, start: float, end: float, low: float, high: float
) -> Iterator[float]:
    """Yields places from start to end, low to high apart."""
    place = start + rng.uniform(0, high)
    while place < end:
        yield place
        place += rng.uniform(low, high)


def _ramp(
    canvas: Canvas, top: float, bottom: float, a: Colour, b: Colour
) -> None:
    """Fills rows from top to bottom with a colour that goes from a to b."""
    rows = np.arange(max(0, int(top)), min(len(canvas.image), int(bottom) + 1))
    share = ((rows - top) / max(1.0, bottom - top)).clip(0, 1)[:, None]
    colours = (1 - share) * np.array(a) + share * np.array(b)
    canvas.image[rows] = colours[:, None].astype(np.uint8)


def _floor(canvas: Canvas, back: float, rng: Generator) -> None:
    """Paints the ground: plain, planks or tiles."""
    colour = hue(rng, (10, 110), (80, 190))
    line, bottom = canvas.floor_line(back), len(canvas.image)
    _ramp(canvas, line, bottom, shaded(colour, 0.8), shaded(colour, 1.1))
    if rng.uniform() < 0.3:
        return
    dark = shaded(colour, rng.uniform(0.7, 0.9))
    step = rng.uniform(0.3, 0.8)
    for x in np.arange(-8, 8, step):
        near, far = -0.55 * canvas.camera.distance, back
        canvas.ground(
            np.array(
                [
                    [x, near, 0],
                    [x + 0.03, near, 0],
                    [x + 0.03, far, 0],
                    [x, far, 0],
                ]
            ),
            dark,
        )
    if rng.uniform() < 0.5:
        for y in np.arange(back, -1.5, -step):
            canvas.ground(
                np.array(
                    [[-9, y, 0], [9, y, 0], [9, y - 0.04, 0], [-9, y - 0.04, 0]]
                ),
                dark,
            )


def _room(canvas: Canvas, back: float, rng: Generator) -> None:
    """Paints a wall with windows, doors, pictures and a floor."""
    wall = hue(rng, (8, 90), (110, 240))
    line, unit = (
        canvas.floor_line(back),
        canvas.camera.focal / (canvas.camera.distance + back),
    )
    width = canvas.image.shape[1]
    _ramp(canvas, 0, line, shaded(wall, 1.08), shaded(wall, 0.88))
    if rng.uniform() < 0.35:
        for x in np.arange(0, width, unit * rng.uniform(0.12, 0.4)):
            canvas.rectangle(x, 0, unit * 0.04, line, shaded(wall, 0.93))
    for x in _spread(rng, 0, width, 0.6 * unit, 1.8 * unit):
        wide, high = (
            unit * rng.uniform(0.25, 0.6),
            unit * rng.uniform(0.25, 0.6),
        )
        kind, colour = (
            rng.choice(["window", "door", "picture"]),
            hue(rng, (20, 160), (60, 230)),
        )
        if kind == "door":
            canvas.rectangle(
                x, line - 1.2 * unit, 0.5 * unit, 1.2 * unit, shaded(wall, 0.6)
            )
            canvas.rectangle(
                x + 0.04 * unit,
                line - 1.16 * unit,
                0.42 * unit,
                1.16 * unit,
                colour,
            )
            continue
        top = line - unit * rng.uniform(0.75, 1.3)
        canvas.rectangle(x - 2, top - 2, wide + 4, high + 4, shaded(wall, 0.7))
        canvas.rectangle(
            x, top, wide, high, (190, 215, 235) if kind == "window" else colour
        )
        if kind == "window":
            canvas.rectangle(x + wide / 2 - 1, top, 2, high, shaded(wall, 0.7))
    _floor(canvas, back, rng)
    canvas.rectangle(
        0, line - 0.04 * unit, width, 0.04 * unit, shaded(wall, 0.6)
    )


def _street(canvas: Canvas, back: float, rng: Generator) -> None:
    """Paints sky, houses or hills, trees and a path."""
    sky = hue(rng, (10, 80), (170, 250))
    line, unit = (
        canvas.floor_line(back),
        canvas.camera.focal / (canvas.camera.distance + back),
    )
    width = canvas.image.shape[1]
    _ramp(canvas, 0, line, sky, (225, 228, 230))
    for x in _spread(rng, -unit, width, 0.3 * unit, 1.0 * unit):
        colour = hue(rng, (10, 90), (110, 210))
        if rng.uniform() < 0.5:
            high = unit * rng.uniform(0.5, 1.5)
            canvas.rectangle(x, line - high, 0.7 * unit, high, colour)
            for dx in (0.12, 0.42):
                for dy in np.arange(0.12, high / unit - 0.2, 0.3):
                    canvas.rectangle(
                        x + dx * unit,
                        line - high + dy * unit,
                        0.14 * unit,
                        0.16 * unit,
                        shaded(colour, 0.7),
                    )
        else:
            green = (
                rng.uniform(50, 110),
                rng.uniform(100, 160),
                rng.uniform(50, 90),
            )
            trunk = unit * rng.uniform(0.25, 0.5)
            canvas.rectangle(
                x + 0.2 * unit, line - trunk, 0.07 * unit, trunk, (100, 75, 55)
            )
            centre = (int(x + 0.23 * unit), int(line - trunk - 0.15 * unit))
            cv2.circle(
                canvas.image,
                centre,
                int(unit * rng.uniform(0.2, 0.32)),
                green,
                -1,
                cv2.LINE_AA,
            )
    _floor(canvas, back, rng)
