"""Film strips: a few frames of a video side by side, with its classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from har_keras.clips.sampling import crop_clip
from har_keras.config import ClipConfig, Config
from har_keras.inference.views import evenly, spread_over_classes, view_indices
from har_keras.manifest.manifest import Manifest, Video
from har_keras.store.store import Store
from har_keras.video.writer import encode_mp4

_JPEG_QUALITY = 82
# Of a masked autoencoder: clips that are shown, and what hides their parts.
_NUM_CLIPS = 3
_GRAY = 127


@dataclass(frozen=True)
class Strip:
    """Frames of a video, and its classes.

    Args:
        file: str. Name of the video.
        frames: uint8 array of shape `(T, H, W, 3)`, RGB.
        truth: str. The true class.
        prediction: str. The predicted class; "" if there is none.
        score: float. Probability of the prediction.
        mp4: bytes. The clip as a playable MP4; empty if there is none.
    """

    file: str
    frames: np.ndarray
    truth: str
    prediction: str = ""
    score: float = 0.0
    mp4: bytes = b""

    @property
    def right(self) -> bool:
        """Whether the prediction is correct."""
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
        """Returns the image as JPEG."""
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
    """Reads the strip of a video: the center view of its middle clip.

    Args:
        store: Store. The decoded frames.
        video: Video. A usable video.
        clip: ClipConfig. Clip geometry of the model.
        num_frames: int. Frames in the strip, evenly spaced over the clip.
            Defaults to `8`.
        prediction: str. The predicted class; "" if there is none.
        score: float. Probability of the prediction.
        playable: bool. Whether to add the clip as MP4. Defaults to `False`.

    Returns:
        A `Strip`.
    """
    indices = view_indices(video.kept_frames, clip, 1)[0]
    frames = store.frames(video.key, indices)
    thinned = _thinned(frames, num_frames)
    return Strip(
        video.name,
        crop_clip(thinned, clip.crop_size),
        video.class_name,
        prediction,
        score,
        encode_mp4(frames, clip.fps) if playable else b"",
    )


@dataclass(frozen=True)
class Picture:
    """A small picture of a video.

    Args:
        video: Video. The video.
        jpeg: bytes. One of its frames, or a few side by side.
    """

    video: Video
    jpeg: bytes


def picture_of(
    store: Store, video: Video, *, num_frames: int = 1, height: int = 90
) -> Picture:
    """Returns a few whole frames of a video side by side.

    Args:
        store: Store. The decoded frames.
        video: Video. A usable video.
        num_frames: int. Frames, spread over the video. Defaults to `1`, from
            its middle.
        height: int. Pixels. Defaults to `90`.
    """
    places = (np.arange(num_frames) + 0.5) / num_frames * video.kept_frames
    frames = store.frames(video.key, places.astype(np.int64))
    width = max(1, round(frames.shape[2] * height / frames.shape[1]))
    small = [
        cv2.resize(x, (width, height), interpolation=cv2.INTER_AREA)
        for x in frames
    ]
    strip = Strip(video.name, np.stack(small), video.class_name)
    return Picture(video, strip.jpeg())


def _thinned(frames: np.ndarray, number: int = 8) -> np.ndarray:
    """Returns up to `number` of the frames, evenly spaced."""
    places = np.linspace(0, len(frames) - 1, min(number, len(frames)))
    return frames[places.round().astype(int)]


def sample_strips(
    store: Store,
    manifest: Manifest,
    split: str,
    clip: ClipConfig,
    *,
    probabilities: Mapping[str, np.ndarray] | None = None,
    num_strips: int = 9,
) -> list[Strip]:
    """Reads strips of a split, balanced over classes.

    Args:
        store: Store. The decoded frames.
        manifest: Manifest. The videos.
        split: str. "train", "val" or "test".
        clip: ClipConfig. Clip geometry of the model.
        probabilities: Mapping or None. Predictions by name. Defaults to
            none.
        num_strips: int. Maximum number of strips. Defaults to `9`.

    Returns:
        A list of `Strip`, sorted by class.
    """
    chosen = spread_over_classes(manifest, split, num_strips)
    strips = []
    for video in chosen:
        row = (probabilities or {}).get(video.name)
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


def training_strips(
    store: Store, manifest: Manifest, config: Config, *, num_strips: int = 9
) -> list[Strip]:
    """Makes strips of augmented training clips.

    They are the first clips of the first epoch. With MixUp and CutMix, labels
    list every class with its soft target.

    Args:
        store: Store. The decoded frames.
        manifest: Manifest. The videos; those of the split "train" are used.
        config: Config. Every option of the run.
        num_strips: int. Maximum number of strips. Defaults to `9`.

    Returns:
        A list of `Strip`, without predictions.
    """
    # Imports TensorFlow, which a verb starts first, quietly.
    from har_keras.clips.dataset import ClipDataset

    repeats = config.training.repeats
    options = config.replace(batch_size=-(-num_strips // repeats) * repeats)
    videos = manifest.usable("train")
    data = ClipDataset(store, manifest, videos, options, training=True)
    if not data.num_clips:
        return []
    clips, labels, *_ = data.read_batch(0, 0)
    return [
        Strip(
            data.slots[index].video.name,
            _thinned(clip),
            _soft_label_text(label, manifest.class_names),
        )
        for clip, label, index in zip(
            clips[:num_strips], labels, data.order(0), strict=False
        )
    ]


def _soft_label_text(label: np.ndarray, class_names: Sequence[str]) -> str:
    """Formats a label: "walk", or "walk 0.60 + gym 0.40"."""
    if not label.ndim:
        return class_names[int(label)]
    found = [place for place in np.argsort(-label) if label[place] > 0]
    if len(found) == 1:
        return class_names[found[0]]
    return " + ".join(f"{class_names[i]} {label[i]:.2f}" for i in found)


def reconstruction_strips(
    model: Any, store: Store, manifest: Manifest, config: Config
) -> list[Strip]:
    """Returns three strips per clip: original, masked and reconstructed.

    The model predicts normalized pixels; mean and contrast of the masked
    tubelets are added.

    Args:
        model: MaskedAutoencoder.
        store: Store. The decoded frames.
        manifest: Manifest. Its validation videos are used, else its training
            videos.
        config: Config. The options of the run.

    Returns:
        A list of `Strip`.
    """
    videos = manifest.usable("val") or manifest.usable("train")
    frames = config.clip.num_frames
    strips = []
    for number, video in enumerate(evenly(videos, _NUM_CLIPS)):
        whole = read_strip(store, video, config.clip, num_frames=frames)
        clip = whole.frames
        rng = np.random.default_rng((config.training.seed, number))
        places = rng.permutation(model.num_places).astype("int32")
        shown, guessed = shown_and_guessed(model, clip, places)
        named = {"original": clip, "masked": shown, "reconstruction": guessed}
        strips += [
            Strip(video.name, evenly_spaced(images), name)
            for name, images in named.items()
        ]
    return strips


def shown_and_guessed(
    model: Any, clip: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a clip with its masked tubelets gray, and reconstructed.

    Args:
        model: MaskedAutoencoder.
        clip: uint8 array of shape `(T, H, W, 3)`.
        places: int32 array of shape `(S,)`. Spatial positions, the visible
            ones first.

    Returns:
        Two uint8 arrays of the clip's shape: masked and reconstructed.
    """
    import keras

    guess, masked = model.guess(clip[None], places[None])
    guess, masked = (keras.ops.convert_to_numpy(x)[0] for x in (guess, masked))
    embedding = model.encoder.embedding
    tubelets = keras.ops.convert_to_numpy(embedding.tubelets(clip[None]))[0]
    grid = model.encoder.grid
    hidden = tubelets[masked].astype("float64").reshape(len(masked), -1, 3)
    guess = guess.reshape(hidden.shape) * hidden.std(1, keepdims=True)
    guess = (guess + hidden.mean(1, keepdims=True)).clip(0, 255)
    shown, guessed = tubelets.copy(), tubelets.copy()
    shown[masked] = _GRAY
    guessed[masked] = guess.reshape(len(masked), -1).round().astype("uint8")
    return clip_of(shown, grid, clip.shape), clip_of(guessed, grid, clip.shape)


def clip_of(
    tubelets: np.ndarray, grid: tuple[int, int, int], shape: tuple[int, ...]
) -> np.ndarray:
    """Assembles a clip from its tubelets.

    Args:
        tubelets: Array of shape `(N, pixels)`, time slowest.
        grid: tuple of int. Tubelets in time, height and width.
        shape: tuple of int. Shape of the clip, `(T, H, W, 3)`.

    Returns:
        Array of the clip's shape.

    Example:

    >>> clip_of(np.arange(4)[:, None], (1, 2, 2), (1, 2, 2, 1))[0, ..., 0]
    array([[0, 1],
           [2, 3]])
    """
    time, rows, columns = grid
    depth, side = shape[0] // time, shape[1] // rows
    x = tubelets.reshape(time, rows, columns, depth, side, side, shape[3])
    return x.transpose(0, 3, 1, 4, 2, 5, 6).reshape(shape)


def evenly_spaced(frames: np.ndarray, number: int = 8) -> np.ndarray:
    """Returns up to `number` of the frames, evenly spaced."""
    places = np.linspace(0, len(frames) - 1, min(number, len(frames)))
    return frames[places.round().astype(int)]
