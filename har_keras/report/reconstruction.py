"""Reconstructions of a masked autoencoder: input, masked input, output."""

from typing import Any

import numpy as np

from har_keras.config import Config
from har_keras.inference.views import evenly
from har_keras.manifest.manifest import Manifest
from har_keras.report.film_strips import Strip, read_strip
from har_keras.store.store import Store

_NUM_CLIPS = 3
_GRAY = 127


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
