"""The tf.data pipeline from stored frames to batches, for all backends.

Order and augmentation are pure functions of (seed, epoch, index), so that a
resumed run gets exactly the clips that an uninterrupted one would have had.
"""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from har_keras.clips.augment import (
    Augmentation,
    augment_clip,
    cropped,
    no_flip_labels,
    random_speed,
    shift_clip,
)
from har_keras.clips.balance import balanced_order, class_weights, occurrences
from har_keras.clips.batch_memory import BatchMemory
from har_keras.clips.keras_cv import keras_cv_clip, keras_cv_layers
from har_keras.clips.mixing import Mix, draw_mix, mix_clips, mix_rows
from har_keras.clips.rand_augment import strong_clip
from har_keras.clips.sampling import (
    clip_frame_indices,
    clips_per_video,
    crop_box,
    crop_clip,
    last_start,
)
from har_keras.config import Config
from har_keras.environment import num_cores
from har_keras.manifest.manifest import Manifest, Video
from har_keras.store.store import Store
from har_keras.video.ffmpeg import Frames

AUGMENTATIONS: dict[str, Augmentation] = {
    "light": shift_clip,
    "basic": augment_clip,
    "strong": strong_clip,
    "keras-cv": keras_cv_clip,
}
"""The values of `--augment`, besides "none"."""

# Separates the random numbers of a batch from those of its clips.
_MIXING = (0, 1)

Batch = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class ClipSlot:
    """A segment of a video, from which one clip per epoch is sampled."""

    video: Video
    label: int
    segment: int
    num_segments: int


