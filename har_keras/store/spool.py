"""The frames of one video while it is looked at, in the form of the store."""

import tempfile
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from har_keras.store.store import Form, decode_jpeg, encode_jpeg
from har_keras.video.ffmpeg import Frames

# Beyond this frames go to the disk: a long video must not fill the memory.
_BYTES_IN_MEMORY = 64 * 2**20


def as_stored(frame: Frames, form: Form) -> Frames:
    """Returns a frame as the store would give it back.

    What a model was measured on had been a JPEG, if the store was one: then
    what it is asked about has to be one as well.
    """
    return decode_jpeg(encode_jpeg(frame)) if form == "jpeg" else frame


class FrameSpool:
    """Keeps the frames of one video, and reads them as a `Store` does.

    Args:
        frames: Iterable of `uint8` arrays of shape `(H, W, 3)`, of one size.
        form: str. "jpeg" or "raw", as those of the store it stands in for.
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

    def frames(self, sha256: str, indices: NDArray[np.int64]) -> Frames:
        """Reads frames; the hash is not looked at, for there is one video.

        Args:
            sha256: str. Any.
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
        """Forgets the frames."""
        self._file.close()

    def _append(self, frame: Frames) -> None:
        data = encode_jpeg(frame) if self.form == "jpeg" else frame
        self._shape = frame.shape
        self._file.write(data.tobytes())
        self._ends.append(self._ends[-1] + data.nbytes)
        self.num_frames += 1
