"""Drawn videos of people in motion: sample data, free of anyone's rights.

camera: points and solids to flat shapes. props, scenery: what stands around.
motions, actions: how a figure moves. figures: what it looks like. videos: a
scene and an action to frames. samples: many of them as files.
"""

from har_keras.video.drawing.actions import ACTIONS
from har_keras.video.drawing.samples import (
    CLASS_NAMES,
    draw_sample,
    draw_samples,
)
from har_keras.video.drawing.videos import DrawnVideo, Scene, draw_video

__all__ = [
    "ACTIONS",
    "CLASS_NAMES",
    "DrawnVideo",
    "Scene",
    "draw_sample",
    "draw_samples",
    "draw_video",
]
