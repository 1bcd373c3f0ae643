"""Transports of the client: REST (standard library only) and gRPC."""

import base64
import collections
import contextlib
import http.client
import json
import os
import socket
import threading
import urllib.parse
from typing import Any

import numpy as np

from har_keras.errors import EnvironmentFault, UsageError
from har_keras.serving import messages
from har_keras.serving.address import Address, Busy, no_prediction, refusal

_MAX_RESPONSE_BYTES = 8 * 2**20
# Of `har-keras serve`, or of a proxy that asks for one.
_KEY_VARIABLE = "HAR_KERAS_API_KEY"


class RestTransport:
    """Sends JSON over HTTP and reuses connections; thread-safe.

    The environment variable `HAR_KERAS_API_KEY` holds the key of a server that
    asks for one.

    Args:
        address: Address. Of scheme "http" or "https".
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        # Idle connections; appending and popping are atomic.
        self._idle: collections.deque[http.client.HTTPConnection]
        self._idle = collections.deque()

    def encode(self, signature: str, inputs: dict[str, Any]) -> bytes:
        """Returns a request as it is sent; see `Transport`."""
        sent = {k: as_json(v) for k, v in inputs.items()}
        body = {"signature_name": signature, "inputs": sent}
        return json.dumps(body).encode()

    def send(self, request: bytes, seconds: float) -> dict[str, np.ndarray]:
        """Sends a request; see `Transport`."""
        status, content = self._post(request, seconds)
        found = _parsed(content)
        if status == 200 and isinstance(found.get("outputs"), dict):
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                return {k: from_json(v) for k, v in found["outputs"].items()}
            raise no_prediction(self.address, "its tensors are none")
        if status == 200 and "error" not in found:
            raise no_prediction(self.address, "it has no outputs")
        raise refusal(
            _CODES.get(status, "UNKNOWN"),
            str(found.get("error", f"status {status}")),
            self.address,
        )

    def close(self) -> None:
        """Closes the connections."""
        while self._idle:
            self._idle.pop().close()

    def _post(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        connection = self._connection(seconds)
        deadline = _Deadline(connection, seconds)
        try:
            with deadline:
                response = self._response(connection, body, deadline)
                content = response.read(_MAX_RESPONSE_BYTES)
        # Of a chunk with a negative length, a `ValueError`.
        except (OSError, ValueError, http.client.HTTPException) as error:
            connection.close()
            if deadline.passed or isinstance(error, TimeoutError):
                raise refusal("DEADLINE_EXCEEDED", "", self.address) from error
            # Refused, reset, or closed by the server while idle.
            raise Busy(str(error) or type(error).__name__) from error
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, content

    def _response(
        self,
        connection: http.client.HTTPConnection,
        body: bytes,
        deadline: "_Deadline",
    ) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(_KEY_VARIABLE):
            if not (key.isascii() and key.isprintable()):
                raise UsageError(
                    f"The environment variable {_KEY_VARIABLE} must be a key "
                    "of letters, digits and signs of ASCII, in one line."
                )
            headers["Authorization"] = f"Bearer {key}"
        # A server that rejects a large body responds before it has read all
        # of it and closes the connection; the response can still be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", self._path(), body, headers)
        # Of a response without a length, it is then known to that alone.
        deadline.socket = connection.sock
        return connection.getresponse()

    def _path(self) -> str:
        address = self.address
        path = f"/v1/models/{urllib.parse.quote(address.model, safe='')}"
        if address.version is not None:
            path += f"/versions/{address.version}"
        elif address.label:
            path += f"/labels/{urllib.parse.quote(address.label, safe='')}"
        return path + ":predict"

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        make = (
            http.client.HTTPSConnection
            if self.address.scheme == "https"
            else http.client.HTTPConnection
        )
        try:
            connection = self._idle.pop()
        except IndexError:
            return make(self.address.host, timeout=seconds)
        connection.timeout = seconds
        if connection.sock:
            connection.sock.settimeout(seconds)
        return connection


class _Deadline:
    """Ends a connection after a time, however often a byte arrives."""

    def __init__(
        self, connection: http.client.HTTPConnection, seconds: float
    ) -> None:
        self.passed = False
        self.socket: socket.socket | None = None
        self._connection = connection
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def _end(self) -> None:
        self.passed = True
        with contextlib.suppress(OSError, AttributeError):
            opened = self.socket or self._connection.sock
            opened.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self.passed:
            raise TimeoutError


def _parsed(content: bytes) -> dict[str, Any]:
    """Returns the JSON object of a response, or its text as an error."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {"error": content[:200].decode("utf-8", "replace")}
    return found if isinstance(found, dict) else {}


_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "TOO_LARGE",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def as_json(array: Any) -> Any:
    """Converts an array to TensorFlow Serving's JSON, bytes as base64.

    Example:

    >>> as_json(np.array([b"hi"], dtype=object))
    [{'b64': 'aGk='}]
    """
    if isinstance(array, bytes):
        return {"b64": base64.b64encode(array).decode("ascii")}
    array = np.asarray(array)
    if array.dtype != object:
        return array.tolist()
    return [as_json(item) for item in array]


def from_json(value: Any) -> np.ndarray:
    """Converts an output of TensorFlow Serving's JSON to an array."""
    array = np.asarray(value)
    if array.dtype.kind in "US":
        # As it came: a number among texts is none.
        return np.asarray(value, dtype=object)
    if array.dtype == bool:
        return array
    with np.errstate(over="ignore"):  # infinity, which is then refused
        return array.astype("float32")


_METHOD = "/tensorflow.serving.PredictionService/Predict"
_MAX_MESSAGE_BYTES = 64 * 2**20


class GrpcTransport:
    """Sends `PredictRequest` messages over one channel.

    Args:
        address: Address. Of scheme "grpc".

    Raises:
        EnvironmentFault: If grpcio is not installed.
    """

    def __init__(self, address: Address) -> None:
        try:
            import grpc
        except ImportError as error:
            raise EnvironmentFault(
                "A grpc:// address requires the package grpcio. Install it: "
                'pip install "har_keras[grpc]".'
            ) from error
        self.address = address
        self._error = grpc.RpcError
        # The default limit of 4 MB is seven raw clips.
        self._channel = grpc.insecure_channel(
            address.host,
            options=[
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ],
        )
        self._predict = self._channel.unary_unary(
            _METHOD,
            request_serializer=messages.PredictRequest.SerializeToString,
        )

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def encode(self, signature: str, inputs: dict[str, Any]) -> Any:
        """Returns a request as it is sent; see `Transport`."""
        return messages.predict_request(
            self.address.model,
            signature,
            inputs,
            version=self.address.version,
            version_label=self.address.label,
        )

    def send(self, request: Any, seconds: float) -> dict[str, np.ndarray]:
        """Sends a request; see `Transport`."""
        try:
            content = self._predict(request, timeout=seconds)
        except self._error as error:
            code, text = error.code().name, error.details() or ""
            if code == "RESOURCE_EXHAUSTED" and "larger than max" in text:
                code = "TOO_LARGE"
            raise refusal(code, text, self.address) from error
        with contextlib.suppress(ValueError, OverflowError):
            return messages.read_outputs(content)
        raise no_prediction(self.address, "its tensors are none")
