"""gRPC for the client; apart, for it needs a package that REST does not."""

from typing import Any

import numpy as np

from har_keras.errors import EnvironmentFault
from har_keras.serving import messages
from har_keras.serving.address import Address, refusal

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
                "A grpc:// address needs the package grpcio. Install it with: "
                'pip install "har_keras[grpc]".'
            ) from error
        self.address = address
        self._error = grpc.RpcError
        # Four megabytes, the default, are seven raw clips.
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
            response_deserializer=messages.PredictResponse.FromString,
        )

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def send(
        self, signature: str, inputs: dict[str, Any], seconds: float
    ) -> dict[str, np.ndarray]:
        """Returns the outputs for some inputs; see `Transport`."""
        request = messages.predict_request(
            self.address.model,
            signature,
            inputs,
            version=self.address.version,
            version_label=self.address.label,
        )
        try:
            response = self._predict(request, timeout=seconds)
        except self._error as error:
            code, text = error.code().name, error.details() or ""
            if code == "RESOURCE_EXHAUSTED" and "larger than max" in text:
                code = "TOO_LARGE"
            raise refusal(code, text, self.address) from error
        return messages.read_outputs(response)
