"""Objects in the scene or in the hands: furniture, tools, boxes."""

import numpy as np

from har_keras.sample.camera import (
    Camera,
    Color,
    Part,
    hue,
    shaded,
    still,
    turned,
)

Array = np.ndarray
Generator = np.random.Generator


def desk(camera: Camera, at: Array, heading: float, color: Color) -> list[Part]:
    """Returns a desk with a laptop on it; `at` is its top, `(1, 3)`."""
    turn, (_, _, top) = turned(heading), at[0]
    size = np.array([0.34, 0.55, 0.04])
    parts = camera.slab(at - [0, 0, 0.02], size, color, heading)
    for x in (-0.14, 0.14):
        for y in (-0.24, 0.24):
            knee = at + np.array([x, y, -0.04]) @ turn
            foot = knee - [0, 0, top - 0.04]
            parts.append(
                camera.capsule(foot, knee, (0.016, 0.016), shaded(color, 0.7))
            )
    return parts


def laptop(camera: Camera, at: Array, heading: float) -> list[Part]:
    """Returns an open laptop whose keyboard faces -x before rotation."""
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
    camera: Camera, at: Array, heading: float, color: Color
) -> list[Part]:
    """Returns a box on the ground; `at` is the middle of its top, `(1, 3)`."""
    top = at[0, 2]
    size = np.array([0.26, 0.32, top])
    return camera.slab(at - [0, 0, top / 2], size, color, heading)


def bucket(camera: Camera, x: float, y: float, color: Color) -> list[Part]:
    """Returns a bucket."""
    return [
        camera.capsule(
            still(x, y, 0.05), still(x, y, 0.2), (0.07, 0.09), color
        ),
        camera.capsule(
            still(x, y - 0.01, 0.21),
            still(x, y - 0.01, 0.22),
            (0.075, 0.075),
            shaded(color, 0.6),
        ),
    ]


def dumbbell(
    camera: Camera, at: Array, along: Array, color: Color
) -> list[Part]:
    """Returns a dumbbell held at `(T, 3)`, its bar along `(T, 3)`."""
    ends = at - 0.07 * along, at + 0.07 * along
    parts = [camera.capsule(*ends, (0.014, 0.014), (150, 150, 155))]
    for end in ends:
        parts.append(
            camera.capsule(
                end - 0.02 * along, end + 0.02 * along, (0.055, 0.055), color
            )
        )
    return parts


def pole(camera: Camera, a: Array, b: Array, color: Color) -> list[Part]:
    """Returns a mop from its handle to its head."""
    half = np.array([0, 0.06, 0])
    return [
        camera.capsule(a, b, (0.012, 0.012), color),
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
    """Returns an object of a kind that stands on the ground."""
    color, heading = hue(rng, (30, 170), (70, 210)), rng.uniform(0, 2 * np.pi)
    if kind == "desk":
        at = still(x, y, rng.uniform(0.38, 0.5))
        return desk(camera, at, heading, color) + laptop(camera, at, heading)
    if kind == "mop":
        top = still(x + rng.uniform(-0.15, 0.15), y + 0.1, 0.75)
        return pole(camera, top, still(x, y, 0.03), color)
    if kind == "bucket":
        return bucket(camera, x, y, color)
    if kind == "dumbbell":
        return dumbbell(camera, still(x, y, 0.05), still(1, 0, 0), color)
    at = still(x, y, rng.uniform(0.15, 0.35))
    parts = block(camera, at, heading, color)
    if kind == "hammer":
        at = at + np.array([-0.08, -0.05, 0.02])
        parts += hammer(camera, at, still(1, 0, 0), still(0, 1, 0))
    return parts


CLUTTER = ("desk", "mop", "bucket", "dumbbell", "hammer", "box")
