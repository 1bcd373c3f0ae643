"""The example of the page: a drawn video of several activities."""

import tempfile
from pathlib import Path

import numpy as np

from har_keras.files import temporary_prefix
from har_keras.sample.samples import CLASS_NAMES
from har_keras.sample.videos import Scene, draw_video
from har_keras.video.writer import VideoWriter

NAME = "drawn-example.mp4"
_SECONDS = 6.0
_SEED = 4


def draw_example() -> bytes:
    """Draws a video of one person who does one thing after the other.

    Returns:
        The MP4 file.
    """
    rng = np.random.default_rng(_SEED)
    scene = Scene.draw(rng)
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        file = Path(folder) / NAME
        camera = scene.canvas.camera
        size = (camera.width, camera.height)
        with VideoWriter(file, size, scene.fps) as writer:
            for name in CLASS_NAMES:
                drawn = draw_video(rng, name, scene=scene, seconds=_SECONDS)
                for frame in drawn.frames:
                    writer.write(frame)
        return file.read_bytes()
