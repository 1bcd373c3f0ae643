"""A stand-in for tensorflow_model_server, which can't be installed here.

It speaks the published messages over gRPC and the row and column forms over
REST, on loopback, and does with a folder of versions what the server's
documents say: the newest two are loaded, warmed up, and swapped while
requests run. It is no proof of what the real server does.
"""

import base64
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

MAX_BODY_BYTES = 8 * 2**20


class Refused(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Models:
    """The versions of one model, as the server holds them."""

    def __init__(self, name, base, labels=None):
        self.name, self.base, self.labels = name, base, labels or {}
        self.loaded = {}
        self.reload()

    def reload(self):
        found = [int(p.name) for p in self.base.iterdir() if p.name.isdecimal()]
        wanted = sorted(found)[-2:]
        fresh = {n: self.loaded.get(n) or self._load(n) for n in wanted}
        # Replaced whole: a request that began keeps the version it has.
        self.loaded = fresh

    def _load(self, number):
        version = self.base / str(number)
        model = tf.saved_model.load(str(version))
        records = version / "assets.extra" / "tf_serving_warmup_requests"
        for record in tf.data.TFRecordDataset(str(records)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            request = log.predict_log.request
            inputs = {
                name: tf.constant(tf.make_ndarray(tensor))
                for name, tensor in request.inputs.items()
            }
            model.signatures[request.model_spec.signature_name](**inputs)
        return model

    def run(self, name, number, label, signature, read_inputs):
        """Returns the version that answered, and its outputs."""
        loaded = self.loaded
        if label:
            number = self.labels.get(label, -1)
        number = number or max(loaded)
        if name != self.name or number not in loaded:
            wanted = (
                f"Servable not found for request: Specific({name}, {number})"
            )
            raise Refused("NOT_FOUND", wanted)
        function = loaded[number].signatures.get(signature or "serving_default")
        if function is None:
            raise Refused(
                "INVALID_ARGUMENT",
                f'Serving signature key "{signature}" not found.',
            )
        specs = function.structured_input_signature[1]
        inputs = read_inputs(specs)
        if set(inputs) != set(specs):
            raise Refused(
                "INVALID_ARGUMENT",
                f"input must be {sorted(specs)}, got {sorted(inputs)}",
            )
        for key, array in inputs.items():
            spec = specs[key]
            if tf.as_dtype(array.dtype) != spec.dtype or (
                array.ndim != spec.shape.rank
                or not spec.shape.is_compatible_with(array.shape)
            ):
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"{key} must be {spec.dtype.name} of shape {spec.shape}; "
                    f"got {array.dtype} of shape {array.shape}",
                )
        try:
            found = function(**{k: tf.constant(v) for k, v in inputs.items()})
        except tf.errors.OpError as error:
            raise Refused("INVALID_ARGUMENT", error.message) from error
        return number, {key: value.numpy() for key, value in found.items()}


class GrpcService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self.models = models

    def Predict(self, request, context):
        spec = request.model_spec

        def inputs(_):
            return {
                name: tf.make_ndarray(tensor)
                for name, tensor in request.inputs.items()
            }

        try:
            number, outputs = self.models.run(
                spec.name, spec.version.value, spec.version_label,
                spec.signature_name, inputs,
            )  # fmt: skip
        except Refused as error:
            context.abort(getattr(grpc.StatusCode, error.code), str(error))
        except Exception as error:  # A tensor that can't be read.
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = number
        for name in request.output_filter or outputs:
            array = outputs[name]
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response


def from_request_json(value, dtype):
    """Returns JSON as the server would read it into a tensor."""
    try:
        if dtype == tf.string:
            return np.array(_texts(value), dtype=object)
        array = np.array(value)
        if array.size and array.dtype.kind not in "iu":
            raise ValueError("numbers of another kind")
        if array.size and (array.min() < 0 or array.max() > 255):
            raise ValueError("a number outside of uint8")
        return array.astype("uint8")
    except (ValueError, TypeError, KeyError) as error:
        raise Refused("INVALID_ARGUMENT", f"JSON: {error}") from error


def _texts(value):
    if isinstance(value, list):
        return [_texts(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return value.encode()


def as_response_json(name, array):
    if array.dtype != object:
        return array.tolist()
    if name.endswith("_bytes"):
        raise NotImplementedError("No output of ours is named so.")
    return np.vectorize(bytes.decode, otypes=[object])(array).tolist()


class RestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two packets; the second must not wait for an answer.
    disable_nagle_algorithm = True

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > MAX_BODY_BYTES:
            self.close_connection = True
            for begin in range(0, size, 2**16):
                self.rfile.read(min(2**16, size - begin))
            self.answer(413, {"error": "Request Entity Too Large"})
            return
        body = self.rfile.read(size)
        status = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404}
        try:
            self.answer(200, self.predict(body))
        except Refused as error:
            self.answer(status[error.code], {"error": str(error)})

    def predict(self, body):
        path = re.fullmatch(
            r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:predict",
            self.path,
        )
        if not path:
            raise Refused("NOT_FOUND", f"Malformed request: POST {self.path}")
        try:
            request = json.loads(body)
            assert isinstance(request, dict)
        except (ValueError, AssertionError) as error:
            raise Refused("INVALID_ARGUMENT", "JSON Parse error") from error
        rows = "instances" in request

        def inputs(specs):
            if ("inputs" in request) == rows:
                raise Refused(
                    "INVALID_ARGUMENT", "one of instances and inputs is needed"
                )
            sent = request["instances" if rows else "inputs"]
            if (
                rows
                and sent
                and isinstance(sent[0], dict)
                and "b64" not in sent[0]
            ):
                try:
                    sent = {key: [row[key] for row in sent] for key in sent[0]}
                except (KeyError, TypeError) as error:
                    raise Refused(
                        "INVALID_ARGUMENT", f"rows: {error}"
                    ) from error
            if not isinstance(sent, dict) or "b64" in sent:
                sent = {next(iter(specs)): sent}
            return {
                key: from_request_json(
                    value, specs[key].dtype if key in specs else tf.string
                )
                for key, value in sent.items()
            }

        name, number, label = path.groups()
        _, outputs = self.server.models.run(
            name, int(number or 0), label, request.get("signature_name"), inputs
        )
        found = {k: as_response_json(k, v) for k, v in outputs.items()}
        if not rows:
            return {"outputs": found}
        size = len(next(iter(found.values())))
        return {
            "predictions": [
                {key: value[row] for key, value in found.items()}
                for row in range(size)
            ]
        }

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing."""


class StandIn:
    """Serves a folder of versions until it is closed."""

    def __init__(self, base, labels=None, name="har"):
        self.models = Models(name, base, labels)
        # The limit on a message that gRPC has by default: 4 MB.
        self.grpc_server = grpc.server(ThreadPoolExecutor(4))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            GrpcService(self.models), self.grpc_server
        )
        port = self.grpc_server.add_insecure_port("127.0.0.1:0")
        self.grpc = f"grpc://127.0.0.1:{port}/{name}"
        self.grpc_server.start()
        ThreadingHTTPServer.request_queue_size = 64
        self.rest_server = ThreadingHTTPServer(("127.0.0.1", 0), RestHandler)
        self.rest_server.daemon_threads = True
        self.rest_server.models = self.models
        self.host = f"127.0.0.1:{self.rest_server.server_port}"
        self.rest = f"http://{self.host}/v1/models/{name}"
        self.thread = threading.Thread(target=self.rest_server.serve_forever)
        self.thread.start()

    def close(self):
        self.grpc_server.stop(0).wait()
        self.rest_server.shutdown()
        self.rest_server.server_close()
        self.thread.join()
