"""Attention heatmaps of a video, as an MP4 and a film strip."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from har_keras.config import ClipConfig
from har_keras.files import whole_file
from har_keras.inference.attention_rollout import (
    attention_rollout,
    overlay_heatmap,
)
from har_keras.inference.classifier import Classifier
from har_keras.inference.windows import windows
from har_keras.report.fonts import drawn_text
from har_keras.terminal import printable
from har_keras.video.ffmpeg import FrameReader, Frames
from har_keras.video.images import probe_video, read_video
from har_keras.video.writer import VideoWriter

# Pixels of the short side of the frames that are drawn on.
_SMALLEST, _LARGEST = 240, 360
_LEGEND = 28
_STRIP_HEIGHT = 150
_NUM_SHOWN = 8
_OUTSIDE_BRIGHTNESS = 0.4


def write_attention(
    classifier: Classifier,
    video: Path,
    base: Path,
    images_fps: float,
    *,
    turn: AbstractContextManager[Any] | None = None,
) -> list[Path]:
    """Writes the attention rollout of all clips of a video.

    It is drawn on the whole frame, of which the model sees the middle.

    Args:
        classifier: Classifier. With a `VideoViT`.
        video: Path. A file, or a folder of images.
        base: Path. The path of the files without suffix.
        images_fps: float. Frame rate of a folder of images.
        turn: Context manager or None. Held while the model runs, where other
            threads use it as well.

    Returns:
        A list of Path: `.attention.mp4`, the video side by side with its
        heatmap, and `.attention.png`, a strip of the first clip.

    Raises:
        UsageError: If the model is not a `VideoViT`.
        VideoError: If the video can't be read.
    """
    clip = classifier.config.clip
    movie = base.with_name(f"{base.name}.attention.mp4")
    strip = base.with_name(f"{base.name}.attention.png")
    writer: VideoWriter | None = None
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(
            classifier.open(video, images_fps, rate=clip.fps)
        )
        shown = stack.enter_context(
            _whole_frames(classifier, video, images_fps)
        )
        file = stack.enter_context(whole_file(movie))
        for pairs in _drawn(classifier, reader, shown, turn):
            if writer is None:
                legend = _legend(2 * pairs[0][0].shape[1])
                height = pairs[0][0].shape[0] + _LEGEND
                writer = stack.enter_context(
                    VideoWriter(file, (legend.shape[1], height), clip.fps)
                )
                _write_strip(pairs, Path(video).name, strip)
            for pair in pairs:
                writer.write(np.vstack([np.hstack(pair), legend]))
    return [movie, strip]


@dataclass(frozen=True)
class Window:
    """The part of a whole frame that the model sees.

    Args:
        rows: slice. Of the frame.
        columns: slice. Of the frame.
    """

    rows: slice
    columns: slice

    @classmethod
    def of(
        cls, stored: tuple[int, ...], shown: tuple[int, ...], clip: ClipConfig
    ) -> "Window":
        """Returns it for frames of two sizes, of the store and as shown.

        Example:

        >>> Window.of((10, 20), (100, 200), ClipConfig(crop_size=8))
        Window(rows=slice(10, 90, None), columns=slice(60, 140, None))
        """
        ends = []
        for own, new in zip(stored[:2], shown[:2], strict=True):
            size = min(clip.crop_size, own)
            first = (own - size) // 2
            ends.append((round(first * new / own), round(size * new / own)))
        (top, height), (left, width) = ends
        return cls(slice(top, top + height), slice(left, left + width))


def _whole_frames(
    classifier: Classifier, video: Path, images_fps: float
) -> FrameReader:
    """Opens a video again, its frames in the size that is shown."""
    info = probe_video(Path(video), images_fps)
    side = min(info.width, info.height) or _LARGEST
    return read_video(
        Path(video),
        images_fps=images_fps,
        fps=classifier.config.clip.fps,
        short_side=min(max(side, _SMALLEST), _LARGEST),
        timeout_seconds=classifier.config.store.timeout_seconds,
    )


def _drawn(
    classifier: Classifier,
    reader: Iterable[Frames],
    shown: Iterator[Frames],
    turn: AbstractContextManager[Any] | None,
) -> Iterator[list[tuple[Frames, Frames]]]:
    """Yields the new frames of each clip, and the same with its attention."""
    clip = classifier.config.clip
    size: list[tuple[int, ...]] = []

    def measured() -> Iterator[Frames]:
        for frame in reader:
            size[:] = [frame.shape]
            yield frame

    number = 0
    for start, frames in windows(
        measured(), clip, clip.span_seconds, classifier.form
    ):
        with turn or contextlib.nullcontext():
            attention = attention_rollout(classifier.model, frames[None])[0]
        # The last clip overlaps the one before it.
        new = list(itertools.islice(shown, start + len(frames) - number))
        first = len(frames) - (start + len(frames) - number)
        number += len(new)
        if new:
            whole = np.stack([new[0]] * first + new)
            whole = np.concatenate(
                [whole, np.repeat(whole[-1:], len(frames) - len(whole), 0)]
            )
            seen = _with_attention(whole, attention, size[0], clip)
            yield list(zip(new, seen[first : first + len(new)], strict=True))


def _with_attention(
    frames: Frames,
    attention: np.ndarray,
    stored: tuple[int, ...],
    clip: ClipConfig,
) -> Frames:
    """Returns whole frames in gray, the attention in their middle."""
    place = Window.of(stored, frames.shape[1:3], clip)
    gray = np.stack([cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in frames])
    dimmed = (_OUTSIDE_BRIGHTNESS * gray).astype(np.uint8)
    drawn: Frames = np.repeat(dimmed[..., None], 3, -1)
    part = frames[:, place.rows, place.columns]
    drawn[:, place.rows, place.columns] = overlay_heatmap(part, attention)
    return drawn


def _legend(width: int) -> Frames:
    """Returns a strip that says what the colors mean."""
    strip = np.zeros((_LEGEND, width, 3), np.uint8)
    bar = np.linspace(0, 255, max(1, width // 4)).astype(np.uint8)
    colors = cv2.applyColorMap(bar[None], cv2.COLORMAP_INFERNO)[..., ::-1]
    left = width // 2
    for text, place in (("less attention", -1), ("more", 1)):
        letters = drawn_text(text, _LEGEND // 2)[:_LEGEND]
        letters = letters[:, : width // 4 - 8]
        begin = (
            left + len(bar) + 8 if place > 0 else left - letters.shape[1] - 8
        )
        part = strip[4 : 4 + len(letters), begin : begin + letters.shape[1]]
        part[:] = letters[: len(part), : part.shape[1], None]
    strip[8:-8, left : left + len(bar)] = colors
    return strip


def _write_strip(
    pairs: list[tuple[Frames, Frames]], name: str, path: Path
) -> None:
    """Writes frames in a row, and their heatmaps below them."""
    height, width = pairs[0][0].shape[:2]
    size = (max(1, round(width * _STRIP_HEIGHT / height)), _STRIP_HEIGHT)
    step = max(1, len(pairs) // _NUM_SHOWN)
    rows = [
        np.hstack([
            cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            for frame in row[::step][:_NUM_SHOWN]
        ])
        for row in zip(*pairs, strict=True)
    ]  # fmt: skip
    title = np.zeros((_LEGEND, rows[0].shape[1], 3), np.uint8)
    letters = drawn_text(printable(name), _LEGEND // 2)[:, : title.shape[1] - 8]
    title[4 : 4 + len(letters), 8 : 8 + letters.shape[1]] = letters[
        : _LEGEND - 4, :, None
    ]
    image = np.vstack([title, *rows, _legend(title.shape[1])])
    # OpenCV doesn't say why it could not write a file.
    _, encoded = cv2.imencode(path.suffix, image[..., ::-1])
    with whole_file(path) as file:
        file.write_bytes(encoded.tobytes())
