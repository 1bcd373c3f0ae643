"""Frames and their features, kept beside them by video, backbone and view.

A file holds one view of one video: the features of its clips, in the order of
time. It is named by the hash of the video's content and lies in a
folder that is named by everything else that the numbers depend on, so any
number of processes and machines may fill one store, and a killed one loses the
video it was at.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from har_keras.clips.sampling import (
    clip_frame_indices,
    clips_per_video,
    view_starts,
)
from har_keras.config import ClipConfig
from har_keras.errors import DataError
from har_keras.files import whole_file
from har_keras.store.store import Store

if TYPE_CHECKING:
    from har_keras.backbones.backbone import Backbone

_FORMAT_VERSION = 1
_OPEN_FILES = 1024


@dataclass(frozen=True)
class View:
    """The part of a frame that a backbone reads.

    Args:
        position: float. Of the crop along the long side, see `crop_box`.
        mirrored: bool. Whether it is flipped left to right.
    """

    position: float = 0.5
    mirrored: bool = False

    @property
    def key(self) -> str:
        """The name of the view in files.

        Example:

        >>> View(0.5).key, View(1.0, mirrored=True).key
        ('50', '100m')
        """
        return f"{100 * self.position:.3g}{'m' if self.mirrored else ''}"


class FeatureStore(Store):
    """A store of frames that has features of them, too.

    Args:
        store: Store. The decoded frames.
        backbone: Backbone. Gives the name, the hash of the weights and the
            grid.
        clip: ClipConfig. Frames, rate and pixels of a clip.
        num_clips: int. Views in time of an evaluation, which are the clips
            that have features.
    """

    def __init__(
        self, store: Store, backbone: Backbone, clip: ClipConfig, num_clips: int
    ) -> None:
        super().__init__(store.folder, store.spec)
        self._source = store  # a temporary one lives as long as this
        self.clip = clip
        self.num_clips = num_clips
        self.features_dir = (
            store.folder.parent / "features" / self._key(backbone)
        )
        self._opened = functools.lru_cache(_OPEN_FILES)(read_array)
        # Of every clip that is read, for some hundred lengths of videos.
        self._starts: dict[int, np.ndarray] = {}

    def _key(self, backbone: Backbone) -> str:
        clip = self.clip
        name = backbone.info.name.replace("/", "--")
        kept = "motion"
        if backbone.pooling == "grid":
            kept = f"grid{backbone.grid}"
        if backbone.optical_flow:
            kept += "-flow"
        stride = ""
        if backbone.frame_stride > 1:
            stride = f"by{backbone.frame_stride}"
        return (
            f"{name}-{backbone.weights_hash[:16]}-{clip.crop_size}px-{kept}-"
            f"{self.num_clips}x{clip.num_frames}{stride}-{clip.fps:g}fps-"
            f"{clip.short_videos}-of-{self.spec.key}-v{_FORMAT_VERSION}"
        )

    def rows(self, num_frames: int) -> np.ndarray:
        """Returns the stored frames of each clip that the backbone reads.

        Those of an evaluation, evenly spread; in a longer video as many more
        as cover it.

        Args:
            num_frames: int. Stored frames of the video.

        Returns:
            `int64` array of shape `(R, T)`, sorted, without repeats.
        """
        shape: dict[str, Any] = {
            "num_frames": self.clip.num_frames,
            "frame_stride": self.clip.frame_stride(num_frames),
        }
        numbers = {self.num_clips, clips_per_video(num_frames, **shape)}
        starts = {
            start
            for number in numbers
            for start in view_starts(num_frames, num_clips=number, **shape)
        }
        return np.stack(
            [
                clip_frame_indices(num_frames, start=start, **shape)
                for start in sorted(starts)
            ]
        )

    def feature_file(self, sha256: str, view: View) -> Path:
        """Returns the file of the features of a view of a video."""
        return self.features_dir / f"{sha256}-{view.key}.npy"

    def has_features(self, sha256: str, view: View) -> bool:
        """Returns whether a view of a video has features."""
        return self.feature_file(sha256, view).is_file()

    def all_features(self, sha256: str, view: View) -> np.ndarray:
        """Returns the features of a view of a video, read on demand.

        Args:
            sha256: str. Hash of the video's content.
            view: View. The part of the frames.

        Returns:
            `float16` array of shape `(R, t, g, g, C)`, one row a clip.

        Raises:
            DataError: If the file is missing or damaged.
        """
        return self._opened(self.feature_file(sha256, view))

    def control_features(
        self, sha256: str, control: str, seed: int, num_views: int
    ) -> np.ndarray | None:
        """Returns the features of a video with information taken away.

        Args:
            sha256: str. Hash of the video's content.
            control: str. The control.
            seed: int. Of what is random in it.
            num_views: int. Views of the video, V.

        Returns:
            `float16` array of shape `(V, t, g, g, C)`, or None if they aren't
            kept or the file is damaged.
        """
        file = self._control_file(sha256, control, seed, num_views)
        try:
            return np.asarray(read_array(file)) if file.is_file() else None
        except DataError:
            return None

    def keep_control(
        self, sha256: str, control: str, seed: int, features: np.ndarray
    ) -> None:
        """Keeps the features of a video with information taken away."""
        file = self._control_file(sha256, control, seed, len(features))
        write_array(file, features)

    def _control_file(
        self, sha256: str, control: str, seed: int, num_views: int
    ) -> Path:
        # "by-start": frames were once shuffled in another order.
        name = f"{sha256}-{control}-{num_views}-{seed}-by-start.npy"
        return self.features_dir / name

    def clip_features(
        self, sha256: str, view: View, num_frames: int, start: int
    ) -> np.ndarray:
        """Returns the features of the clip that begins nearest to a frame.

        Args:
            sha256: str. Hash of the video's content.
            view: View. The part of the frames.
            num_frames: int. Stored frames of the video.
            start: int. A stored frame.

        Returns:
            `float16` array of shape `(t, g, g, C)`.
        """
        if num_frames not in self._starts:
            self._starts[num_frames] = self.rows(num_frames)[:, 0]
        nearest = int(np.abs(self._starts[num_frames] - start).argmin())
        return np.asarray(self.all_features(sha256, view)[nearest])


def write_array(file: Path, array: np.ndarray) -> None:
    """Writes a file of features, whole or not at all."""
    with whole_file(file) as temporary, temporary.open("wb") as out:
        np.save(out, array, allow_pickle=False)


_HEADER = re.compile(
    rb"{'descr': '<f2', 'fortran_order': False, 'shape': \(([\d, ]+)\), } *\n"
)


def read_array(file: Path) -> np.ndarray:
    """Returns the array of a file of features, read on demand.

    `np.load` parses the header with `ast.literal_eval`, which fails in Python
    3.11 when two threads are at it: "AST constructor recursion depth mismatch".

    Args:
        file: Path. A file of `write_array`.

    Returns:
        `float16` array, mapped from the file.

    Raises:
        DataError: If the file is missing or damaged.
    """
    try:
        with file.open("rb") as opened:
            np.lib.format.read_magic(opened)
            length = int.from_bytes(opened.read(2), "little")
            header = _HEADER.fullmatch(opened.read(length))
            if header is None:
                raise ValueError("the header is not one of features")
            shape = tuple(map(int, re.findall(rb"\d+", header[1])))
            return np.memmap(
                opened, np.float16, "r", offset=opened.tell(), shape=shape
            )
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"The features '{file}' can't be read: {error}. Remove the file; "
            "they are computed again."
        ) from error
