"""Memory of batches, taken again as soon as a batch is done with."""

import weakref
from typing import Any, cast

import numpy as np

from har_keras.video.ffmpeg import Frames

# Memory that TensorFlow takes over as it is, without a copy.
_ALIGNMENT_BYTES = 64
# As many are made at the same time; what comes back beyond is let go.
_LARGEST_STOCK = 2


class BatchMemory:
    """Gives memory for batches, and takes it back when nobody looks at it.

    Fresh memory is cleared by the system, page by page, which can cost as
    much as to augment the clips. Thread-safe.

    Args:
        shape: tuple of int. Of the largest batch, the number of clips first.

    Example:

    >>> memory = BatchMemory((3, 16, 112, 112, 3))
    >>> batch = memory.take(2)
    >>> batch.shape
    (2, 16, 112, 112, 3)
    >>> address = batch.ctypes.data
    >>> del batch
    >>> memory.take(3).ctypes.data == address
    True
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._stock: list[Frames] = []

    def take(self, num_clips: int) -> Frames:
        """Returns memory that is nobody else's.

        Args:
            num_clips: int. At most as many as in the largest batch.

        Returns:
            `uint8` array of shape `(num_clips, ...)`, whatever is in it. With
            the last reference to it, to its views and to tensors of it, the
            memory comes back.
        """
        try:
            block = self._stock.pop()
        except IndexError:
            size = int(np.prod(self._shape)) + _ALIGNMENT_BYTES
            block = np.empty(size, np.uint8)
        first = -block.ctypes.data % _ALIGNMENT_BYTES
        shape = (num_clips, *self._shape[1:])
        last = first + int(np.prod(shape))
        part = memoryview(cast(Any, block))[first:last]
        # All views of the batch refer to this array, whose base is no array.
        owner = np.frombuffer(part, np.uint8)
        weakref.finalize(owner, self._give_back, block).atexit = False
        return owner.reshape(shape)

    def _give_back(self, block: Frames) -> None:
        if len(self._stock) < _LARGEST_STOCK:
            self._stock.append(block)
