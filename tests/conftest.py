"""Videos for the tests, drawn in code and encoded by the bundled ffmpeg."""

import shutil
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

# It imports packages that only the tests of serving need, and has no tests.
collect_ignore = ["stand_in_server.py"]

CHROMIUM_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
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


def saved_model_cli(*arguments):
    """Runs the command that TensorFlow installs, by this Python."""
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tensorflow.python.tools.saved_model_cli",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory):
    """Two classes of six three-second videos: `down` and `up`."""
    return draw_folder(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="session")
def numbered_video(tmp_path_factory):
    """A 4 s video at 25 fps whose picture tells the number of its frame."""
    levels = np.arange(100, dtype=np.uint8) * 2 + 20
    frames = np.broadcast_to(levels[:, None, None, None], (100, 48, 64, 3))
    path = tmp_path_factory.mktemp("numbered") / "numbered.mp4"
    return write_video(path, frames.copy(), fps=25, options=(*X264, "-qp", 0))


@pytest.fixture(scope="session")
def real_videos():
    """The real videos beside the repository; skips where they are not."""
    folder = Path(__file__).parents[2] / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip("there are no real videos beside the repository")
    return folder


@pytest.fixture(scope="module")
def chromium():
    """A real browser; skips where it, or its driver, is missing."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="needs pip install playwright"
    )
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Chromium, such as Debian's package of that name")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=CHROMIUM_FLAGS
        )
        yield browser
        browser.close()
