"""Batches of clips and masks for the masked autoencoder."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from har_keras.clips.dataset import ClipDataset
from har_keras.config import Config
from har_keras.manifest.manifest import Manifest, Video
from har_keras.store.store import Store

# Separates the random numbers of masks from those of clips.
_MASKS = 7


class MaskedClips(ClipDataset):
    """Clips of some videos and, for each, a random order of its patches.

    Args:
        store: Store. The decoded frames.
        manifest: Manifest. Gives labels, which are not used.
        videos: Sequence of Video. The videos to take clips from.
        config: Config. The sections `clip`, `model` and `training` are used.
        **kwargs: Other arguments of `ClipDataset`.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        videos: Sequence[Video],
        config: Config,
        **kwargs: Any,
    ) -> None:
        super().__init__(store, manifest, videos, config, **kwargs)
        self.num_places = (
            config.clip.crop_size // config.model.patch_size
        ) ** 2

    def places(self, epoch: int, step: int) -> NDArray[np.int32]:
        """Returns the spatial positions of each clip of a batch, shuffled.

        Args:
            epoch: int. Counted from 0.
            step: int. The batch of the epoch.

        Returns:
            int32 array of shape `(B, S)`, where S is the number of patches in
            a frame. The first ones stay visible.
        """
        size = self.batch_size
        count = min(size, self.num_clips - int(step) * size)
        rng = np.random.default_rng(
            (self.options.seed, _MASKS, int(epoch), int(step))
        )
        rows = self.rows(count)
        keys = rng.random((count, self.num_places))[rows.start : rows.stop]
        return keys.argsort(1).astype("int32")

    def batches(
        self, *, epochs: int = 1, epoch: int = 0, step: int = 0
    ) -> tf.data.Dataset:
        """Returns batches of masked clips, from a point in training on.

        Args:
            epochs: int. Total number of epochs.
            epoch: int. The first epoch, counted from 0.
            step: int. The first batch of that epoch.

        Returns:
            A `tf.data.Dataset` of pairs: a pair of `uint8` clips `(B, T,
            crop_size, crop_size, 3)` and `int32` positions `(B, S)`; and
            unused labels `(B,)`.
        """
        first, last = epoch * self.steps_per_epoch + step, self.steps_per_epoch
        masks = tf.data.Dataset.range(first, epochs * last).map(
            self._place_tensors
        )
        clips = super().batches(epochs=epochs, epoch=epoch, step=step)
        return tf.data.Dataset.zip((clips, masks)).map(
            lambda batch, places: ((batch[0], places), batch[1])
        )

    def _place_tensors(self, number: Any) -> Any:
        steps = self.steps_per_epoch
        places = tf.numpy_function(
            self.places, [number // steps, number % steps], tf.int32
        )
        places.set_shape((None, self.num_places))
        return places
