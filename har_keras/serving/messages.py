"""The protocol buffer messages of TensorFlow Serving that are used here.

The official package, tensorflow-serving-api, requires the `tensorflow` wheel,
so beside a variant such as tensorflow-cpu it installs a second one. The wire
format depends on field numbers only, so the few messages needed are declared
below; a test compares them with the official ones.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError

# Of `tensorflow.DataType`.
_DT_FLOAT, _DT_UINT8, _DT_STRING, _DT_BOOL = 1, 4, 7, 10

# message: {field: (number, type, repeated)}; a type is a scalar or one of the
# messages. On the wire a map is a repeated pair of key and value.
_FIELDS: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Dim": {"size": (1, "INT64", False)},
    "Shape": {"dim": (2, "Dim", True)},
    "Tensor": {
        "dtype": (1, "INT32", False),
        "tensor_shape": (2, "Shape", False),
        "tensor_content": (4, "BYTES", False),
        "float_val": (5, "FLOAT", True),
        "int_val": (7, "INT32", True),
        "string_val": (8, "BYTES", True),
        "bool_val": (11, "BOOL", True),
    },
    "NamedTensor": {
        "key": (1, "STRING", False),
        "value": (2, "Tensor", False),
    },
    "Version": {"value": (1, "INT64", False)},
    "ModelSpec": {
        "name": (1, "STRING", False),
        "version": (2, "Version", False),
        "signature_name": (3, "STRING", False),
        "version_label": (4, "STRING", False),
    },
    "PredictRequest": {
        "model_spec": (1, "ModelSpec", False),
        "inputs": (2, "NamedTensor", True),
        "output_filter": (3, "STRING", True),
    },
    "PredictResponse": {
        "outputs": (1, "NamedTensor", True),
        "model_spec": (2, "ModelSpec", False),
    },
    "PredictLog": {"request": (1, "PredictRequest", False)},
    "PredictionLog": {"predict_log": (6, "PredictLog", False)},
}
_PACKAGE = "har_keras.serving"


def _message_classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="har_keras_serving.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            message.field.append(_field(field, number, kind, repeated))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")
        )
        for name in _FIELDS
    }


def _field(name: str, number: int, kind: str, repeated: bool) -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    field = kinds(
        name=name,
        number=number,
        label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
        type=kinds.Type.Value(f"TYPE_{'MESSAGE' if kind in _FIELDS else kind}"),
    )
    if kind in _FIELDS:
        field.type_name = f".{_PACKAGE}.{kind}"
    return field


_CLASSES = _message_classes()
PredictRequest = _CLASSES["PredictRequest"]
PredictResponse = _CLASSES["PredictResponse"]
PredictionLog = _CLASSES["PredictionLog"]


def predict_request(
    model_name: str,
    signature_name: str,
    inputs: dict[str, Any],
    *,
    version: int | None = None,
    version_label: str = "",
    outputs: Sequence[str] = (),
) -> Any:
    """Builds a predict request for TensorFlow Serving.

    Args:
        model_name: str. The model's name on the server.
        signature_name: str. One of the signatures.
        inputs: dict. uint8 arrays or object arrays of bytes, by name.
        version: int or None. Version of the model. Defaults to the server's
            choice.
        version_label: str. Version label, instead of `version`. Defaults to
            none.
        outputs: Sequence of str. Names of the outputs to return. Defaults
            to all.

    Returns:
        A `PredictRequest`.

    Example:

    >>> clips = np.zeros((1, 2, 4, 4, 3), "uint8")
    >>> request = predict_request("har", "serving_default", {"clips": clips})
    >>> request.inputs[0].key, len(request.inputs[0].value.tensor_content)
    ('clips', 96)
    """
    request = PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature_name
    if version is not None:
        request.model_spec.version.value = version
    request.model_spec.version_label = version_label
    request.output_filter.extend(outputs)
    for name, value in inputs.items():
        item = request.inputs.add(key=name)
        _fill_tensor(item.value, np.asarray(value))
    return request


def _fill_tensor(tensor: Any, array: np.ndarray) -> None:
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    if array.dtype == np.uint8:
        tensor.dtype = _DT_UINT8
        tensor.tensor_content = array.tobytes()
        return
    tensor.dtype = _DT_STRING
    tensor.string_val.extend(array.ravel().tolist())


def read_outputs(content: bytes) -> dict[str, np.ndarray]:
    """Returns the output arrays of a serialized `PredictResponse` by name.

    Numbers are `float32`, truth values `bool`; strings are `str` in an object
    array.

    Raises:
        ValueError: If it is none, or a tensor is not what it says it is.
    """
    try:
        response = PredictResponse.FromString(content)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    return {item.key: _array(item.value) for item in response.outputs}


def _array(tensor: Any) -> np.ndarray:
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if tensor.dtype == _DT_STRING:
        texts = [text.decode("utf-8", "replace") for text in tensor.string_val]
        return np.array(texts, dtype=object).reshape(shape)
    if tensor.dtype == _DT_BOOL:
        packed = np.frombuffer(tensor.tensor_content, bool)
        return np.array([*tensor.bool_val] or packed, bool).reshape(shape)
    if tensor.dtype != _DT_FLOAT:
        raise ValueError(
            f"An output has data type {tensor.dtype}; {_DT_FLOAT} (float), "
            f"{_DT_BOOL} (bool) or {_DT_STRING} (string) was expected."
        )
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, "<f4").reshape(shape)
    return np.array(tensor.float_val, dtype="float32").reshape(shape)
