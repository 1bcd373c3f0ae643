"""Attention heatmaps of a video, as an MP4 and a film strip."""

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

# Clips are enlarged to this many pixels.
_SHOWN_SIDE = 336
_NUM_SHOWN = 8


def write_attention(
    classifier: Classifier, video: Path, base: Path, images_fps: float
) -> list[Path]:
    """Writes the attention rollout of all clips of a video.

    Args:
        classifier: Classifier. With a `VideoViT`.
        video: Path. A file, or a folder of images.
        base: Path. The path of the files without suffix.
        images_fps: float. Frame rate of a folder of images.

    Returns:
        A list of Path: `.attention.mp4`, the video side by side with its
        heatmap, and `.attention.png`, a strip of the first clip.

    Raises:
        UsageError: If the model is not a `VideoViT`.
        VideoError: If the video can't be read.
    """
    clip = classifier.config.clip
    side = max(clip.crop_size, _SHOWN_SIDE)
    movie = base.with_name(f"{base.name}.attention.mp4")
    strip = base.with_name(f"{base.name}.attention.png")
    with (
        classifier.open(video, images_fps, rate=clip.fps) as reader,
        whole_file(movie) as file,
        VideoWriter(file, (2 * side, side), clip.fps) as writer,
    ):
        found = windows(reader, clip, clip.span_seconds, classifier.form)
        for number, (_, frames) in enumerate(found):
            attention = attention_rollout(classifier.model, frames[None])[0]
            heatmap = overlay_heatmap(frames, attention)
            if number == 0:
                _write_strip(frames, heatmap, strip)
            for pair in zip(frames, heatmap, strict=True):
                writer.write(_side_by_side(pair, side))
    return [movie, strip]


def _side_by_side(pair: tuple[Frames, Frames], side: int) -> Frames:
    return np.hstack(
        [
            cv2.resize(frame, (side, side), interpolation=cv2.INTER_CUBIC)
            for frame in pair
        ]
    )


def _write_strip(frames: Frames, heatmap: Frames, path: Path) -> None:
    """Writes frames in a row, and their heatmaps below them."""
    step = max(1, len(frames) // _NUM_SHOWN)
    rows = [np.hstack([*row[::step]]) for row in (frames, heatmap)]
    image = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    with whole_file(path) as file:
        cv2.imwrite(str(file), image)
