"""Batches of features instead of clips, for a frozen backbone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from har_keras.clips.dataset import ClipDataset, ClipSlot
from har_keras.clips.mixing import Mix, mix_rows
from har_keras.clips.sampling import last_start
from har_keras.config import Config
from har_keras.features.feature_store import FeatureStore, View
from har_keras.manifest.manifest import Manifest, Video

POSITIONS = (0.0, 0.5, 1.0)


def training_views(config: Config) -> list[View]:
    """Returns the views of a training video, of which each clip takes one.

    Args:
        config: Config. `augment` "none" is one view; each other kind is
            crops along the long side, mirrored with `flip`.

    Example:

    >>> [view.key for view in training_views(Config().replace(augment="none"))]
    ['50']
    """
    training = config.training
    if training.augment == "none":
        return [View()]
    flips = (False, True) if training.flip else (False,)
    positions = (0.5,) if config.clip.squeeze else POSITIONS
    return [View(p, mirrored) for p in positions for mirrored in flips]


class FeatureDataset(ClipDataset):
    """Batches of the stored features of some videos' clips.

    Args:
        store: FeatureStore. Has the features of every view.
        manifest: Manifest. Gives labels in the order of `class_names`.
        videos: Sequence of Video. The videos to take clips from.
        config: Config. The sections `clip` and `training` are used.
        **kwargs: Other arguments of `ClipDataset`.
    """

    store: FeatureStore
    clip_dtype = np.float16

    def __init__(
        self,
        store: FeatureStore,
        manifest: Manifest,
        videos: Sequence[Video],
        config: Config,
        **kwargs: Any,
    ) -> None:
        self._views = training_views(config)
        super().__init__(store, manifest, videos, config, **kwargs)

    @property
    def clip_shape(self) -> tuple[int, ...]:
        """Shape of a clip's features, `(t, g, g, C)`."""
        key = self.slots[0].video.key
        return self.store.all_features(key, View()).shape[1:]

    def all_features(self) -> np.ndarray:
        """Returns the features of all clips, one view each, `(N, t, g, g, C)`.

        In the order of the slots, from the center of the frames.
        """
        return np.stack(
            [self._features(slot, View(), within=0.5) for slot in self.slots]
        )

    def read(
        self,
        epoch: int,
        index: int,
        occurrence: int = 0,
        out: Any = None,
    ) -> tuple[np.ndarray, np.int32]:
        """Reads the features of one clip.

        Args:
            epoch: int. Counted from 0.
            index: int. Index of the slot.
            occurrence: int. As for `ClipDataset.read`.
            out: `float16` array of the features' shape or None. Output buffer.

        Returns:
            The features, `float16` of shape `(t, g, g, C)`, and the label.
        """
        slot = self.slots[index]
        again = (occurrence,) if occurrence else ()
        rng = self._rng(epoch, index, *again)
        within = rng.random() if self.training else 0.5
        found = self._features(slot, self._view(slot, rng), within)
        if out is not None:
            out[:] = found
            found = out
        return found, np.int32(slot.label)

    def _features(
        self, slot: ClipSlot, view: View, within: float
    ) -> np.ndarray:
        """Returns those of the clip nearest to a place in a slot."""
        number = slot.video.kept_frames
        last = last_start(
            number,
            num_frames=self.clip.num_frames,
            frame_stride=self.clip.frame_stride(number),
        )
        start = round((slot.segment + within) / slot.num_segments * last)
        key = slot.video.key
        return self.store.clip_features(key, view, number, start)

    def _view(self, slot: ClipSlot, rng: np.random.Generator) -> View:
        if not self.training:
            return View()
        may_flip = slot.label not in self._no_flip_labels
        views = [v for v in self._views if may_flip or not v.mirrored]
        return views[int(rng.integers(len(views)))]

    def mix(self, clips: np.ndarray, mix: Mix) -> None:
        """Mixes the features of a batch in pairs, in place."""
        clips[:] = mix_rows(clips.astype(np.float32), mix)
