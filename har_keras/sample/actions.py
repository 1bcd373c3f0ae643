"""The twelve actions of the sample videos, in three classes."""

from collections.abc import Callable

import numpy as np

from har_keras.sample.motions import (
    HIP,
    Motion,
    beat,
    chest,
    crouch,
    path,
    pulse,
    sit,
    standing,
)

Array = np.ndarray
Generator = np.random.Generator

# --- gym ---------------------------------------------------------------------


def squat(t: Array, rng: Generator) -> Motion:
    """Bends both knees deeply and rises, arms ahead or at the chest."""
    motion = standing(t, rng)
    down = pulse(beat(t, rng, 0.9, 1.2), rng.uniform(0.3, 1.0))
    depth = rng.uniform(0.25, 0.31) * down
    motion.feet[:, :, 0] *= 0.3
    motion.feet[:, :, 1] *= 1.5
    motion.pelvis[:, 2] -= depth
    motion.pelvis[:, 0] -= 0.45 * depth
    motion.lean += rng.uniform(1.2, 2.2) * depth
    motion.hands[:, :, 2] -= depth
    style = rng.choice(["ahead", "chest", "hang"])
    motion.held = str(rng.choice(["", "box", "dumbbells"]))
    if style == "ahead" and motion.held != "box":
        chest(motion, 0.1, 0.1, 0.14)
        motion.hands[:, :, 0] += 0.28 * down
        motion.hands[:, :, 2] += 0.15 * down
    elif style == "chest" or motion.held == "box":
        chest(motion, 0.17, 0.2, 0.1)
    return motion


def jumping_jack(t: Array, rng: Generator) -> Motion:
    """Jumps with legs and arms apart, and together again."""
    motion = standing(t, rng)
    phase = beat(t, rng, 1.1, 1.5)
    apart = pulse(phase, rng.uniform(0.3, 1.0))
    motion.held = str(rng.choice(["", "", "dumbbells"]))
    hop = rng.uniform(0.02, 0.05) * np.abs(np.sin(phase))
    angle = np.radians(rng.uniform(8, 25) + rng.uniform(110, 150) * apart)
    for side, foot, hand in zip(
        (1, -1), motion.feet, motion.hands, strict=True
    ):
        foot[:, 0] *= 0.2
        foot[:, 1] = side * (0.06 + rng.uniform(0.12, 0.17) * apart)
        foot[:, 2] += hop
        hand[:, 0] = 0.05
        hand[:, 1] = side * (0.12 + 0.36 * np.sin(angle))
        hand[:, 2] = HIP + 0.28 - 0.38 * np.cos(angle) + hop
    motion.pelvis[:, 2] += hop - 0.06 * apart
    return motion


def push_up(t: Array, rng: Generator) -> Motion:
    """Lowers and raises a straight body on the hands, on floor or a step."""
    motion = standing(t, rng)
    down = pulse(beat(t, rng, 0.9, 1.3), rng.uniform(0.3, 1.0))
    step = float(rng.choice([0.0, 0.0, 0.15, 0.28]))
    reach = 0.36 - rng.uniform(0.2, 0.27) * down
    slope = np.arcsin((step + reach - 0.04) / 0.78)
    rest = np.arcsin((step + 0.36 - 0.04) / 0.78)
    back = -0.45
    motion.feet[:, :, 0] = back
    motion.feet[:, :, 1] *= 0.7
    motion.pelvis = path(
        t, back + 0.49 * np.cos(slope), 0.0, 0.05 + 0.49 * np.sin(slope)
    )
    motion.lean = np.pi / 2 - slope
    ahead = back + 0.78 * np.cos(rest) + 0.02
    width = rng.uniform(0.13, 0.19)
    hands = [path(t, ahead, side * width, step + 0.02) for side in (1, -1)]
    motion.hands = np.stack(hands)
    motion.elbows = (-0.6, 0.7, 0.2)
    motion.knees = (0.3, 0.1, -1.0)
    if step:
        motion.furniture.append(("step", ahead + 0.05, step))
    return motion


