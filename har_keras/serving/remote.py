"""A served model, asked as one in this process is."""

import math
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from har_keras.serving.client import ServingClient
from har_keras.serving.model_info import Usage

_NUM_CLIENTS = 4
# At the very worst a request of so many pixels has less than the 4 MB which
# gRPC servers take unless they are told otherwise; as JPEG some 0.7 MB.
_PIXELS_IN_REQUEST = {"jpeg": 2_000_000, "png": 1_000_000, "raw": 1_000_000}


class Remote:
    """A model on a server, with what evaluation and prediction ask of one.

    The server is asked what its classes are and how it is to be asked when
    this is made. Several requests are under way at once.

    Args:
        client: ServingClient. Where to; closed with this object. It sends
            PNG in place of JPEG to a model that needs frames as they are.

    Raises:
        HarError: If the server can't be reached, or serves something else.
    """

    def __init__(self, client: ServingClient) -> None:
        self.client = client
        weakref.finalize(self, client.close)
        answer = client.predict(np.zeros((1, 1, 8, 8, 3), np.uint8))
        self.class_names = answer.class_names
        self.usage = Usage.read(answer.usage, client.address.host)
        if self.usage.lossless and client.frames == "jpeg":
            client.frames = "png"

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips, each different one sent once.

        A short or a square video has views that are alike, and a batch is
        filled up with its last clip.

        Args:
            clips: uint8 array of shape `(B, T, crop_size, crop_size, 3)`.

        Returns:
            float32 array of shape `(B, K)`.
        """
        chosen, places = distinct(clips)
        most = _PIXELS_IN_REQUEST[self.client.frames]
        size = max(1, most // math.prod(clips.shape[1:4]))
        parts = [
            clips[chosen[begin : begin + size]]
            for begin in range(0, len(chosen), size)
        ]
        with ThreadPoolExecutor(_NUM_CLIENTS, "clients") as pool:
            answers = [*pool.map(self.client.predict, parts)]
        rows = np.concatenate([answer.probabilities for answer in answers])
        return rows[places]


def distinct(
    clips: Sequence[np.ndarray] | np.ndarray,
) -> tuple[list[int], list[int]]:
    """Returns which clips differ, and for each clip which of those it is.

    Example:

    >>> distinct(np.array([[5], [7], [5], [5]], "uint8"))
    ([0, 1], [0, 1, 0, 0])
    """
    known: dict[bytes, int] = {}
    chosen: list[int] = []
    places: list[int] = []
    for index, clip in enumerate(clips):
        content = clip.tobytes()
        if content not in known:
            known[content] = len(chosen)
            chosen.append(index)
        places.append(known[content])
    return chosen, places
