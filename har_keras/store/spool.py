"""Temporary storage for the frames of one video, for inference."""

import tempfile
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from har_keras.config import Form
from har_keras.store.store import decode_jpeg, encode_jpeg
from har_keras.video.ffmpeg import Frames

# Beyond this, frames go to disk: a long video must not fill the memory.
_BYTES_IN_MEMORY = 64 * 2**20


def as_stored(frame: Frames, form: Form) -> Frames:
    """Returns a frame after a round trip through the store's encoding.

    A model trained and evaluated on JPEG frames must also get JPEG frames at
    inference.
    """
    return decode_jpeg(encode_jpeg(frame)) if form == "jpeg" else frame


class FrameSpool:
    """Holds the frames of one video until they have been read.

    Args:
        frames: Iterable of `uint8` arrays of shape `(H, W, 3)`, of one size.
        form: str. "jpeg" or "raw", the form of the store used in training.
    """

    def __init__(self, frames: Iterable[Frames], form: Form) -> None:
        self.form = form
        self.num_frames = 0
        self._shape: tuple[int, ...] = ()
        self._ends = [0]
        self._file = tempfile.SpooledTemporaryFile(max_size=_BYTES_IN_MEMORY)
        try:
            for frame in frames:
                self._append(frame)
        except BaseException:
            self.close()
            raise

    def frames(self, indices: NDArray[np.int64]) -> Frames:
        """Reads frames by index.

        Args:
            indices: `int64` array of shape `(T,)`, in `[0, num_frames)`.

        Returns:
            `uint8` array of shape `(T, H, W, 3)` in RGB.
        """
        frames = np.empty((len(indices), *self._shape), np.uint8)
        for frame, index in zip(frames, indices.tolist(), strict=True):
            self._file.seek(self._ends[index])
            size = self._ends[index + 1] - self._ends[index]
            data = np.frombuffer(self._file.read(size), np.uint8)
            if self.form == "jpeg":
                frame[:] = decode_jpeg(data)
            else:
                frame[:] = data.reshape(self._shape)
        return frames

    def close(self) -> None:
        """Deletes the frames."""
        self._file.close()

    def _append(self, frame: Frames) -> None:
        data = encode_jpeg(frame) if self.form == "jpeg" else frame
        self._shape = frame.shape
        self._file.write(data.tobytes())
        self._ends.append(self._ends[-1] + data.nbytes)
        self.num_frames += 1
