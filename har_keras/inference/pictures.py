"""A few frames of a video, kept while it is decoded."""

from collections.abc import Iterable, Iterator

import numpy as np


class Pictures:
    """Keeps frames that are spread evenly over a video of unknown length.

    Args:
        number: int. Frames to keep at least, of a video that has as many; at
            most twice as many are in memory.

    Example:

    >>> pictures = Pictures(4)
    >>> for frame in pictures.seen(np.arange(100)):
    ...     pass
    >>> [place for place, _ in pictures.kept]
    [0, 16, 32, 48, 64, 80, 96]
    """

    def __init__(self, number: int = 12) -> None:
        self.kept: list[tuple[int, np.ndarray]] = []
        self._most = 2 * number
        self._stride = 1

    def seen(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields frames, and keeps some of them."""
        for place, frame in enumerate(frames):
            if place % self._stride == 0:
                self.kept.append((place, frame))
            if len(self.kept) == self._most:
                self.kept = self.kept[::2]
                self._stride *= 2
            yield frame
