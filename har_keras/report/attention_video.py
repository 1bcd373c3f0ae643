"""Where a model looked, all through a video: an MP4 and a strip."""

from pathlib import Path

import cv2
import numpy as np

from har_keras.files import whole_file
from har_keras.inference.attention_rollout import (
    attention_rollout,
    overlay_heatmap,
)
from har_keras.inference.classifier import Classifier
from har_keras.inference.windows import windows
from har_keras.video.ffmpeg import Frames
from har_keras.video.writer import VideoWriter

# Clips are small; so many pixels are seen better.
_SHOWN_SIDE = 336
_NUM_SHOWN = 8


def write_attention(
    classifier: Classifier, video: Path, base: Path, pictures_fps: float
) -> list[Path]:
    """Writes where a model looked, clip after clip.

    Args:
        classifier: Classifier. With a `VideoViT`.
        video: Path. A file, or a folder of pictures.
        base: Path. Folder and first part of the names of the files.
        pictures_fps: float. Pictures per second in a folder of them.

    Returns:
        The files: `.attention.mp4`, the video beside itself with a glow where
        it was looked at; `.attention.png`, a strip of the first clip.

    Raises:
        UsageError: If the model has no attention to show.
        VideoError: If the video can't be read.
    """
    clip = classifier.config.clip
    side = max(clip.crop_size, _SHOWN_SIDE)
    movie = base.with_name(f"{base.name}.attention.mp4")
    strip = base.with_name(f"{base.name}.attention.png")
    with (
        classifier.open(video, pictures_fps, rate=clip.fps) as reader,
        whole_file(movie) as file,
        VideoWriter(file, (2 * side, side), clip.fps) as writer,
    ):
        found = windows(reader, clip, clip.span_seconds, classifier.form)
        for number, (_, shown) in enumerate(found):
            shares = attention_rollout(classifier.model, shown[None])[0]
            lit = overlay_heatmap(shown, shares)
            if number == 0:
                _write_strip(shown, lit, strip)
            for pair in zip(shown, lit, strict=True):
                writer.write(_side_by_side(pair, side))
    return [movie, strip]


def _side_by_side(pair: tuple[Frames, Frames], side: int) -> Frames:
    return np.hstack(
        [
            cv2.resize(frame, (side, side), interpolation=cv2.INTER_CUBIC)
            for frame in pair
        ]
    )


def _write_strip(shown: Frames, lit: Frames, path: Path) -> None:
    """Writes frames in a row, and below them what was looked at."""
    step = max(1, len(shown) // _NUM_SHOWN)
    rows = [np.hstack([*frames[::step]]) for frames in (shown, lit)]
    picture = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    with whole_file(path) as file:
        cv2.imwrite(str(file), picture)
