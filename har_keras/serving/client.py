"""Asks a TensorFlow Serving server about clips, over REST or gRPC.

Clips are cut here, by the frame selection of training, and travel as JPEG
frames: a clip of 16 frames at 112 pixels takes 0.1 MB then, 0.37 MB as PNG and
0.6 MB raw.
"""

import math
import random
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.serving.address import Address, Busy
from har_keras.serving.model_info import ModelInfo
from har_keras.serving.transports import RestTransport

Encoding = Literal["jpeg", "png", "raw"]

_OUTPUTS = ("probabilities", "class_names")
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.1, 2.0


@dataclass(frozen=True)
class Answer:
    """What a server said about some clips.

    Args:
        probabilities: float32 array of shape `(B, K)`.
        class_names: Names in label order, K of them.
        usage: str. How the model is to be asked, see `ModelInfo`; "" from one
            that doesn't say.
    """

    probabilities: np.ndarray
    class_names: tuple[str, ...]
    usage: str = ""


class Transport(Protocol):
    """A way to reach a server."""

    def send(
        self, signature: str, inputs: dict[str, Any], seconds: float
    ) -> dict[str, np.ndarray]:
        """Returns the outputs for some inputs."""

    def close(self) -> None:
        """Lets go of the connections."""


class ServingClient:
    """Asks a server about clips. Can be used by several threads at once.

    What is refused for a passing reason is sent again, after a wait that
    doubles each time: asking twice does no harm, for nothing is changed.

    Used in a `with` statement it closes its connections at the end.

    Args:
        url: str. The model's address, see `Address`.
        frames: str. How frames travel: "jpeg", which changes pixels a little,
            "png" or "raw". Defaults to "jpeg".
        jpeg_quality: int. 1 to 100. Defaults to 95.
        timeout_seconds: float. For one answer, all attempts together.
        attempts: int. How often a request is sent at most.
    """

    def __init__(
        self,
        url: str,
        *,
        frames: Encoding = "jpeg",
        jpeg_quality: int = 95,
        timeout_seconds: float = 30.0,
        attempts: int = 5,
    ) -> None:
        self.address = Address.read(url)
        self.frames = frames
        self.jpeg_quality = jpeg_quality
        self.timeout_seconds = timeout_seconds
        self.attempts = attempts
        if self.address.scheme == "grpc":
            from har_keras.serving.transports import GrpcTransport

            self._transport: Transport = GrpcTransport(self.address)
        else:
            self._transport = RestTransport(self.address)

    def __enter__(self) -> "ServingClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections to the server."""
        self._transport.close()

    def predict(self, clips: np.ndarray) -> Answer:
        """Returns the probabilities of clips.

        Args:
            clips: uint8 array of shape `(B, T, H, W, 3)`, RGB. Frames that
                are not of the model's number and size are chosen, scaled and
                cropped by the server.

        Returns:
            The `Answer`.

        Raises:
            UsageError: If the server has no such model or version.
            DataError: If it refuses the clips, with its reason.
            EnvironmentFault: If it can't be reached or doesn't answer.
        """
        if clips.ndim != 5 or clips.dtype != np.uint8 or clips.shape[4] != 3:
            raise UsageError(
                "Clips must be a uint8 array of shape (B, T, H, W, 3). "
                f"Received: {clips.dtype} of shape {clips.shape}."
            )
        signature, inputs = self.request(clips)
        outputs = self._patiently(
            lambda left: self._transport.send(signature, inputs, left)
        )
        missing = set(_OUTPUTS) - set(outputs)
        if missing:
            raise DataError(
                f"The model at {self.address.host} gives no "
                f"'{min(missing)}': it was not exported by har_keras."
            )
        names, usage = outputs["class_names"], outputs.get("usage", ())
        return Answer(
            outputs["probabilities"],
            tuple(names[0]) if len(names) else (),
            str(usage[0]) if len(usage) else "",
        )

    def request(self, clips: np.ndarray) -> tuple[str, dict[str, Any]]:
        """Returns the signature and the inputs that clips are sent as."""
        if self.frames == "raw":
            return "serving_default", {"clips": clips}
        encoded = np.empty(clips.shape[:2], dtype=object)
        for place in np.ndindex(*clips.shape[:2]):
            encoded[place] = self._encoded(clips[place])
        return "serving_jpeg", {"frames_bytes": encoded}

    def _encoded(self, frame: np.ndarray) -> bytes:
        if self.frames == "png":
            return _picture(frame, ".png", [])
        return jpeg(frame, self.jpeg_quality)

    def _patiently(self, send: Callable[[float], Any]) -> Any:
        """Calls `send` with the seconds left, until it is not put off."""
        end = time.monotonic() + self.timeout_seconds
        wait = _FIRST_WAIT_SECONDS
        for attempt in range(1, self.attempts + 1):
            try:
                return send(max(0.001, end - time.monotonic()))
            except Busy as busy:
                # Clients that were put off together don't come back together.
                pause = wait * random.uniform(0.5, 1.0)
                late = time.monotonic() + pause >= end
                if attempt == self.attempts or late:
                    raise EnvironmentFault(
                        f"The server at {self.address.host} gave no answer in "
                        f"{attempt} attempts: {busy}."
                    ) from busy
                time.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        raise AssertionError("not reached")


def jpeg(frame: np.ndarray, quality: int) -> bytes:
    r"""Returns a frame as a JPEG picture.

    Example:

    >>> jpeg(np.zeros((8, 8, 3), "uint8"), 95)[:2]
    b'\xff\xd8'
    """
    return _picture(frame, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def _picture(frame: np.ndarray, ending: str, options: list[int]) -> bytes:
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(ending, bgr, options)[1])


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
        self.usage = ModelInfo.read(answer.usage, client.address.host)
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