def curl(t: Array, rng: Generator) -> Motion:
    """Bends the forearms up and lowers them, standing or seated."""
    motion = standing(t, rng)
    motion.held = str(rng.choice(["dumbbells", "dumbbells", "box", ""]))
    if rng.uniform() < 0.25:
        sit(motion, rng)
    phase = beat(t, rng, 1.0, 1.4)
    together = motion.held == "box" or rng.uniform() < 0.8
    swing = rng.uniform(2.3, 2.7)
    for index, side in enumerate((1, -1)):
        shift = 0.0 if together or side > 0 else np.pi
        angle = 0.15 + swing * pulse(phase + shift, 0.6)
        apart = 0.1 if motion.held == "box" else 0.17
        motion.hands[index] = motion.pelvis + path(
            t,
            0.03 + 0.24 * np.sin(angle),
            side * apart,
            0.12 - 0.24 * np.cos(angle),
        )
    motion.lean += 0.14 * np.sin(phase)
    return motion


# --- walk --------------------------------------------------------------------


def _gait(
    t: Array, rng: Generator, rate: tuple[float, float],
    stride: tuple[float, float], lift: float,
) -> tuple[Motion, Array]:  # fmt: skip
    """Returns a walking figure and the phase of its left leg."""
    motion = standing(t, rng)
    phase = beat(t, rng, *rate)
    half = rng.uniform(*stride)
    for index, side in enumerate((1, -1)):
        leg = phase + (0.0 if side > 0 else np.pi)
        swing = np.maximum(0.0, -np.sin(leg))
        motion.feet[index] = path(
            t, half * np.cos(leg), side * 0.055, lift * swing
        )
        motion.hands[index, :, 0] = -0.8 * half * np.cos(leg) + 0.03
        motion.hands[index, :, 2] = 0.41 + 0.04 * np.abs(np.cos(leg))
    motion.pelvis[:, 2] -= half**2 * (0.6 + 0.4 * np.cos(2 * phase))
    motion.twist = 0.12 * np.cos(phase)
    # A planted foot moves back by 2 * half in half a cycle.
    motion.travel = (phase - phase[0]) / (2 * np.pi) * 4 * half
    return motion, phase


def _carry(motion: Motion, rng: Generator) -> None:
    """Puts an object, or nothing, into the hands of a walking figure."""
    motion.held = str(rng.choice(["", "", "box", "dumbbells", "hammer", "mop"]))
    if motion.held in ("box", "mop"):
        chest(motion, 0.17, rng.uniform(0.02, 0.2), 0.1)


def stroll(t: Array, rng: Generator) -> Motion:
    """Walks at an easy pace."""
    motion, _ = _gait(t, rng, (0.75, 1.0), (0.14, 0.19), 0.06)
    _carry(motion, rng)
    return motion


def stride(t: Array, rng: Generator) -> Motion:
    """Walks briskly with long steps, leaning forward a little."""
    motion, _ = _gait(t, rng, (0.95, 1.25), (0.18, 0.24), 0.09)
    motion.lean += 0.08
    _carry(motion, rng)
    return motion


def march(t: Array, rng: Generator) -> Motion:
    """Walks with raised knees."""
    motion, _ = _gait(t, rng, (0.8, 1.1), (0.12, 0.17), 0.2)
    _carry(motion, rng)
    return motion


def creep(t: Array, rng: Generator) -> Motion:
    """Walks bent low, or on hands and feet."""
    motion, phase = _gait(t, rng, (0.75, 1.1), (0.12, 0.18), 0.08)
    if rng.uniform() < 0.5:
        crouch(motion, rng.uniform(0.08, 0.18))
        _carry(motion, rng)
        return motion
    motion.feet[:, :, 0] -= 0.28
    motion.pelvis[:, 2] -= 0.13
    motion.lean = motion.lean + rng.uniform(1.15, 1.35)
    for index, side in enumerate((1, -1)):
        arm = phase + (np.pi if side > 0 else 0.0)
        motion.hands[index] = path(
            t, 0.3 + 0.13 * np.cos(arm), side * 0.12,
            0.02 + 0.08 * np.maximum(0.0, -np.sin(arm)),
        )  # fmt: skip
    return motion


# --- work --------------------------------------------------------------------


def hammering(t: Array, rng: Generator) -> Motion:
    """Strikes with one arm, on a bench, a low box or the floor."""
    motion = standing(t, rng)
    motion.held = "hammer"
    level = rng.choice(["bench", "low", "seat"])
    if level == "low":
        crouch(motion, rng.uniform(0.15, 0.24))
        top = rng.uniform(0.12, 0.25)
    elif level == "seat":
        sit(motion, rng)
        top = rng.uniform(0.32, 0.42)
    else:
        top = rng.uniform(0.4, 0.5)
    motion.furniture.append(("step" if top < 0.3 else "desk", 0.42, top))
    phase = beat(t, rng, 1.4, 2.2)
    # The arm falls in a third of the time that it takes to rise.
    raised = pulse(phase + 0.7 * np.sin(phase), 0.5)
    height = rng.uniform(0.16, 0.26)
    motion.hands[0] = path(t, 0.33, 0.1, top + 0.05)
    motion.hands[1] = path(
        t, 0.3 - 0.2 * raised, -0.14, top + 0.06 + height * raised
    )
    motion.lean += 0.25 - 0.04 * raised
    motion.twist -= 0.08 * raised
    return motion


