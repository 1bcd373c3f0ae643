"""Renders videos of animated people: a scene and an action to frames.

A scene is a person, a place and a camera; a video is a scene and an action.
Classes differ only in motion: every scene is used for every class, and
objects, poses and directions occur in all of them.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from har_keras.sample import props
from har_keras.sample.actions import ACTIONS
from har_keras.sample.camera import (
    SUBPIXEL_BITS,
    Camera,
    Part,
    hue,
    still,
    turned,
)
from har_keras.sample.figures import (
    Person,
    figure_parts,
    held_parts,
    place,
    skeleton,
)
from har_keras.sample.motions import Motion
from har_keras.sample.scenery import Canvas, paint_place

Array = np.ndarray
Generator = np.random.Generator

SIZES = ((160, 120), (176, 144), (192, 144), (160, 128))
"""Widths and heights of videos, in pixels."""
FRAME_RATES = (12.0, 15.0, 24.0, 25.0, 30.0)
SECONDS = 3.0


@dataclass(frozen=True)
class Scene:
    """A person, a place, a camera and the light; shared by a group."""

    person: Person
    canvas: Canvas
    fps: float
    gain: float
    tint: Array
    noise: float

    @classmethod
    def draw(cls, rng: Generator) -> "Scene":
        """Returns a random scene."""
        width, height = SIZES[rng.integers(len(SIZES))]
        distance = rng.uniform(3.0, 5.0)
        share = rng.uniform(0.76, 0.94)
        camera = Camera(
            width,
            height,
            distance,
            rng.uniform(0.5, 1.4),
            share * height * distance,
        )
        return cls(
            person=Person.draw(rng),
            canvas=paint_place(camera, rng),
            fps=float(rng.choice(FRAME_RATES)),
            gain=rng.uniform(0.85, 1.12),
            tint=rng.uniform(0.94, 1.06, 3),
            noise=rng.uniform(0.0, 1.5),
        )


@dataclass(frozen=True)
class DrawnVideo:
    """A rendered video with its ground truth.

    Args:
        frames: uint8 array `(T, H, W, 3)`, RGB.
        boxes: float array `(T, 4)`. Left, top, right and bottom of the figure
            in pixels, clipped to the frame.
        fps: float. Frames per second.
        class_name: str. For example `"walk"`.
        action: str. For example `"stroll"`.
    """

    frames: Array
    boxes: Array
    fps: float
    class_name: str
    action: str


def draw_video(
    rng: Generator,
    class_name: str,
    *,
    scene: Scene | None = None,
    action: str | None = None,
    seconds: float = SECONDS,
) -> DrawnVideo:
    """Renders one video of a person doing an action.

    Args:
        rng: numpy Generator. The same state gives the same bytes.
        class_name: str. One of `ACTIONS`.
        scene: Scene or None. Defaults to a random one.
        action: str or None. The name of an action of the class. Defaults to
            a random one.
        seconds: float. Length of the video.

    Returns:
        A `DrawnVideo`.

    Example:

    >>> video = draw_video(np.random.default_rng(0), "walk", seconds=1.0)
    >>> video.frames.dtype, video.frames.shape[-1], video.class_name
    (dtype('uint8'), 3, 'walk')
    """
    scene = scene or Scene.draw(rng)
    moves = {move.__name__: move for move in ACTIONS[class_name]}
    action = action or str(rng.choice(list(moves)))
    t = np.arange(round(seconds * scene.fps)) / scene.fps  # (T,)
    motion = moves[action](t, rng)
    figure, things, middle = _actors(scene, motion, rng)
    view = _view(scene, middle, t, rng)
    frames = _paint(scene, figure + things, view, rng)
    return DrawnVideo(
        frames, _boxes(scene, figure, view), scene.fps, class_name, action
    )


def _actors(
    scene: Scene, motion: Motion, rng: Generator
) -> tuple[list[Part], list[Part], Array]:
    """Returns the figure, objects around it, and its center in pixels."""
    camera = scene.canvas.camera
    heading = float(
        rng.choice(
            [0.0, np.pi, -np.pi / 2, np.pi / 2], p=[0.42, 0.42, 0.12, 0.04]
        )
        + rng.uniform(-0.35, 0.35)
    )
    way = motion.travel - motion.travel.mean()
    ahead = np.array([np.cos(heading), np.sin(heading)])
    origin = way[:, None] * ahead + rng.uniform(-0.2, 0.2, 2)
    joints = place(skeleton(scene.person, motion), heading, origin)
    color = hue(rng, (60, 220), (90, 230))
    figure = figure_parts(camera, scene.person, joints)
    held = held_parts(camera, motion.held, joints, heading, color)
    things = _furniture(camera, motion, heading, origin.mean(0), rng)
    things += _shadow(camera, joints)
    middle, _ = camera.project(joints["pelvis"])
    return figure + held, things, middle


def _furniture(
    camera: Camera,
    motion: Motion,
    heading: float,
    origin: Array,
    rng: Generator,
) -> list[Part]:
    """Returns the furniture of the action, or unrelated objects."""
    furniture = list(motion.furniture)
    walks = bool(np.ptp(motion.travel))
    if not furniture and not walks and rng.uniform() < 0.5:
        kind = str(rng.choice(["desk", "step", "seat"]))
        x, top = (
            (-0.35, 0.25) if kind == "seat" else (0.6, rng.uniform(0.2, 0.5))
        )
        furniture.append((kind, x, top))
    parts = []
    for kind, x, top in furniture:
        at = still(x, 0, top) @ turned(heading)
        at[0, :2] += origin
        color = hue(rng, (30, 170), (70, 210))
        if kind == "desk":
            parts += props.desk(camera, at, heading, color)
            if rng.uniform() < 0.7:
                parts += props.laptop(camera, at, heading)
        else:
            parts += props.block(camera, at, heading, color)
    if rng.uniform() < (0.7 if walks else 0.35):
        kind = str(rng.choice(props.CLUTTER))
        side = rng.choice([-1, 1]) * rng.uniform(0.3, 0.7)
        parts += props.clutter(
            camera, kind, side, rng.uniform(-0.6, -0.35), rng
        )
    return parts


def _shadow(camera: Camera, joints: dict[str, Array]) -> list[Part]:
    """Returns the shadow on the ground."""
    ground = np.array([1.0, 1.0, 0.0])
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    rim = np.stack([0.24 * np.cos(turn), 0.12 * np.sin(turn), 0 * turn], -1)
    middle = (
        joints["pelvis"] + joints["ankle_left"] + joints["ankle_right"]
    ) / 3
    corners, depth = camera.project((middle * ground)[:, None] + rim)
    return [Part(corners, depth.mean(-1) + 9.0, (70, 66, 66))]


def _view(scene: Scene, middle: Array, t: Array, rng: Generator) -> Array:
    """Returns shift and zoom of the camera in each frame, `(T, 3)`.

    The camera follows a figure that would leave the frame, drifts slowly, and
    sometimes shakes as if handheld.
    """
    camera = scene.canvas.camera
    size = np.array([camera.width, camera.height])
    anchor = size / 2 + rng.uniform(-0.16, 0.16, 2) * size * [1, 0.4]
    wander = np.ptp(middle[:, 0]) / camera.width
    kept = min(1.0, rng.uniform(0.1, 0.5) / max(wander, 1e-6))
    shift = anchor - size / 2 - (1 - kept) * (middle - size / 2)
    shift[:, 1] *= 0.5
    drift = rng.uniform(-0.006, 0.006, 2) * [1, 0.3] * size
    shift += drift * (t - t.mean())[:, None]
    # Most cameras are on a tripod.
    held = rng.uniform() < 0.25
    shake = held * rng.uniform(0, 0.4) * rng.normal(size=(2, 3))
    rate, start = rng.uniform(0.3, 1.5, (2, 3)), rng.uniform(size=(2, 3))
    waves = np.sin(2 * np.pi * (rate * t[:, None, None] + start))
    shift += (shake * waves).sum(-1)
    zoom = 1 + rng.uniform(-0.006, 0.006) * (t - t.mean())
    return np.concatenate([shift, zoom[:, None]], -1)


def _seen(scene: Scene, corners: Array, view: Array) -> Array:
    """Returns corners `(T, N, 2)` as the moved camera sees them."""
    camera = scene.canvas.camera
    center = np.array([camera.width, camera.height]) / 2
    shift, zoom = view[:, None, :2], view[:, None, 2:]
    return (corners - center) * zoom + center + shift


def _paint(
    scene: Scene, parts: list[Part], view: Array, rng: Generator
) -> Array:
    """Returns the frames `(T, H, W, 3)`."""
    camera, length = scene.canvas.camera, len(view)
    scale = 1 << SUBPIXEL_BITS
    outlines = [
        np.round(_seen(scene, part.corners, view) * scale).astype(np.int32)
        for part in parts
    ]
    depths = np.stack([np.broadcast_to(part.depth, length) for part in parts])
    order = np.argsort(-depths, axis=0, kind="stable")
    grain = rng.normal(0, scene.noise, (2 * camera.height, 2 * camera.width))
    grain = np.repeat(grain[..., None], 3, axis=2).astype(np.int16)
    corners = rng.integers(0, (camera.height, camera.width), (length, 2))
    colors = [tuple(part.color) for part in parts]
    tones = np.arange(256)[:, None, None] * (scene.gain * scene.tint)
    light = tones.clip(0, 255).astype(np.uint8)  # (256, 1, 3)
    frames = np.empty((length, camera.height, camera.width, 3), np.uint8)
    for index, (top, left) in enumerate(corners):
        image = _backdrop(scene, view[index])
        for number in order[:, index]:
            cv2.fillConvexPoly(
                image, outlines[number][index], colors[number], cv2.LINE_AA,
                SUBPIXEL_BITS,
            )  # fmt: skip
        noise = grain[top : top + camera.height, left : left + camera.width]
        frames[index] = cv2.add(cv2.LUT(image, light), noise, dtype=cv2.CV_8U)
    return frames


def _backdrop(scene: Scene, view: Array) -> Array:
    """Returns the background as the moved camera sees it."""
    camera, canvas = scene.canvas.camera, scene.canvas
    center = np.array([camera.width, camera.height]) / 2
    zoom = view[2]
    offset = center + view[:2] - zoom * (center + canvas.margin)
    matrix = np.array([[zoom, 0, offset[0]], [0, zoom, offset[1]]])
    return cv2.warpAffine(
        canvas.image, matrix, (camera.width, camera.height),
        flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip


def _boxes(scene: Scene, figure: list[Part], view: Array) -> Array:
    """Returns the bounding box of the figure in each frame, `(T, 4)`."""
    camera = scene.canvas.camera
    corners = np.concatenate([_seen(scene, p.corners, view) for p in figure], 1)
    limit = np.array([camera.width, camera.height])
    low = corners.min(1).clip(0, limit)
    return np.concatenate([low, corners.max(1).clip(0, limit)], -1)
