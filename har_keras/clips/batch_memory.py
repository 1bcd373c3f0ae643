"""Reuses the memory of batches that are no longer referenced."""

import weakref
from typing import Any, cast

import numpy as np

from har_keras.video.ffmpeg import Frames

# Alignment at which TensorFlow uses an array without a copy.
_ALIGNMENT_BYTES = 64
# Batches that are made at the same time; more blocks are freed.
_LARGEST_STOCK = 2


class BatchMemory:
    """Allocates batches, and reuses their memory when they are released.

    New memory is zeroed by the operating system, page by page, which can take
    as long as augmenting the clips. Thread-safe.

    Args:
        shape: tuple of int. Shape of the largest batch, number of clips first.
        dtype: Type of the values. Defaults to `uint8`.

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

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.uint8) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._stock: list[Frames] = []

    def take(self, num_clips: int) -> Frames:
        """Returns an uninitialized batch.

        Args:
            num_clips: int. At most the number of clips in the largest batch.

        Returns:
            Array of shape `(num_clips, ...)`. Its memory is reused
            once no reference to it, its views and its tensors is left.
        """
        try:
            block = self._stock.pop()
        except IndexError:
            size = self._num_bytes(self._shape) + _ALIGNMENT_BYTES
            block = np.empty(size, np.uint8)
        first = -block.ctypes.data % _ALIGNMENT_BYTES
        shape = (num_clips, *self._shape[1:])
        last = first + self._num_bytes(shape)
        part = memoryview(cast(Any, block))[first:last]
        # All views of the batch refer to this array: its base is not an array.
        owner = np.frombuffer(part, self._dtype)
        weakref.finalize(owner, self._give_back, block).atexit = False
        return owner.reshape(shape)

    def _num_bytes(self, shape: tuple[int, ...]) -> int:
        return int(np.prod(shape)) * self._dtype.itemsize

    def _give_back(self, block: Frames) -> None:
        if len(self._stock) < _LARGEST_STOCK:
            self._stock.append(block)
