"""Film strips: a few frames of a video side by side, with what was said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from har_keras.config import ClipConfig
from har_keras.reporting.views import view_indices
from har_keras.video.manifest import Manifest, Video
from har_keras.video.sampling import crop_clip
from har_keras.video.store import Store
from har_keras.video.writer import encode_mp4

_JPEG_QUALITY = 82


@dataclass(frozen=True)
class Strip:
    """Frames of a video in a row, and its classes.

    Args:
        file: str. Name of the video.
        frames: uint8 array of shape `(T, H, W, 3)`, RGB.
        truth: str. Its class by the folder.
        prediction: str. Its class by the model; empty where there is none.
        score: float. Probability of the prediction.
        mp4: bytes. The clip, to be played; empty where there is none.
    """

    file: str
    frames: np.ndarray
    truth: str
    prediction: str = ""
    score: float = 0.0
    mp4: bytes = b""

    @property
    def right(self) -> bool:
        """Whether the prediction is the truth."""
        return self.truth == self.prediction

    def image(self, gap_pixels: int = 2) -> np.ndarray:
        """Returns the frames side by side, `uint8` `(H, width, 3)`.

        Example:

        >>> frames = np.zeros((3, 8, 10, 3), "uint8")
        >>> Strip("a.mp4", frames, "gym").image().shape
        (8, 34, 3)
        """
        num_frames, height, width, _ = self.frames.shape
        step = width + gap_pixels
        image = np.full(
            (height, num_frames * step - gap_pixels, 3), 255, "uint8"
        )
        for index, frame in enumerate(self.frames):
            image[:, index * step : index * step + width] = frame
        return image

    def jpeg(self) -> bytes:
        """Returns the image, encoded."""
        _, encoded = cv2.imencode(
            ".jpg",
            cv2.cvtColor(self.image(), cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
        )
        return bytes(encoded)


def read_strip(
    store: Store,
    video: Video,
    clip: ClipConfig,
    *,
    num_frames: int = 8,
    prediction: str = "",
    score: float = 0.0,
    playable: bool = False,
) -> Strip:
    """Reads the strip of a video: the middle clip's centre view, thinned out.

    Args:
        store: Store. The decoded frames.
        video: Video. A usable one.
        clip: ClipConfig. What the model was trained on.
        num_frames: int. Frames in the strip, at most those of a clip.
        prediction: str. Its class by the model; empty where there is none.
        score: float. Probability of the prediction.
        playable: bool. Whether to add the clip as a small MP4.

    Returns:
        The `Strip`.
    """
    indices = view_indices(video.kept_frames, clip, 1)[0]
    frames = store.frames(video.sha256, indices)
    places = np.linspace(0, len(indices) - 1, min(num_frames, len(indices)))
    thinned = frames[places.round().astype(int)]
    return Strip(
        video.file,
        crop_clip(thinned, clip.crop_size),
        video.class_name,
        prediction,
        score,
        encode_mp4(frames, clip.fps) if playable else b"",
    )


def sample_strips(
    store: Store,
    manifest: Manifest,
    split: str,
    clip: ClipConfig,
    *,
    probabilities: Mapping[str, np.ndarray] | None = None,
    num_strips: int = 9,
) -> list[Strip]:
    """Reads strips of a split, the classes in turn, spread over its videos.

    Args:
        store: Store. The decoded frames.
        manifest: Manifest. The videos.
        split: str. "train", "val" or "test".
        clip: ClipConfig. What the model was trained on.
        probabilities: Mapping or None. By file, for those that were predicted.
        num_strips: int. At most so many.

    Returns:
        A list of `Strip`, sorted by class.
    """
    chosen = spread_over_classes(manifest, split, num_strips)
    strips = []
    for video in chosen:
        row = (probabilities or {}).get(video.file)
        strips.append(
            read_strip(store, video, clip)
            if row is None
            else read_strip(
                store,
                video,
                clip,
                prediction=manifest.class_names[int(row.argmax())],
                score=float(row.max()),
            )
        )
    return strips


def spread_over_classes(
    manifest: Manifest, split: str, number: int
) -> list[Video]:
    """Returns up to `number` usable videos, as many of each class as can be."""
    chosen: list[Video] = []
    names = manifest.class_names
    for place, name in enumerate(names):
        videos = [v for v in manifest.usable(split) if v.class_name == name]
        share = number // len(names) + (place < number % len(names))
        chosen += evenly(videos, share)
    return chosen


def evenly(videos: Sequence[Video], number: int) -> list[Video]:
    """Returns `number` of the videos, evenly spread, or all if there are fewer.

    Example:

    >>> evenly(list("abcdefg"), 3)
    ['a', 'd', 'g']
    """
    if len(videos) <= number:
        return list(videos)
    places = np.linspace(0, len(videos) - 1, number).round().astype(int)
    return [videos[place] for place in places]
