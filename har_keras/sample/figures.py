"""Appearance of a figure: body proportions, clothes and skeleton."""

from dataclasses import dataclass

import numpy as np

from har_keras.sample import props
from har_keras.sample.camera import Camera, Color, Part, hue, shaded, turned
from har_keras.sample.motions import Motion

Array = np.ndarray
Generator = np.random.Generator

SKINS: tuple[Color, ...] = (
    (244, 208, 177), (229, 184, 143), (205, 152, 110), (166, 113, 76),
    (120, 78, 52), (84, 56, 42),
)  # fmt: skip
HAIRS: tuple[Color, ...] = (
    (35, 28, 26), (78, 52, 34), (150, 104, 58), (205, 172, 106),
    (160, 158, 155), (140, 60, 38),
)  # fmt: skip

TINY = np.array([0, 0, 1e-3])
"""A ball is a capsule this long."""


@dataclass(frozen=True)
class Person:
    """Proportions (in statures) and colors of a person."""

    leg: float
    torso: float
    arm: float
    shoulder: float
    hip: float
    head: float
    girth: float
    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color
    stripe: Color | None
    long_sleeves: bool
    shorts: bool
    long_hair: bool

    @classmethod
    def draw(cls, rng: Generator) -> "Person":
        """Returns a person with random proportions and clothes."""
        leg = rng.uniform(0.465, 0.5)
        return cls(
            leg=leg,
            torso=0.78 - leg,
            arm=rng.uniform(0.35, 0.39),
            shoulder=rng.uniform(0.1, 0.14),
            hip=rng.uniform(0.055, 0.08),
            head=rng.uniform(0.075, 0.092),
            girth=rng.uniform(0.85, 1.35),
            skin=SKINS[rng.integers(len(SKINS))],
            hair=HAIRS[rng.integers(len(HAIRS))],
            shirt=hue(rng, (90, 225), (70, 235)),
            trousers=hue(rng, (40, 200), (40, 170)),
            shoes=hue(rng, (0, 200), (30, 240)),
            stripe=hue(rng, (20, 255), (60, 255))
            if rng.uniform() < 0.3
            else None,
            long_sleeves=bool(rng.uniform() < 0.5),
            shorts=bool(rng.uniform() < 0.4),
            long_hair=bool(rng.uniform() < 0.4),
        )


