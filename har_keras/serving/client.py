"""Client of TensorFlow Serving, over REST or gRPC.

Clips are cut by the client, with the frame selection of training, and sent as
JPEG frames: a clip of 16 frames of 112 x 112 pixels takes 0.1 MB, against
0.37 MB as PNG and 0.6 MB raw.
"""

import math
import random
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from har_keras.damaged import LONGEST_NAME
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.serving.acceptance import joined, parted
from har_keras.serving.address import Address, Busy, no_prediction
from har_keras.serving.model_info import DISTANCE, INFO, ModelInfo
from har_keras.serving.transports import RestTransport

Encoding = Literal["jpeg", "png", "raw"]

_OUTPUTS = ("probabilities", "class_names")
# Of the sum of probabilities, that a server may compute in half precision.
_TOLERANCE = 0.02
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.1, 2.0


@dataclass(frozen=True)
class ClientPrediction:
    """The response of a server to a request with B clips.

    Args:
        probabilities: float32 array of shape `(B, K)`.
        class_names: tuple of str. Class names in label order.
        info: str. The `ModelInfo` that is stored in the model, as JSON; ""
            if the model holds none.
        accepted: bool array of shape `(B,)`. Whether a clip is one of the
            classes, by the model's threshold and limit; else it is "none of
            these". True where the model has none.
        distance: float32 array of shape `(B,)`. From the training videos;
            empty where the model has no limit for it.
    """

    probabilities: np.ndarray
    class_names: tuple[str, ...]
    info: str = ""
    accepted: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    distance: np.ndarray = field(default_factory=lambda: np.empty(0, "f"))


class Transport(Protocol):
    """A protocol that carries requests to a server."""

    def encode(self, signature: str, inputs: dict[str, Any]) -> Any:
        """Returns a request as it is sent."""

    def send(self, request: Any, seconds: float) -> dict[str, np.ndarray]:
        """Sends a request and returns the output tensors by name."""

    def close(self) -> None:
        """Closes the connections."""


