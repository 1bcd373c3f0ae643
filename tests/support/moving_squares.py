"""Videos without files: a square that moves up or down, drawn when read."""

import zlib

import numpy as np

from har_keras.manifest.manifest import Manifest, Video
from har_keras.store.store import StoreSpec


class SquaresStore:
    """Stands in for a `Store`; the class of a video is in its name.

    The direction of motion is the class, so a single frame can't tell it and
    a mirror image keeps it.
    """

    def __init__(self, clip):
        self.side = clip.short_side
        self.spec = StoreSpec(clip.short_side, clip.store_fps, "raw")
        self.asked = []

    def frames(self, sha256, indices):
        self.asked.append(np.asarray(indices))
        rng = np.random.default_rng(zlib.crc32(sha256.encode()))
        up = sha256.startswith("up")
        size = self.side // 4
        phase, left = rng.integers(0, self.side - size, 2)
        background = rng.integers(0, 120, 3)
        frames = np.empty((len(indices), self.side, self.side, 3), np.uint8)
        frames[:] = background
        for frame, index in zip(frames, indices, strict=True):
            moved = int(index) * self.side // 24
            top = (phase + (-moved if up else moved)) % (self.side - size)
            frame[top : top + size, left : left + size] = 230
        return frames

    lazy_frames = frames

    def num_frames(self, sha256):
        return 20


def squares_manifest(root, *, num_videos, splits=("train",)):
    """Returns a manifest of `num_videos` squares a split, half of them up."""
    videos = [
        Video(
            file=f"{split}/{name}/{name}-{split}-{number}.mp4",
            class_name=name,
            split=split,
            group=f"{split}-{number}",
            sha256=f"{name}-{split}-{number}",
            kept_frames=20,
        )
        for split in splits
        for number in range(num_videos)
        for name in [("down", "up")[number % 2]]
    ]
    return Manifest(root, ("down", "up"), tuple(videos))
