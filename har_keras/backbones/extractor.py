"""Runs a frozen backbone on frames or clips, as fast as the machine can.

On a CPU that is TensorFlow's plain graph, whatever the Keras backend. Measured
with EfficientNet-Lite0 at 224 pixels, in ms of processor time a frame: the
graph 8.4, ONNX Runtime 8.2, OpenVINO 8.8; PyTorch by way of Keras 55, XLA 79,
which is slow at depthwise convolutions.
"""

import importlib.util
import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from har_keras.backbones.backbone import Backbone
from har_keras.environment import run_with_tensorflow
from har_keras.files import temporary_prefix

logger = logging.getLogger(__name__)

# Constant, the last batch filled up, so that the network is compiled once and
# the features of a frame don't depend on its company. Larger ones gain nothing
# on a CPU.
_FRAMES_AT_ONCE = 16

Run = Callable[[np.ndarray], np.ndarray]
Key = TypeVar("Key")


class FeatureExtractor:
    """Computes the features of clips; each frame is read once.

    Args:
        backbone: Backbone. Its weights must not change any more.
        crop_size: int. Height and width of the frames in pixels.

    Attributes:
        num_remembered: int. Frames whose maps are kept for the next call,
            where windows of a stream overlap. Defaults to `0`.
    """

    def __init__(self, backbone: Backbone, crop_size: int) -> None:
        self.backbone = backbone
        self.image_shape: tuple[int, ...] = (crop_size, crop_size, 3)
        if backbone.frames_at_once > 1:
            self.image_shape = (backbone.frames_at_once, *self.image_shape)
        self.batch_size = max(1, _FRAMES_AT_ONCE // backbone.frames_at_once)
        self.num_remembered = 0
        self._remembered: dict[bytes, np.ndarray] = {}
        self._run: Run | None = None
        self._lock = threading.Lock()
        self._pool = _by_pieces(backbone.pooled)
        self._with_flow = _by_pieces(backbone.with_flow)

    def features(self, frames: np.ndarray, clips: np.ndarray) -> np.ndarray:
        """Returns the features of clips.

        Args:
            frames: `uint8` array of shape `(N, H, W, 3)`.
            clips: int array of shape `(B, T)`. The frames of each clip.

        Returns:
            `float16` array of shape `(B, t, g, g, C)`.
        """
        read = clips[:, :: self.backbone.frame_stride]
        if self.backbone.frames_at_once > 1:
            pooled = self._pool(self.maps(frames[read]))
        else:
            needed, places = np.unique(read, return_inverse=True)
            maps = self.maps(frames[needed])
            rows = places.reshape(read.shape)
            pooled = np.concatenate(
                [self._pool(maps[row][None]) for row in rows]
            )
        return self._finished(pooled, (frames[clip] for clip in clips))

    def _finished(
        self, pooled: np.ndarray, clips: Iterable[np.ndarray]
    ) -> np.ndarray:
        """Returns pooled maps with the optical flow, as they are kept."""
        if self.backbone.optical_flow:
            rows = zip(pooled, clips, strict=True)
            pooled = np.concatenate(
                [self._with_flow(x[None], clip[None]) for x, clip in rows]
            )
        return pooled.astype("float16")

    def maps(self, images: np.ndarray) -> np.ndarray:
        """Returns the feature maps of frames, or of clips.

        Args:
            images: `uint8` array of shape `(N, H, W, 3)`, or `(N, T, H, W,
                3)` for a backbone of clips.

        Returns:
            `float32` array of shape `(N, h, w, C)`, or `(N, t, h, w, C)`.
        """
        # One thread has all cores, while another prepares or pools.
        with self._lock:
            if self._run is None:
                self._run = _fastest(
                    self.backbone, (self.batch_size, *self.image_shape)
                )
            found = [
                self._run(self._filled(images[i : i + self.batch_size]))
                for i in range(0, len(images), self.batch_size)
            ]
        return np.concatenate(found)[: len(images)]

    def _filled(self, images: np.ndarray) -> np.ndarray:
        missing = self.batch_size - len(images)
        if not missing:
            return np.ascontiguousarray(images)
        return np.concatenate([images, np.repeat(images[-1:], missing, 0)])

    def with_maps(self, clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the features of a clip, and the maps that they pool.

        Args:
            clip: `uint8` array of shape `(T, H, W, 3)`.

        Returns:
            `float16` array of shape `(1, t, g, g, C)` and `float32` array of
            shape `(1, t, h, w, C)`.
        """
        read = clip[:: self.backbone.frame_stride]
        if self.backbone.frames_at_once > 1:
            maps = self.maps(read[None])
        else:
            maps = self.maps(read)[None]
        return self._finished(self._pool(maps), clip[None]), maps

    def of_clips(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the features of clips; what is equal is computed once.

        Args:
            clips: `uint8` array of shape `(B, T, H, W, 3)`, or a sequence of
                arrays of shape `(T, H, W, 3)`.

        Returns:
            `float16` array of shape `(B, t, g, g, C)`.
        """
        keys = _unless_equal(clips, _keys)
        places = {key: place for place, key in enumerate(keys)}
        different = [clips[place] for place in places.values()]
        stride = self.backbone.frame_stride
        if self.backbone.frames_at_once > 1:
            read = np.stack([clip[::stride] for clip in different])
            found = self._finished(self._pool(self.maps(read)), different)
        else:
            found = self._of_frames(different, list(places))
        order = {key: row for row, key in enumerate(places)}
        return found[[order[key] for key in keys]]

    def _of_frames(
        self, clips: Sequence[np.ndarray], keys: Sequence[tuple[bytes, ...]]
    ) -> np.ndarray:
        """Returns the features of clips whose frames have these keys."""
        stride = self.backbone.frame_stride
        places = {
            key: (row, stride * column)
            for row, one in enumerate(keys)
            for column, key in enumerate(one[::stride])
        }
        new = [key for key in places if key not in self._remembered]
        found = dict(self._remembered)
        if new:
            at = [places[key] for key in new]
            frames = np.stack([clips[row][place] for row, place in at])
            found |= dict(zip(new, self.maps(frames), strict=True))
        before = {key: found[key] for key in found if key not in places}
        self._remember(before | {key: found[key] for key in places})
        pooled = [
            self._pool(np.stack([found[key] for key in one[::stride]])[None])
            for one in keys
        ]
        return self._finished(np.concatenate(pooled), clips)

    def _remember(self, found: dict[bytes, np.ndarray]) -> None:
        kept = list(found.items())[-self.num_remembered :]
        self._remembered = dict(kept) if self.num_remembered else {}


def _keys(clip: np.ndarray) -> tuple[bytes, ...]:
    """Returns a hash of each frame of a clip."""
    return tuple(_unless_equal(list(clip), _hash))


def _hash(frame: np.ndarray) -> bytes:
    # Which processors compute in hardware.
    return sha256(frame.tobytes()).digest()


def _unless_equal(
    arrays: Sequence[np.ndarray], key: Callable[[np.ndarray], Key]
) -> list[Key]:
    """Returns a key of each array; that of the one before, if it is equal.

    Views of a short video are the same, as are the frames of a still one, and
    comparing is several times faster than hashing.
    """
    keys: list[Key] = []
    for place, array in enumerate(arrays):
        before = arrays[place - 1]
        is_same = place > 0 and (
            array is before or np.array_equal(array, before)
        )
        keys.append(keys[-1] if is_same else key(array))
    return keys


def _by_pieces(call: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """Returns a function of arrays that runs one clip after the other."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        call = tf.function(call, jit_compile=False, autograph=False)

    def run(*arrays: np.ndarray) -> np.ndarray:
        rows = [
            keras.ops.convert_to_numpy(
                call(*(keras.ops.convert_to_tensor(x[None]) for x in row))
            )
            for row in zip(*arrays, strict=True)
        ]
        return np.concatenate(rows)

    return run


def _fastest(backbone: Backbone, shape: tuple[int, ...]) -> Run:
    """Returns the fastest way to run a backbone on batches of a shape."""
    if keras.backend.backend() == "tensorflow":
        return _by_graph(lambda x: backbone(x, training=False), shape)
    if _has_accelerator():
        return _by_backend(backbone)
    if not _has_tensorflow():
        logger.warning(
            "TensorFlow, whose graph is the fastest on a CPU, is not "
            "installed: the backbone runs on %s, several times slower.",
            keras.backend.backend(),
        )
        return _by_backend(backbone)
    key = (backbone.weights_hash, shape)
    if key not in _GRAPHS:
        _GRAPHS.clear()  # one is enough, and it is large
        _GRAPHS[key] = _by_graph_of_other_process(backbone, shape)
    return _GRAPHS[key]


# Of this process, by weights and shape: they take ten seconds to make.
_GRAPHS: dict[tuple[str, tuple[int, ...]], Run] = {}


def _by_graph(call: Callable[[Any], Any], shape: tuple[int, ...]) -> Run:
    # Here, since a GPU may be used where there is only JAX or PyTorch.
    import tensorflow as tf

    graph = tf.function(
        call, input_signature=[tf.TensorSpec(shape, tf.uint8)],
        jit_compile=False, autograph=False,
    )  # fmt: skip

    def run(images: np.ndarray) -> np.ndarray:
        return graph(tf.constant(images)).numpy()

    return run


def _by_backend(backbone: Backbone) -> Run:
    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(backbone.predict_on_batch(images))

    return run


def _has_accelerator() -> bool:
    if keras.backend.backend() == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def _has_tensorflow() -> bool:
    try:
        return importlib.util.find_spec("tensorflow") is not None
    except ImportError:
        return False


def _by_graph_of_other_process(
    backbone: Backbone, shape: tuple[int, ...]
) -> Run:
    """Returns the network as a TensorFlow graph, under another backend."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        file, graph = Path(folder, "backbone.keras"), Path(folder, "graph")
        backbone.save(file)
        run_with_tensorflow(
            __name__,
            [str(file), str(graph), *map(str, shape)],
            what="Making the graph of the backbone",
        )
        loaded = tf.saved_model.load(str(graph))
    # The graph refers to the variables weakly: what was loaded is kept here.
    return _by_graph(lambda x: loaded.call(x), shape)


def write_graph(source: Path, target: Path, shape: tuple[int, ...]) -> None:
    """Writes a saved backbone as a TensorFlow graph.

    Args:
        source: Path. The `.keras` file of a `Backbone`.
        target: Path. The folder of the graph.
        shape: tuple of int. Shape of its batches.
    """
    import tensorflow as tf

    backbone = keras.models.load_model(source, compile=False)
    module = tf.Module()
    module.weights = [weight.value for weight in backbone.weights]
    module.call = tf.function(
        lambda x: backbone(x, training=False),
        input_signature=[tf.TensorSpec(shape, tf.uint8)],
        autograph=False,
    )
    tf.saved_model.save(module, str(target))


if __name__ == "__main__":
    import har_keras.backbones.catalog  # noqa: F401  (registers)

    write_graph(
        Path(sys.argv[1]), Path(sys.argv[2]), tuple(map(int, sys.argv[3:]))
    )