class ServingClient:
    """Sends clips to a model on TensorFlow Serving; thread-safe.

    A request that fails for a transient reason is retried with exponential
    backoff and jitter; requests are idempotent. As a context manager, the
    client closes its connections on exit.

    Args:
        url: str. Address of the model, see `Address`.
        frames: str. Encoding of frames: "jpeg" (slightly lossy), "png" or
            "raw". Defaults to `"jpeg"`.
        jpeg_quality: int. 1 to 100. Defaults to `95`.
        timeout_seconds: float. Time limit of a request, including retries.
            Defaults to `30`.
        attempts: int. Maximum number of attempts per request. Defaults to
            `5`.
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

    def predict(self, clips: np.ndarray) -> ClientPrediction:
        """Returns the class probabilities of clips.

        Args:
            clips: uint8 array of shape `(B, T, H, W, 3)`, RGB. If T, H or W
                differ from the model's, the server samples, resizes and
                crops the frames.

        Returns:
            A `ClientPrediction`.

        Raises:
            UsageError: If the shape or dtype of `clips` is wrong, or the
                server doesn't serve that model or version.
            DataError: If the server rejects the clips.
            EnvironmentFault: If the server can't be reached or times out.
        """
        return self.send(self.encode(clips), num_clips=len(clips))

    def encode(self, clips: np.ndarray) -> Any:
        """Encodes clips for `send`, as `predict` does.

        Args:
            clips: uint8 array, as for `predict`.

        Returns:
            The request.

        Raises:
            UsageError: If the shape or dtype of `clips` is wrong.
        """
        if clips.ndim != 5 or clips.dtype != np.uint8 or clips.shape[4] != 3:
            raise UsageError(
                "Clips must be a uint8 array of shape (B, T, H, W, 3). "
                f"Received: {clips.dtype} of shape {clips.shape}."
            )
        return self._transport.encode(*self.request(clips))

    def send(
        self, request: Any, *, num_clips: int | None = None
    ) -> ClientPrediction:
        """Sends encoded clips; see `predict`.

        Args:
            request: What `encode` returned; it can be sent several times.
            num_clips: int or None. Clips in it, where the response is to be
                held against that.

        Returns:
            A `ClientPrediction`.
        """
        outputs = self._with_retries(
            lambda left: self._transport.send(request, left)
        )
        if wrong := next(_faults(outputs, num_clips), None):
            raise no_prediction(self.address, wrong)
        names, info = outputs["class_names"], outputs.get(INFO, ())
        return ClientPrediction(
            outputs["probabilities"],
            tuple(names[0]) if len(names) else (),
            str(info[0]) if len(info) else "",
            outputs.get(
                "accepted", np.ones(len(outputs["probabilities"]), bool)
            ),
            outputs.get(DISTANCE, np.empty(0, np.float32)),
        )

    def request(self, clips: np.ndarray) -> tuple[str, dict[str, Any]]:
        """Returns the signature and the input tensors that encode clips."""
        if self.frames == "raw":
            return "serving_default", {"clips": clips}
        encoded = np.empty(clips.shape[:2], dtype=object)
        for place in np.ndindex(*clips.shape[:2]):
            encoded[place] = self._encoded(clips[place])
        return "serving_jpeg", {"frames_bytes": encoded}

    def _encoded(self, frame: np.ndarray) -> bytes:
        if self.frames == "png":
            return _encode(frame, ".png", [])
        return jpeg(frame, self.jpeg_quality)

    def _with_retries(self, send: Callable[[float], Any]) -> Any:
        """Calls `send`, given the seconds left, until it succeeds."""
        end = time.monotonic() + self.timeout_seconds
        wait = _FIRST_WAIT_SECONDS
        for attempt in range(1, self.attempts + 1):
            try:
                return send(max(0.001, end - time.monotonic()))
            except Busy as busy:
                # Jitter: clients that failed together must not retry together.
                pause = wait * random.uniform(0.5, 1.0)
                late = time.monotonic() + pause >= end
                if attempt == self.attempts or late:
                    raise EnvironmentFault(
                        f"The server at {self.address.host} did not respond "
                        f"in {attempt} attempts: {busy}."
                    ) from busy
                time.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
        raise AssertionError("not reached")


def _faults(
    outputs: dict[str, np.ndarray], num_clips: int | None
) -> Iterator[str]:
    """Yields what is wrong with the outputs of a model for some clips."""
    for name in set(_OUTPUTS) - set(outputs):
        yield f"it has no output '{name}'"
    info = outputs.get(INFO, np.array([""], object))
    if info.ndim != 1 or not all(isinstance(x, str) for x in info):
        yield "its model info is not a text for each clip"
    names, shares = (outputs[name] for name in ("class_names", "probabilities"))
    if names.ndim != 2 or not all(isinstance(x, str) for x in names.flat):
        yield "its class names are not a row of texts for each clip"
    if len(names) and len({*names[0]}) != names.shape[1]:
        yield "two of its class names are the same"
    if max(map(len, names.flat), default=0) > LONGEST_NAME:
        yield f"a class name has more than {LONGEST_NAME} characters"
    number = len(names) if num_clips is None else num_clips
    sure = outputs.get("accepted", np.ones(number, bool))
    if sure.shape != (number,) or sure.dtype != bool:
        yield "its output 'accepted' is not a truth value for each clip"
    far = outputs.get(DISTANCE, np.zeros(number, np.float32))
    if (
        far.shape != (number,)
        or far.dtype != np.float32
        or not (far >= 0).all()
    ):
        yield f"its output '{DISTANCE}' is not a distance for each clip"
    shape = (number, names.shape[-1])
    if shares.dtype != np.float32:
        yield "its probabilities are not numbers"
    if shares.shape != shape:
        yield (
            f"its probabilities have the shape {shares.shape}, where {shape} "
            "was expected"
        )
    if not np.isfinite(shares).all() or shares.min(initial=0) < -_TOLERANCE:
        yield "some of its probabilities are negative or not finite"
    if np.abs(shares.sum(1) - 1).max(initial=0) > _TOLERANCE:
        yield "its probabilities do not sum to 1"


def jpeg(frame: np.ndarray, quality: int) -> bytes:
    r"""Encodes a frame as JPEG.

    Args:
        frame: uint8 array of shape `(H, W, 3)`, RGB.
        quality: int. 1 to 100.

    Returns:
        bytes.

    Example:

    >>> jpeg(np.zeros((8, 8, 3), "uint8"), 95)[:2]
    b'\xff\xd8'
    """
    return _encode(frame, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def _encode(frame: np.ndarray, suffix: str, options: list[int]) -> bytes:
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(suffix, bgr, options)[1])


_NUM_CLIENTS = 4
# Even incompressible frames of this many pixels stay below 4 MB, the default
# message limit of gRPC servers; as JPEG they take about 0.7 MB.
_PIXELS_IN_REQUEST = {"jpeg": 2_000_000, "png": 1_000_000, "raw": 1_000_000}


class Remote:
    """A model on a server, with the interface of an exported model.

    Class names and `ModelInfo` are requested from the server at construction.
    A batch is sent as several requests in parallel.

    Args:
        client: ServingClient. The connection; closed with this object. It
            switches from JPEG to PNG if the model needs lossless frames.

    Raises:
        HarError: If the server can't be reached, or the model was not
            exported by har_keras.
    """

    def __init__(self, client: ServingClient) -> None:
        self.client = client
        weakref.finalize(self, client.close)
        first = client.predict(np.zeros((1, 1, 8, 8, 3), np.uint8))
        self.class_names = first.class_names
        self.info = ModelInfo.read(first.info, client.address.host)
        if self.info.lossless and client.frames == "jpeg":
            client.frames = "png"

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips, float32 of shape `(B, K)`."""
        return parted(self.answer_on_batch(clips))[0]

    def answer_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns probabilities and distances; duplicates are sent once.

        Views of short or square videos can be identical, and the last batch
        is padded with its last clip.

        Args:
            clips: uint8 array of shape `(B, T, crop_size, crop_size, 3)`.

        Returns:
            float32 array of shape `(B, K + 1)`.
        """
        chosen, places = distinct(clips)
        most = _PIXELS_IN_REQUEST[self.client.frames]
        size = max(1, most // math.prod(clips.shape[1:4]))
        parts = [
            clips[chosen[begin : begin + size]]
            for begin in range(0, len(chosen), size)
        ]
        with ThreadPoolExecutor(_NUM_CLIENTS, "clients") as pool:
            found = [*pool.map(self.client.predict, parts)]
        return np.concatenate([self._joined(part) for part in found])[places]

    def _joined(self, found: ClientPrediction) -> np.ndarray:
        if not self.info.has_distance:
            return joined(found.probabilities)
        if len(found.distance) != len(found.probabilities):
            wrong = f"it has no output '{DISTANCE}'"
            raise no_prediction(self.client.address, wrong)
        return joined(found.probabilities, found.distance)


def distinct(
    clips: Sequence[np.ndarray] | np.ndarray,
) -> tuple[list[int], list[int]]:
    """Finds the distinct clips of a batch.

    Args:
        clips: Sequence of arrays, or an array whose first axis is the clips.

    Returns:
        The indices of the distinct clips, and for each clip its position
        among them.

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
