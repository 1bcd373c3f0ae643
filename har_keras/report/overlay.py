"""Overlays a video with label, confidence bar and timeline; keeps audio."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from har_keras.files import whole_file
from har_keras.inference.timeline import NONE, Timeline
from har_keras.report.fonts import drawn_text
from har_keras.report.plots import plain_text
from har_keras.report.timeline_files import class_color
from har_keras.video.ffmpeg import FrameReader, Frames, probe, read_frames
from har_keras.video.images import read_images, size_of_images
from har_keras.video.writer import VideoWriter

_MAX_SIDE = 1080
_MAX_FPS = 60.0
_BAND_BRIGHTNESS = 0.3
_WHITE = (255, 255, 255)
_EMPTY = (110, 110, 110)


def write_overlay(
    video: Path,
    timeline: Timeline,
    path: Path,
    *,
    timeout_seconds: float,
    images_fps: float = 25.0,
) -> Path:
    """Writes a copy of a video with its timeline in a band at the bottom.

    Size, frame rate, length and audio are kept; the short side is limited to
    1080 pixels and the frame rate to 60. Frames are streamed.

    Args:
        video: Path. A file, or a folder of images.
        timeline: Timeline. The timeline of the video.
        path: Path. The MP4 file; it appears when complete.
        timeout_seconds: float. Time limit for decoding.
        images_fps: float. Frame rate of a folder of images. Defaults to `25`.

    Returns:
        The file.

    Raises:
        VideoError: If the file can't be read.
    """
    reader, fps, sound = _opened(video, timeout_seconds, images_fps)
    with reader, whole_file(path) as temporary:
        write_drawn(reader, timeline, temporary, fps=fps, sound=sound)
    return path


def _opened(
    video: Path, timeout_seconds: float, images_fps: float
) -> tuple[FrameReader, float, Path | None]:
    """Returns the frames, their rate, and the file with the audio track."""
    if video.is_dir():
        fps = min(images_fps, _MAX_FPS)
        frames = read_images(
            video,
            images_fps=images_fps,
            fps=fps,
            short_side=min(*size_of_images(video), _MAX_SIDE),
            timeout_seconds=timeout_seconds,
        )
        return frames, fps, None
    info = probe(video)
    fps = min(info.fps or 25.0, _MAX_FPS)
    reader = read_frames(
        video,
        fps=fps,
        # A header may leave the size out.
        short_side=min(min(info.width, info.height) or _MAX_SIDE, _MAX_SIDE),
        timeout_seconds=timeout_seconds,
    )
    return reader, fps, video if info.has_audio else None


def write_drawn(
    frames: Iterable[Frames],
    timeline: Timeline,
    path: Path,
    *,
    fps: float,
    sound: Path | None = None,
) -> None:
    """Writes frames with a timeline drawn on them.

    Args:
        frames: Iterable of `uint8` arrays of shape `(H, W, 3)`.
        timeline: Timeline. The timeline of the frames.
        path: Path. The MP4 file.
        fps: float. Frame rate.
        sound: Path or None. A file whose audio track is copied. Defaults to
            none.
    """
    writer: VideoWriter | None = None
    band = None
    try:
        for number, frame in enumerate(frames):
            if writer is None or band is None:
                size = (frame.shape[1], frame.shape[0])
                writer = VideoWriter(path, size, fps, sound=sound)
                band = Band(timeline, frame.shape[0], frame.shape[1])
            writer.write(band.drawn(frame, number / fps))
    except BaseException as error:
        if writer is not None:
            writer.__exit__(type(error), error, None)
        raise
    if writer is not None:
        writer.__exit__(None, None, None)


class Band:
    """The band at the bottom: label, confidence bar and timeline.

    Args:
        timeline: Timeline. The timeline of the video.
        height: int. Height of the frames in pixels.
        width: int. Width of the frames in pixels.
    """

    def __init__(self, timeline: Timeline, height: int, width: int) -> None:
        self.timeline = timeline
        self.width = width
        self.unit = max(9, round(min(height, width) / 17))
        self.height = min(height, round(2.9 * self.unit))
        self.margin = self.unit // 2
        self.strip = self._strip()

    def drawn(self, frame: Frames, seconds: float) -> Frames:
        """Returns a copy of a frame with the band drawn on it.

        Args:
            frame: `uint8` array of shape `(H, W, 3)`.
            seconds: float. Time of the frame.

        Returns:
            `uint8` array of the same shape.
        """
        segment, row = self.timeline.at(seconds)
        frame = frame.copy()
        band = frame[len(frame) - self.height :]
        band[:] = (band * _BAND_BRIGHTNESS).astype(np.uint8)
        names = list(self.timeline.class_names)
        known = segment.label in names
        score = row[names.index(segment.label)] if known else row.max()
        color = _rgb(names.index(segment.label)) if known else _EMPTY
        label = plain_text(segment.label, 24)
        if segment.label == NONE and not known:
            nearest = plain_text(names[int(row.argmax())], 16)
            label = f"none of these (nearest: {nearest})"
        self._write(band, label, float(score))
        self._bar(band, float(score), color)
        self._time(band, seconds)
        return frame

    def _write(self, band: Frames, label: str, score: float) -> None:
        text = f"{label}  {100 * score:.0f} %"
        letters = _letters(text.replace(r"\$", "$"), round(1.05 * self.unit))
        top, left = self.margin // 2 + 1, self.margin
        letters = letters[: len(band) - top, : max(0, self.width // 2 - left)]
        place = band[
            top : top + letters.shape[0], left : left + letters.shape[1]
        ]
        share = letters[..., None] / 255
        place[:] = (place * (1 - share) + 255 * share).astype(np.uint8)

    def _bar(
        self, band: Frames, score: float, color: tuple[int, int, int]
    ) -> None:
        left, right = self.width // 2 + self.margin, self.width - self.margin
        top = self.margin // 2 + 1 + round(0.35 * self.unit)
        rows = slice(top, top + max(3, round(0.6 * self.unit)))
        band[rows, left:right] = (70, 70, 70)
        band[rows, left : left + round(score * (right - left))] = color

    def _time(self, band: Frames, seconds: float) -> None:
        top = min(round(1.75 * self.unit), len(band) - 1)
        strip = self.strip[: len(band) - top]
        left, right = self.margin, self.width - self.margin
        band[top : top + len(strip), left:right] = strip
        share = min(1.0, seconds / max(self.timeline.seconds, 1e-9))
        head = left + round(share * (right - left - 1))
        half = max(1, self.unit // 10)
        band[
            top - 2 : top + len(strip) + 2, max(0, head - half) : head + half
        ] = _WHITE

    def _strip(self) -> Frames:
        """Returns the segments as one bar over time."""
        width = max(1, self.width - 2 * self.margin)
        strip = np.full((max(3, round(0.7 * self.unit)), width, 3), 70, "uint8")
        names = list(self.timeline.class_names)
        for segment in self.timeline.segments:
            if segment.label in names:
                share = width / max(self.timeline.seconds, 1e-9)
                begin = round(segment.start_seconds * share)
                end = round(segment.end_seconds * share)
                strip[:, begin:end] = _rgb(names.index(segment.label))
        return strip


def _rgb(label: int) -> tuple[int, int, int]:
    color = class_color(label)
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


@lru_cache(maxsize=512)
def _letters(text: str, height: int) -> np.ndarray:
    """Draws a line of text as a mask, `uint8` `(rows, columns)`."""
    return drawn_text(text, height)
