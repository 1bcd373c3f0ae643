"""Frames to batches of clips: the tf.data pipeline that all backends train on.

Order and augmentation are a pure function of (seed, epoch, index), so that a
run that was stopped anywhere goes on with exactly the clips it would have had.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from har_keras.config import Config
from har_keras.video.augment import AUGMENTATIONS, Frames
from har_keras.video.manifest import Manifest, Video
from har_keras.video.sampling import (
    FRAME_STRIDE,
    clip_frame_indices,
    clips_per_video,
    crop_clip,
    last_start,
)
from har_keras.video.store import Store


@dataclass(frozen=True)
class ClipSlot:
    """A share of a video's footage, from which one clip an epoch is taken."""

    video: Video
    label: int
    part: int
    num_parts: int


class ClipDataset:
    """The clips of some videos, in batches.

    An epoch covers the footage: a video longer than a clip is divided into as
    many parts as clips fit in it, and each part gives one clip.

    Args:
        store: Store. Where the frames are.
        manifest: Manifest. Gives labels in the order of `class_names`.
        videos: Sequence of Video. Those to take clips from.
        config: Config. The sections `clip` and `training` are used.
        training: bool. Whether clips are shuffled and augmented, with random
            starts; otherwise they are the middle of each part, centre crop.
        num_shares: int. Every batch can be divided by it; the last few clips
            of an epoch's order that can't are left out. Defaults to `1`.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        videos: Sequence[Video],
        config: Config,
        *,
        training: bool,
        num_shares: int = 1,
    ) -> None:
        self.store = store
        self.num_shares = num_shares
        self.clip = config.clip
        self.options = config.training
        self.training = training
        self.slots = [
            ClipSlot(video, manifest.label(video), part, num_parts)
            for video in videos
            for num_parts in [self._num_parts(video)]
            for part in range(num_parts)
        ]

    @property
    def num_clips(self) -> int:
        """Clips in an epoch."""
        return len(self.slots) // self.num_shares * self.num_shares

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-self.num_clips // self.options.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Returns the indices of an epoch's clips, `int64` `(num_clips,)`."""
        indices = np.arange(len(self.slots))
        if self.training:
            self._rng(epoch).shuffle(indices)
        return indices[: self.num_clips]

    def videos_of(self, epoch: int, step: int) -> list[Video]:
        """Returns the videos that a batch has clips of, in its order."""
        first = step * self.options.batch_size
        indices = self.order(epoch)[first : first + self.options.batch_size]
        return list(dict.fromkeys(self.slots[i].video for i in indices))

    def read(self, epoch: int, index: int) -> tuple[Frames, np.int32]:
        """Reads one clip.

        Args:
            epoch: int. Counted from 0.
            index: int. In `[0, num_clips)`.

        Returns:
            The clip, `uint8` of shape `(T, crop_size, crop_size, 3)`, and its
            label.
        """
        slot = self.slots[index]
        rng = self._rng(epoch, index)
        within = rng.random() if self.training else 0.5
        frames = self.store.frames(
            slot.video.sha256, self._frame_indices(slot, within)
        )
        label = np.int32(slot.label)
        if not self.training or self.options.augment == "none":
            return crop_clip(frames, self.clip.crop_size), label
        change = AUGMENTATIONS[self.options.augment]
        clip = change(
            frames,
            rng,
            crop_size=self.clip.crop_size,
            flip=self.options.flip,
        )
        return clip, label

    def batches(
        self, *, epochs: int = 1, epoch: int = 0, step: int = 0
    ) -> tf.data.Dataset:
        """Returns batches of clips and labels, from a point in training on.

        Args:
            epochs: int. Where to stop: the number of epochs in all.
            epoch: int. The epoch to begin with, counted from 0.
            step: int. The batch of that epoch to begin with.

        Returns:
            A `tf.data.Dataset` of pairs: `uint8` clips of shape `(B, T,
            crop_size, crop_size, 3)` and `int32` labels of shape `(B,)`.
        """
        first = step * self.options.batch_size

        def one_epoch(number: Any) -> tf.data.Dataset:
            order = tf.numpy_function(self.order, [number], tf.int64)
            begin = tf.where(number == epoch, first, 0)
            return (
                tf.data.Dataset.from_tensor_slices(order[begin:])
                .map(
                    lambda index: self._read_tensors(number, index),
                    num_parallel_calls=tf.data.AUTOTUNE,
                    deterministic=True,
                )
                .batch(self.options.batch_size)
            )

        batches = tf.data.Dataset.range(epoch, epochs).flat_map(one_epoch)
        count = (epochs - epoch) * self.steps_per_epoch - step
        counted = tf.data.experimental.assert_cardinality(count)
        return batches.apply(counted).prefetch(2)

    def _num_parts(self, video: Video) -> int:
        return self.options.clips_per_video or clips_per_video(
            video.kept_frames,
            num_frames=self.clip.num_frames,
            frame_stride=FRAME_STRIDE,
        )

    def _frame_indices(self, slot: ClipSlot, within: float) -> np.ndarray:
        """Returns the stored frames of a clip that begins in a slot's part."""
        shape = {
            "num_frames": self.clip.num_frames,
            "frame_stride": FRAME_STRIDE,
        }
        last = last_start(slot.video.kept_frames, **shape)
        start = round((slot.part + within) / slot.num_parts * last)
        return clip_frame_indices(slot.video.kept_frames, start=start, **shape)

    def _read_tensors(self, epoch: Any, index: Any) -> tuple[Any, Any]:
        clip, label = tf.numpy_function(
            self.read, [epoch, index], (tf.uint8, tf.int32)
        )
        size = self.clip.crop_size
        clip.set_shape((self.clip.num_frames, size, size, 3))
        label.set_shape(())
        return clip, label

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng((self.options.seed, *numbers))
