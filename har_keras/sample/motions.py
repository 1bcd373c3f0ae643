"""Motion of a figure: positions of its hands, feet and pelvis over time.

A motion is defined for a figure of stature (height) 1 that stands at the
origin and faces along x; y points to its left and z up. Every value is an
array over time, so that one call animates a figure for a whole video.
"""

from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray
Generator = np.random.Generator

HIP = 0.53
"""Height of the pelvis of a standing figure, in statures."""


@dataclass
class Motion:
    """Positions of a figure's hands, feet and pelvis at T times.

    Args:
        pelvis: array `(T, 3)`.
        hands: array `(2, T, 3)`, left and right.
        feet: array `(2, T, 3)`, the ankles above the ground, left and right.
        lean: array `(T,)`. Torso forward from upright, in radians.
        roll: array `(T,)`. Torso to the left, in radians.
        twist: array `(T,)`. Shoulders turned left, in radians.
        travel: array `(T,)`. Distance walked along x, in statures.
        held: str. Object in the hands; `""` for none.
        furniture: Furniture of the action: kind, x and height.
        elbows: array `(3,)`. Direction of the elbows; y is outward.
        knees: array `(3,)`. Direction of the knees; y is outward.
    """

    pelvis: Array
    hands: Array
    feet: Array
    lean: Array
    roll: Array
    twist: Array
    travel: Array
    held: str = ""
    furniture: list[tuple[str, float, float]] = field(default_factory=list)
    elbows: tuple[float, float, float] = (-0.6, 0.5, -0.4)
    knees: tuple[float, float, float] = (1.0, 0.25, 0.0)


def path(t: Array, x: object, y: object, z: object) -> Array:
    """Returns `(T, 3)` from three values or arrays over time."""
    columns = [
        np.broadcast_to(np.asarray(v, float), t.shape) for v in (x, y, z)
    ]
    return np.stack(columns, -1)


def beat(t: Array, rng: Generator, low: float, high: float) -> Array:
    """Returns a phase in radians at a rate in [low, high) cycles a second."""
    rate, start = rng.uniform(low, high), rng.uniform()
    sway = 0.03 * np.sin(2 * np.pi * (0.3 * t + rng.uniform()))
    return 2 * np.pi * (rate * t + start + sway)


def pulse(phase: Array, sharpness: float = 1.0) -> Array:
    """Returns 0..1..0 once a cycle; a higher sharpness is more abrupt."""
    wave = np.tanh(sharpness * -np.cos(phase)) / np.tanh(sharpness)
    return 0.5 + 0.5 * wave


def standing(t: Array, rng: Generator) -> Motion:
    """Returns a standing figure, feet apart, arms hanging, swaying a little."""
    spread, stagger = rng.uniform(0.06, 0.13), rng.uniform(-0.17, 0.17)
    sway = 0.012 * np.sin(
        2 * np.pi * (rng.uniform(0.2, 0.5) * t + rng.uniform())
    )
    reach = abs(stagger) * 0.25
    left = path(t, stagger, spread, 0.0)
    right = path(t, -stagger, -spread, 0.0)
    hands = [path(t, rng.uniform(-0.08, 0.12), s * 0.19, 0.43) for s in (1, -1)]
    zero = np.zeros_like(t)
    return Motion(
        pelvis=path(t, sway, 0.7 * sway, HIP - 0.012 - reach**1.5),
        hands=np.stack(hands),
        feet=np.stack([left, right]),
        lean=zero + rng.uniform(0.0, 0.15) + sway,
        roll=zero + 0.5 * sway,
        twist=zero.copy(),
        travel=zero.copy(),
    )


def sit(motion: Motion, rng: Generator) -> None:
    """Seats a standing figure, its feet in front of it."""
    height = rng.uniform(0.24, 0.29)
    motion.pelvis[:, 2] += height + 0.05 - HIP
    motion.hands[:, :, 2] += height + 0.05 - HIP
    motion.feet[:, :, 0] = rng.uniform(0.2, 0.32)
    motion.feet[:, :, 1] *= 1.1
    motion.furniture.append(("seat", -0.03, height))


def crouch(motion: Motion, depth: float) -> None:
    """Lowers a standing figure onto bent knees."""
    motion.pelvis[:, 2] -= depth
    motion.pelvis[:, 0] -= 0.4 * depth
    motion.hands[:, :, 2] -= depth
    motion.lean += 1.4 * depth


def chest(motion: Motion, forward: float, height: float, apart: float) -> None:
    """Places both hands in front of the torso, `height` above the pelvis."""
    for hand, side in zip(motion.hands, (1, -1), strict=True):
        hand[:, 0] = motion.pelvis[:, 0] + forward + 0.5 * motion.lean * height
        hand[:, 1] = motion.pelvis[:, 1] + side * apart
        hand[:, 2] = motion.pelvis[:, 2] + height
