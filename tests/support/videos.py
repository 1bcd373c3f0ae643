"""Videos for the tests, drawn in code and encoded by the bundled ffmpeg."""

import json
import subprocess
import sys

import imageio_ffmpeg
import numpy as np

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")


def moving_square(num_frames, *, height=48, width=64, direction=1, seed=0):
    """Draws a square that moves down (1) or up (-1), wrapping around.

    A single frame doesn't tell the direction, and a mirrored one is the same.
    """
    rng = np.random.default_rng(seed)
    side = height // 4
    left, first = rng.integers(width - side), rng.integers(height)
    colour = rng.integers(160, 256, 3)
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    frames[:] = rng.integers(0, 70, 3)
    for index, frame in enumerate(frames):
        rows = (first + 2 * direction * index + np.arange(side)) % height
        frame[rows, left : left + side] = colour
    return frames


def ffmpeg(*arguments, data=None):
    """Runs the bundled ffmpeg."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error"]
    subprocess.run(
        [*command, *map(str, arguments)], input=data, check=True, timeout=60
    )


def write_video(path, frames, *, fps=16, options=X264, audio=False):
    """Encodes frames, `uint8` `(T, H, W, 3)`, in the container of a name."""
    height, width = frames.shape[1:3]
    path.parent.mkdir(parents=True, exist_ok=True)
    # `-shortest` would let the sound run on for a while.
    tone = f"sine=440:duration={len(frames) / fps}"
    sound = ("-f", "lavfi", "-i", tone) if audio else ()
    ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", fps, "-i", "-", *sound),
        *(*options, f"file:{path}"),
        data=frames.tobytes(),
    )
    return path


def draw_video(path, *, num_frames=48, fps=16, options=X264, **square):
    """Draws and encodes a moving square."""
    frames = moving_square(num_frames, **square)
    return write_video(path, frames, fps=fps, options=options)


def draw_folder(
    root, *, per_class=6, num_frames=48, class_names=("down", "up")
):
    """Draws a folder of classes that differ by the direction of motion."""
    for label, name in enumerate(class_names):
        for number in range(per_class):
            draw_video(
                root / name / f"{name}-{number:02d}.mp4",
                num_frames=num_frames,
                direction=1 - 2 * (label % 2),
                seed=100 * label + number,
            )
    return root


def truncate(source, target, share=0.5):
    """Copies the first part of a video whose index is at its front."""
    whole = target.with_name(f"whole-{target.name}")
    ffmpeg("-i", source, "-c", "copy", "-movflags", "+faststart", whole)
    data = whole.read_bytes()
    whole.unlink()
    target.write_bytes(data[: int(share * len(data))])
    return target


SAVED_MODEL_CLI = """
import json, sys
from tensorflow.python.tools.saved_model_cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


def saved_model_cli(*commands):
    """Runs the command that TensorFlow installs, in one process of its own.

    Args:
        *commands: Sequences. The arguments of each call.

    Returns:
        str. What the calls print.
    """
    lists = [[str(argument) for argument in command] for command in commands]
    done = subprocess.run(
        [sys.executable, "-c", SAVED_MODEL_CLI, json.dumps(lists)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def scene(path, *, place=0, movement=0, num_frames=96):
    """Draws a patterned place in which blobs move about, each by a seed."""
    rng = np.random.default_rng(place)
    background = np.kron(rng.integers(30, 160, (6, 8, 3)), np.ones((16, 16, 1)))
    rng = np.random.default_rng(1000 + movement)
    speed, phase = rng.uniform(0.5, 3, (3, 2)), rng.uniform(0, 6.3, (3, 2))
    colours = rng.integers(0, 256, (3, 3))
    y, x = np.mgrid[:96, :128]
    frames = np.empty((num_frames, 96, 128, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[:] = background
        sway = np.sin(speed * index / 16 + phase)
        for (down, across), colour in zip(sway, colours, strict=True):
            near = np.hypot(y - 48 - 40 * down, x - 64 - 56 * across) < 16
            frame[near] = colour
    return write_video(path, frames)