def _unit(vectors: Array) -> Array:
    """Returns vectors of length 1."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-6)


def bend(
    root: Array, tip: Array, upper: float, lower: float, hint: Array
) -> tuple[Array, Array]:
    """Solves inverse kinematics for a limb of two bones.

    Args:
        root: array `(T, 3)`. The shoulder or hip.
        tip: array `(T, 3)`. Target of the hand or ankle.
        upper: float. Length of the bone at the root.
        lower: float. Length of the other bone.
        hint: array `(3,)`. The direction in which the joint bends.

    Returns:
        Joint and tip, each `(T, 3)`. The tip is as close to its target as the
        bones allow.
    """
    way = tip - root
    direction = _unit(way)
    length = np.linalg.norm(way, axis=-1, keepdims=True)
    length = length.clip(abs(upper - lower) + 1e-3, 0.999 * (upper + lower))
    cosine = (upper**2 + length**2 - lower**2) / (2 * upper * length)
    cosine = cosine.clip(-1, 1)
    hints = np.broadcast_to(hint, direction.shape)
    along = (hints * direction).sum(-1, keepdims=True)
    side = _unit(hints - along * direction)
    joint = root + upper * (cosine * direction + np.sqrt(1 - cosine**2) * side)
    return joint, root + length * direction


def skeleton(person: Person, motion: Motion) -> dict[str, Array]:
    """Returns the joints of a person in motion, `(T, 3)` each, by name.

    Sides are `left` and `right` of the person, such as `knee_left`.
    """
    leg_scale = np.array([1, 1, person.leg / 0.49])
    pelvis = motion.pelvis * leg_scale
    up = _unit(np.stack(
        [np.sin(motion.lean), np.sin(motion.roll), np.cos(motion.lean)], -1
    ))  # fmt: skip
    zero = np.zeros_like(motion.lean)
    left = np.stack([-np.sin(motion.twist), np.cos(motion.twist), zero], -1)
    neck = pelvis + person.torso * up
    ahead = _unit(np.cross(left, up))
    gaze = _unit(0.5 * ahead + np.array([0.6, 0, 0.0]))
    head_up = _unit(0.6 * up + np.array([0.1, 0, 0.4]))
    joints = {
        "pelvis": pelvis, "neck": neck, "gaze": gaze, "left": left,
        "ahead": ahead, "head": neck + (0.06 + person.head) * head_up,
    }  # fmt: skip
    for index, (name, side) in enumerate((("left", 1), ("right", -1))):
        outward = np.array([1, side, 1])
        shoulder = neck - 0.03 * up + side * person.shoulder * left
        hip = pelvis + side * person.hip * np.array([0.0, 1.0, 0.0])
        foot = motion.feet[index] + np.array([0, 0, 0.04])
        elbow, hand = bend(
            shoulder, motion.hands[index] * leg_scale, 0.5 * person.arm,
            0.5 * person.arm, np.array(motion.elbows) * outward,
        )  # fmt: skip
        knee, ankle = bend(
            hip, foot, 0.5 * person.leg, 0.5 * person.leg,
            np.array(motion.knees) * outward,
        )  # fmt: skip
        joints |= {
            f"shoulder_{name}": shoulder, f"elbow_{name}": elbow,
            f"hand_{name}": hand, f"hip_{name}": hip, f"knee_{name}": knee,
            f"ankle_{name}": ankle,
        }  # fmt: skip
    return joints


def place(
    joints: dict[str, Array], heading: float, origin: Array
) -> dict[str, Array]:
    """Returns joints turned by `heading` and moved to `origin` `(T, 2)`."""
    turn = turned(heading)
    move = np.concatenate([origin, np.zeros((len(origin), 1))], -1)
    return {
        name: points @ turn + (0 if name in ("gaze", "left", "ahead") else move)
        for name, points in joints.items()
    }


def figure_parts(
    camera: Camera, person: Person, joints: dict[str, Array]
) -> list[Part]:
    """Returns the polygons of a person, without objects in the hands."""
    parts = _torso(camera, person, joints) + _head(camera, person, joints)
    nearer = np.sign(joints["left"][:, 1].mean())
    for name, side in (("left", 1), ("right", -1)):
        shade = 0.78 if side * nearer > 0 else 1.0
        parts += _arm(camera, person, joints, name, shade)
        parts += _leg(camera, person, joints, name, shade)
    return parts


def _round(
    camera: Camera,
    a: Array,
    b: Array,
    radii: tuple[float, float],
    color: Color,
) -> list[Part]:
    """Returns a limb with a dark rim."""
    edge = 0.007
    rim = camera.capsule(
        a, b, (radii[0] + edge, radii[1] + edge), shaded(color, 0.55)
    )
    skin = camera.capsule(a, b, radii, color)
    return [Part(rim.corners, rim.depth + 0.012, rim.color), skin]


def _arm(
    camera: Camera,
    person: Person,
    joints: dict[str, Array],
    name: str,
    shade: float,
) -> list[Part]:
    shoulder, elbow, hand = (
        joints[f"{part}_{name}"] for part in ("shoulder", "elbow", "hand")
    )
    thick = 0.034 * person.girth**0.5
    shirt, skin = shaded(person.shirt, shade), shaded(person.skin, shade)
    sleeve = shirt if person.long_sleeves else skin
    parts = _round(camera, elbow, hand, (thick * 0.85, thick * 0.65), sleeve)
    parts += _round(camera, shoulder, elbow, (thick * 1.1, thick * 0.9), shirt)
    return [*parts, _ball(camera, hand, 0.032, skin)]


def _leg(
    camera: Camera,
    person: Person,
    joints: dict[str, Array],
    name: str,
    shade: float,
) -> list[Part]:
    hip, knee, ankle = (
        joints[f"{part}_{name}"] for part in ("hip", "knee", "ankle")
    )
    thick = 0.052 * person.girth**0.6
    cloth, skin = shaded(person.trousers, shade), shaded(person.skin, shade)
    shin = skin if person.shorts else cloth
    toes = (
        ankle
        + 0.09 * np.cross(joints["left"].mean(0), [0, 0, 1])
        - np.array([0, 0, 0.018])
    )
    heel = ankle - np.array([0, 0, 0.015])
    shoe = shaded(person.shoes, shade)
    return [
        *_round(camera, heel, toes, (0.026, 0.02), shoe),
        *_round(camera, knee, ankle, (0.72 * thick, 0.5 * thick), shin),
        *_round(camera, hip, knee, (1.05 * thick, 0.8 * thick), cloth),
    ]


def _torso(
    camera: Camera, person: Person, joints: dict[str, Array]
) -> list[Part]:
    thick = 0.055 * person.girth
    wide, narrow = 1.2 * thick, 1.15 * thick
    neck, pelvis = joints["neck"], joints["pelvis"]
    chest = neck + 0.22 * (pelvis - neck)
    belt = pelvis + 0.02 * joints["ahead"]
    throat = camera.capsule(
        neck, joints["head"], (0.032, 0.035), shaded(person.skin, 0.85)
    )
    parts = [
        *_round(camera, chest, pelvis, (narrow, wide), person.shirt),
        *_round(camera, pelvis, belt, (narrow, narrow), person.trousers),
        throat,
    ]
    for name in ("left", "right"):
        shoulder, hip = joints[f"shoulder_{name}"], joints[f"hip_{name}"]
        low = shoulder + 0.88 * (hip - shoulder)
        radii = (0.7 * thick, 0.95 * thick)
        parts += _round(camera, shoulder, low, radii, person.shirt)
    if person.stripe:
        parts += [
            _stripe(camera, person.stripe, joints, share)
            for share in (0.35, 0.6)
        ]
    return parts


def _stripe(
    camera: Camera, color: Color, joints: dict[str, Array], share: float
) -> Part:
    """Returns a band across the shirt, `share` of the way to the hips."""
    left, right = (
        joints[f"shoulder_{name}"]
        + share * (joints[f"hip_{name}"] - joints[f"shoulder_{name}"])
        for name in ("left", "right")
    )
    band = camera.capsule(left, right, (0.022, 0.022), color)
    # A little nearer than the chest, which would cover it otherwise.
    return Part(band.corners, band.depth - 0.05, band.color)


def _ball(camera: Camera, center: Array, radius: float, color: Color) -> Part:
    return camera.capsule(center, center + TINY, (radius, radius), color)


def _head(
    camera: Camera, person: Person, joints: dict[str, Array]
) -> list[Part]:
    head, gaze, radius = joints["head"], joints["gaze"], person.head
    crown = head - 0.28 * radius * gaze + np.array([0, 0, 0.22 * radius])
    parts = _round(camera, head, head + TINY, (radius, radius), person.skin)
    parts.append(_ball(camera, crown, radius, person.hair))
    if person.long_hair:
        back = crown - 0.5 * radius * gaze
        tail = back - np.array([0, 0, 1.5 * radius])
        radii = (0.7 * radius, 0.35 * radius)
        parts.append(camera.capsule(back, tail, radii, person.hair))
    aside = np.stack([-gaze[:, 1], gaze[:, 0], np.zeros(len(gaze))], -1)
    for side in (1, -1):
        eye = head + radius * (0.85 * gaze + side * 0.4 * aside)
        parts.append(_ball(camera, eye, 0.013, (25, 22, 25)))
    return parts


def held_parts(
    camera: Camera,
    held: str,
    joints: dict[str, Array],
    heading: float,
    color: Color,
) -> list[Part]:
    """Returns the polygons of objects in a figure's hands."""
    left, right = joints["hand_left"], joints["hand_right"]
    ahead = np.array([np.cos(heading), np.sin(heading), 0.0])
    across = np.array([-ahead[1], ahead[0], 0.0])
    if held == "box":
        middle = (left + right) / 2 + 0.03 * ahead
        return camera.slab(middle, np.array([0.2, 0.2, 0.16]), color, heading)
    if held == "dumbbells":
        along = np.broadcast_to(0.5 * ahead + 0.3 * across, left.shape)
        return props.dumbbell(camera, left, along, shaded(color, 0.6)) + (
            props.dumbbell(camera, right, along, shaded(color, 0.6))
        )
    if held == "mop":
        along = _unit(right - left - [0, 0, 0.02])
        reach = (right[:, 2:] - 0.03) / np.maximum(-along[:, 2:], 0.35)
        return props.pole(
            camera,
            left - 0.1 * along,
            right + reach.clip(0.2, 0.8) * along,
            color,
        )
    if held == "hammer":
        forearm = _unit(right - joints["elbow_right"])
        along = _unit(0.3 * forearm + ahead + [0, 0, 0.6])
        head = _unit(np.cross(np.broadcast_to(across, along.shape), along))
        return props.hammer(camera, right, along, head)
    return []
