"""Backgrounds: a room or a street, with clutter."""

from collections.abc import Iterator

import cv2
import numpy as np

from har_keras.sample.camera import Camera, Color, Part, fill, hue, shaded
from har_keras.sample.props import CLUTTER, clutter

Array = np.ndarray
Generator = np.random.Generator


class Canvas:
    """The background image, larger than a frame so that the camera can move.

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
        """Draws the first frame of parts, far ones first."""
        for part in sorted(parts, key=lambda part: -part.depth[0]):
            fill(self.image, part.corners[0] + self.margin, part.color)

    def ground(self, corners: Array, color: Color) -> None:
        """Fills a polygon `(N, 3)` of points."""
        pixels, _ = self.camera.project(corners)
        fill(self.image, pixels + self.margin, color)

    def rectangle(
        self, x: float, top: float, width: float, height: float, color: Color
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
        fill(self.image, corners, color)


def paint_place(camera: Camera, rng: Generator) -> Canvas:
    """Returns a canvas with a room or a street, and clutter."""
    canvas = Canvas(camera)
    back = rng.uniform(0.8, 2.2)
    if rng.uniform() < 0.6:
        _room(canvas, back, rng)
    else:
        _street(canvas, back, rng)
    for x in _spread(rng, -5.0, 5.0, 0.5, 1.3):
        y = rng.uniform(0.4, back - 0.2) if back > 0.7 else 0.5
        canvas.paint(clutter(camera, str(rng.choice(CLUTTER)), x, y, rng))
    canvas.image = _out_of_focus(canvas.image, rng)
    return canvas


def _out_of_focus(image: Array, rng: Generator) -> Array:
    """Returns the background blurred and hazy, as if out of focus."""
    soft = cv2.GaussianBlur(image, (5, 5), rng.uniform(0.3, 0.8)).astype(float)
    haze = rng.uniform(0.45, 0.75)
    return ((1 - haze) * soft + haze * soft.mean((0, 1))).astype(np.uint8)


def _spread(
    rng: Generator, start: float, end: float, low: float, high: float
) -> Iterator[float]:
    """Yields positions from start to end, low to high apart."""
    place = start + rng.uniform(0, high)
    while place < end:
        yield place
        place += rng.uniform(low, high)


def _ramp(
    canvas: Canvas, top: float, bottom: float, a: Color, b: Color
) -> None:
    """Fills rows from top to bottom with a color gradient from a to b."""
    rows = np.arange(max(0, int(top)), min(len(canvas.image), int(bottom) + 1))
    share = ((rows - top) / max(1.0, bottom - top)).clip(0, 1)[:, None]
    colors = (1 - share) * np.array(a) + share * np.array(b)
    canvas.image[rows] = colors[:, None].astype(np.uint8)


def _floor(canvas: Canvas, back: float, rng: Generator) -> None:
    """Paints the ground: plain, planks or tiles."""
    color = hue(rng, (10, 70), (105, 185))
    line, bottom = canvas.floor_line(back), len(canvas.image)
    _ramp(canvas, line, bottom, shaded(color, 0.8), shaded(color, 1.1))
    if rng.uniform() < 0.3:
        return
    dark = shaded(color, rng.uniform(0.7, 0.9))
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
    wall = hue(rng, (8, 70), (130, 225))
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
        kind, color = (
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
                color,
            )
            continue
        top = line - unit * rng.uniform(0.75, 1.3)
        canvas.rectangle(x - 2, top - 2, wide + 4, high + 4, shaded(wall, 0.7))
        canvas.rectangle(
            x, top, wide, high, (190, 215, 235) if kind == "window" else color
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
        color = hue(rng, (10, 90), (110, 210))
        if rng.uniform() < 0.5:
            high = unit * rng.uniform(0.5, 1.5)
            canvas.rectangle(x, line - high, 0.7 * unit, high, color)
            for dx in (0.12, 0.42):
                for dy in np.arange(0.12, high / unit - 0.2, 0.3):
                    canvas.rectangle(
                        x + dx * unit,
                        line - high + dy * unit,
                        0.14 * unit,
                        0.16 * unit,
                        shaded(color, 0.7),
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
            center = (int(x + 0.23 * unit), int(line - trunk - 0.15 * unit))
            cv2.circle(
                canvas.image,
                center,
                int(unit * rng.uniform(0.2, 0.32)),
                green,
                -1,
                cv2.LINE_AA,
            )
    _floor(canvas, back, rng)