def typing(t: Array, rng: Generator) -> Motion:
    """Types at a desk, seated or standing; mostly the hands move."""
    motion = standing(t, rng)
    if rng.uniform() < 0.6:
        sit(motion, rng)
    top = float(motion.pelvis[0, 2]) + rng.uniform(0.02, 0.08)
    motion.furniture.append(("desk", 0.4, top))
    for index, side in enumerate((1, -1)):
        tap = np.maximum(0.0, np.sin(beat(t, rng, 2.2, 3.2)))
        glide = np.sin(beat(t, rng, 0.5, 1.0))
        motion.hands[index] = path(
            t, 0.27 + 0.02 * glide, side * 0.08 + 0.03 * glide,
            top + 0.03 + 0.045 * tap,
        )  # fmt: skip
    motion.lean += 0.15 + 0.02 * np.sin(beat(t, rng, 0.3, 0.6))
    return motion


def lifting(t: Array, rng: Generator) -> Motion:
    """Lifts a box from the floor onto a desk or shelf, and goes back."""
    motion = standing(t, rng)
    motion.held = "box"
    up = pulse(beat(t, rng, 0.22, 0.34), rng.uniform(0.8, 1.5))
    turn = rng.uniform(-1, 1) * up
    top = rng.uniform(0.4, 0.62)
    low = 1 - up
    motion.pelvis[:, 2] -= rng.uniform(0.04, 0.1) * low
    motion.pelvis[:, 0] -= 0.12 * low
    motion.lean += rng.uniform(0.4, 0.65) * low
    motion.twist += 0.5 * turn
    height = 0.12 + (top - 0.12) * up
    for index, side in enumerate((1, -1)):
        motion.hands[index] = path(
            t, 0.32 - 0.2 * side * 0.3 * turn, side * 0.11 + 0.2 * turn, height
        )
    if rng.uniform() < 0.6:
        motion.furniture.append(("desk", 0.62, top - 0.08))
    return motion


def mopping(t: Array, rng: Generator) -> Motion:
    """Sweeps the floor with a mop, or scrubs it on hands and knees."""
    motion = standing(t, rng)
    phase = beat(t, rng, 0.6, 0.9)
    sweep = np.sin(phase)
    if rng.uniform() < 0.35:
        _scrub(t, rng, motion, phase)
        return motion
    motion.held = "mop"
    wide, deep = rng.uniform(0.14, 0.2), rng.uniform(-0.06, 0.06)
    lean = rng.uniform(0.2, 0.5)
    motion.lean += lean
    motion.pelvis[:, 0] -= 0.15 * lean
    motion.pelvis[:, 1] += 0.01 * sweep
    motion.twist += 0.12 * sweep
    for index, (ahead, height) in enumerate(((0.24, 0.62), (0.34, 0.46))):
        motion.hands[index] = path(
            t, ahead + 0.1 * lean + deep * np.cos(phase),
            wide * (0.5 + 0.2 * index) * sweep, height - 0.15 * lean,
        )  # fmt: skip
    return motion


def _scrub(t: Array, rng: Generator, motion: Motion, phase: Array) -> None:
    """Puts a figure on hands and knees, one hand rubbing the floor."""
    motion.pelvis = path(t, -0.12, 0.0, 0.28 + 0.01 * np.sin(phase))
    motion.feet[:, :, 0] = -0.38
    motion.lean = rng.uniform(1.15, 1.35) + 0.05 * np.cos(phase)
    motion.knees = (0.8, 0.1, -0.8)
    radius = rng.uniform(0.09, 0.15)
    motion.hands[0] = path(t, 0.2, 0.13, 0.02)
    motion.hands[1] = path(
        t, 0.3 + radius * np.cos(phase), -0.1 + radius * np.sin(phase), 0.02
    )


ACTIONS: dict[str, tuple[Callable[[Array, Generator], Motion], ...]] = {
    "gym": (squat, jumping_jack, push_up, curl),
    "walk": (stroll, stride, march, creep),
    "work": (hammering, typing, lifting, mopping),
}
"""Actions of each class, by class name."""