class ClipDataset:
    """Batches of clips from some videos.

    An epoch covers all footage: a video is divided into as many segments as
    clips fit in it, and each segment gives one clip.

    Args:
        store: Store. The decoded frames.
        manifest: Manifest. Gives labels in the order of `class_names`.
        videos: Sequence of Video. The videos to take clips from.
        config: Config. The sections `clip` and `training` are used.
        training: bool. Whether clips are shuffled and augmented, with random
            starts; otherwise each is the center crop of a segment's middle.
        batch_size: int or None. Clips in a batch. Defaults to the option
            `batch_size` of `config.training`.
        num_shares: int. Every batch is divisible by it; clips at the end of an
            epoch's order that don't fit are dropped. Defaults to `1`.
        host_shard: tuple of int. The index of this host's shard of each batch,
            counted from 0, and the number of shards, a divisor of
            `num_shares`. Defaults to `(0, 1)`, the whole batch.

    Raises:
        UsageError: If `no_flip_classes` names an unknown class.
        EnvironmentFault: If keras-cv is needed and not installed.
    """

    clip_dtype: Any = np.uint8

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        videos: Sequence[Video],
        config: Config,
        *,
        training: bool,
        batch_size: int | None = None,
        num_shares: int = 1,
        host_shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.store = store
        self.failure: Exception | None = None  # of reading a batch
        self.batch_size = batch_size or config.training.batch_size
        self.num_shares = num_shares
        self.host_shard = host_shard
        self.clip = config.clip
        self.options = config.training
        self.training = training
        self.num_classes = len(manifest.class_names)
        self.slots = [
            ClipSlot(video, manifest.label(video), segment, num_segments)
            for video in videos
            for num_segments in [self._num_segments(video)]
            for segment in range(num_segments)
        ]
        self._labels = np.array([slot.label for slot in self.slots], np.int64)
        self._weights = class_weights(self._labels, self.num_classes)
        self._no_flip_labels = no_flip_labels(
            self.options.no_flip_classes, manifest.class_names
        )
        self._plan: tuple[int, np.ndarray, np.ndarray] | None = None
        if training and self.options.augment == "keras-cv":
            keras_cv_layers()

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """Shape of one clip."""
        size = self.clip.crop_size
        return (self.clip.num_frames, size, size, 3)

    @property
    def num_clips(self) -> int:
        """Number of clips in an epoch."""
        return self._num_drawn - self.num_left_out

    @property
    def num_left_out(self) -> int:
        """Number of clips that are dropped from an epoch, for equal shares."""
        return self._num_drawn % self.num_shares

    @property
    def _num_drawn(self) -> int:
        repeats = self.options.repeats if self.training else 1
        return len(self.slots) * repeats

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch; the last one may be smaller."""
        return -(-self.num_clips // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Returns the indices of an epoch's clips, `int64` `(num_clips,)`.

        An index that occurs several times, by repeats or by balanced sampling,
        is the same footage with different augmentations.
        """
        indices = np.arange(len(self.slots))
        if not self.training:
            return indices[: self.num_clips]
        rng = self._rng(epoch)
        if self.options.balance == "sampling":
            indices = balanced_order(self._labels, rng)
        else:
            rng.shuffle(indices)
        return np.repeat(indices, self.options.repeats)[: self.num_clips]

    def videos_of(self, epoch: int, step: int) -> list[Video]:
        """Returns the videos of the clips in a batch, in its order."""
        first = step * self.batch_size
        indices = self.order(epoch)[first : first + self.batch_size]
        return list(dict.fromkeys(self.slots[i].video for i in indices))

    def read(
        self,
        epoch: int,
        index: int,
        occurrence: int = 0,
        out: Frames | None = None,
    ) -> tuple[Frames, np.int32]:
        """Reads one clip.

        Args:
            epoch: int. Counted from 0.
            index: int. Index of the slot.
            occurrence: int. Number of earlier clips of the slot in this epoch;
                each is augmented differently. Defaults to `0`.
            out: `uint8` array of the clip's shape or None. Output buffer.

        Returns:
            The clip, `uint8` of shape `(T, crop_size, crop_size, 3)`, and its
            label.
        """
        slot = self.slots[index]
        # The first occurrence has the same seed as without repeats.
        again = (occurrence,) if occurrence else ()
        rng = self._rng(epoch, index, *again)
        within = rng.random() if self.training else 0.5
        jitter = self.options.speed_jitter if self.training else 0.0
        speed = random_speed(rng, jitter) if jitter else 1.0
        which = self._frame_indices(slot, within, speed)
        frames = self.store.lazy_frames(slot.video.key, which)
        size = self.clip.crop_size
        if self.training and self.options.augment != "none":
            clip = AUGMENTATIONS[self.options.augment](
                frames,
                rng,
                crop_size=size,
                flip=self.options.flip
                and slot.label not in self._no_flip_labels,
                out=out,
            )
        else:
            height, width = frames.shape[1:3]
            corner = crop_box(height, width, crop_size=size)
            clip = cropped(frames, (*corner, size, size), size, out)
        return clip, np.int32(slot.label)

    def middles(self) -> Iterator[Frames]:
        """Yields the middle clip of each segment, the center of its frames."""
        for slot in self.slots:
            which = self._frame_indices(slot, 0.5, 1.0)
            frames = self.store.frames(slot.video.key, which)
            yield crop_clip(frames, self.clip.crop_size)

    def read_batch(
        self,
        epoch: int,
        step: int,
        pool: ThreadPoolExecutor | None = None,
        memory: BatchMemory | None = None,
    ) -> Batch:
        """Reads one batch.

        Args:
            epoch: int. Counted from 0.
            step: int. The batch of that epoch, counted from 0.
            pool: ThreadPoolExecutor or None. Reads clips in parallel.
            memory: BatchMemory or None. Buffers for the clips.

        Returns:
            Clips, `uint8` of shape `(B, T, crop_size, crop_size, 3)`, and
            labels: `int32` of shape `(B,)`, or with MixUp or CutMix `float32`
            soft targets of shape `(B, K)`. With class weights, also the
            weight of each clip, `float32` of shape `(B,)`. `B` is the number
            of clips in this host's shard.
        """
        indices, repeats = self._batch_of_order(epoch, step)
        own = self.rows(len(indices))
        wanted = self._with_partners(own, len(indices))
        indices = [indices[row] for row in wanted]
        repeats = [repeats[row] for row in wanted]
        memory = memory or self._batch_memory()
        clips = memory.take(len(indices))

        def fill(place: int) -> None:
            self.read(epoch, indices[place], repeats[place], clips[place])

        # The list raises errors of the workers.
        list((pool.map if pool else map)(fill, range(len(indices))))
        batch = self._mixed(clips, self._labels[indices], epoch, step)
        return tuple(array[: len(own)] for array in batch)

    def mix(self, clips: Frames, mix: Mix) -> None:
        """Mixes the clips of a batch in pairs, in place."""
        mix_clips(clips, mix)

    def rows(self, num_clips: int) -> range:
        """Returns the rows of a whole batch in this host's shard.

        Args:
            num_clips: int. Clips in the whole batch.
        """
        index, number = self.host_shard
        return range(
            num_clips * index // number, num_clips * (index + 1) // number
        )

    def _with_partners(self, own: range, num_clips: int) -> list[int]:
        """Returns this host's rows, and the rows that they are mixed with.

        The first clip of a batch is mixed with the last one and so on, so the
        partners are in reverse order, as in the whole batch.
        """
        if not self._is_mixed or len(own) == num_clips:
            return list(own)
        return [*own, *(num_clips - 1 - row for row in reversed(own))]

    def batches(
        self, *, epochs: int = 1, epoch: int = 0, step: int = 0
    ) -> tf.data.Dataset:
        """Returns batches of clips and labels, from a point in training on.

        Args:
            epochs: int. Total number of epochs.
            epoch: int. The first epoch, counted from 0.
            step: int. The first batch of that epoch.

        Returns:
            A `tf.data.Dataset` of what `read_batch` returns.
        """
        steps = self.steps_per_epoch
        pool, memory = ThreadPoolExecutor(num_cores()), self._batch_memory()
        # Cores work on different clips; OpenCV's own threads would compete.
        cv2.setNumThreads(1)

        def read(number: np.int64) -> Batch:
            epoch, step = divmod(int(number), steps)
            try:
                return self.read_batch(epoch, step, pool, memory)
            except Exception as error:
                self.failure = error
                raise

        def tensors(number: Any) -> tuple[Any, ...]:
            arrays = tf.numpy_function(read, [number], self._dtypes)
            return self._with_shapes(arrays)

        numbers = tf.data.Dataset.range(epoch * steps + step, epochs * steps)
        return numbers.map(
            tensors, num_parallel_calls=2, deterministic=True
        ).prefetch(1)

    def _batch_memory(self) -> BatchMemory:
        whole = min(self.batch_size, self.num_clips)
        number = len(self._with_partners(self.rows(whole), whole))
        return BatchMemory((number, *self.clip_shape), self.clip_dtype)

    @property
    def _is_mixed(self) -> bool:
        options = self.options
        return self.training and bool(options.mixup or options.cutmix)

    @property
    def _is_weighted(self) -> bool:
        return self.training and self.options.balance == "weights"

    @property
    def _dtypes(self) -> tuple[Any, ...]:
        labels = tf.float32 if self._is_mixed else tf.int32
        weights = (tf.float32,) if self._is_weighted else ()
        return (tf.as_dtype(self.clip_dtype), labels, *weights)

    def _with_shapes(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        classes = (self.num_classes,) if self._is_mixed else ()
        shapes = (self.clip_shape, classes, ())
        for array, shape in zip(arrays, shapes, strict=False):
            array.set_shape((None, *shape))
        return tuple(arrays)

    def _batch_of_order(
        self, epoch: int, step: int
    ) -> tuple[list[int], list[int]]:
        """Returns a batch's indices and the earlier occurrences of each."""
        plan = self._plan
        if plan is None or plan[0] != epoch:
            order = self.order(epoch)
            plan = self._plan = (epoch, order, occurrences(order))
        first = step * self.batch_size
        part = slice(first, first + self.batch_size)
        return plan[1][part].tolist(), plan[2][part].tolist()

    def _mixed(
        self, clips: Frames, labels: np.ndarray, epoch: int, step: int
    ) -> Batch:
        """Returns a batch after MixUp, CutMix and class weights, if enabled."""
        weights = self._weights[labels]
        targets: np.ndarray = labels.astype(np.int32)
        if self._is_mixed:
            mix = draw_mix(
                self._rng(epoch, step, *_MIXING),
                mixup=self.options.mixup,
                cutmix=self.options.cutmix,
                size=self.clip.crop_size,
            )
            self.mix(clips, mix)
            one_hot = np.eye(self.num_classes, dtype=np.float32)[labels]
            targets, weights = mix_rows(one_hot, mix), mix_rows(weights, mix)
        return (clips, targets, *([weights] if self._is_weighted else []))

    def _num_segments(self, video: Video) -> int:
        return self.options.clips_per_video or clips_per_video(
            video.kept_frames,
            num_frames=self.clip.num_frames,
            frame_stride=self.clip.frame_stride(video.kept_frames),
        )

    def _frame_indices(
        self, slot: ClipSlot, within: float, speed: float
    ) -> np.ndarray:
        """Returns the stored frames of a clip that begins in a slot."""
        number = slot.video.kept_frames
        shape: dict[str, Any] = {
            "num_frames": self.clip.num_frames,
            "frame_stride": self.clip.frame_stride(number) * speed,
        }
        last = last_start(number, **shape)
        start = round((slot.segment + within) / slot.num_segments * last)
        return clip_frame_indices(number, start=start, **shape)

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng((self.options.seed, *numbers))


@contextlib.contextmanager
def reading_failures(*datasets: ClipDataset) -> Iterator[None]:
    """Raises what made reading a batch fail, not TensorFlow's account of it.

    Args:
        *datasets: ClipDataset. Whose batches are read in the context.
    """
    try:
        yield
    except Exception as error:
        failures = [x.failure for x in datasets if x.failure is not None]
        if not failures:
            raise
        raise failures[0] from error
