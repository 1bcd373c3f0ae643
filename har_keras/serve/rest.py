"""The JSON of TensorFlow Serving's REST API, read and written.

Reference:
    - https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import binascii
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from har_keras.config import ClipConfig
from har_keras.errors import DataError
from har_keras.serving.acceptance import accepted, parted
from har_keras.serving.frames import CLIP_FROM, pixels_from_json
from har_keras.serving.model_info import (
    DISTANCE,
    INFO,
    NUM_TOP,
    ModelInfo,
)
from har_keras.web.refusal import Refusal

# Model input of one request; clips of large frames are fewer.
_MAX_INPUT_BYTES = 2**28
_KEYS = {"signature_name", "inputs", "instances"}


@dataclass(frozen=True)
class Signature:
    """What a signature takes.

    Args:
        input: str. Name of its only input.
        dtype: str. As TensorFlow Serving names it.
        sizes: tuple of int. Shape; -1 is any.
    """

    input: str
    dtype: str
    sizes: tuple[int, ...]


SIGNATURES = {
    "serving_default": Signature("clips", "DT_UINT8", (-1, -1, -1, -1, 3)),
    "serving_jpeg": Signature("frames_bytes", "DT_STRING", (-1, -1)),
    "serving_gif": Signature("gif_bytes", "DT_STRING", (-1,)),
}


@dataclass(frozen=True)
class PredictCall:
    """A predict request.

    Args:
        signature: Signature. The one that is asked for.
        rows: bool. Whether it has "instances", a row per clip, and not
            "inputs".
        items: Sequence. The input of each clip, as JSON has it.
    """

    signature: Signature
    rows: bool
    items: Sequence[Any]

    def clips(self, clip: ClipConfig) -> np.ndarray:
        """Decodes the clips.

        Args:
            clip: ClipConfig. Clip geometry of the model.

        Returns:
            uint8 array of shape `(B, T, crop_size, crop_size, 3)`.

        Raises:
            Refusal: If one is not of the signature's type, or no picture.
        """
        size = clip.crop_size
        shape = (clip.num_frames, size, size, 3)
        most = max(1, _MAX_INPUT_BYTES // int(np.prod(shape)))
        _require_at_most(len(self.items), most)
        found = np.empty((len(self.items), *shape), np.uint8)
        name = self.signature.input
        try:
            for row, item in zip(found, self.items, strict=True):
                row[:] = CLIP_FROM[name](_READ[name](item), clip)
        except DataError as error:
            raise Refusal(400, str(error)) from error
        return found


def read_predict(body: bytes, max_instances: int) -> PredictCall:
    """Parses the body of a predict request.

    Args:
        body: bytes. JSON.
        max_instances: int. Maximum clips.

    Returns:
        A `PredictCall`; its clips are not decoded yet.

    Raises:
        Refusal: If it is no such request.
    """
    body, pixels = _without_pixels(body)
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"JSON Parse error: {error}") from error
    if not isinstance(request, dict):
        raise Refusal(400, "JSON must be an object with inputs or instances.")
    unknown = sorted(request.keys() - _KEYS)
    if unknown:
        raise Refusal(
            400,
            f"JSON may have {', '.join(sorted(_KEYS))}. Received: "
            f"{unknown[0][:60]}.",
        )
    signature = _signature(request.get("signature_name", ""))
    rows = "instances" in request
    if rows == ("inputs" in request):
        raise Refusal(
            400, "JSON must have one of 'inputs' and 'instances', and not both."
        )
    sent = _rows(request, signature) if rows else _column(request, signature)
    if pixels is not None:
        sent = _with_pixels(sent, pixels)
    if not isinstance(sent, list) or not sent:
        raise Refusal(
            400, f"'{signature.input}' must be a list of at least one clip."
        )
    _require_at_most(len(sent), max_instances)
    return PredictCall(signature, rows, sent)


# Stands for the pixels; no request has it by chance.
_MARK = "7f3c1c1e-pixels-of-this-request"
_LEVELS = 5


def _without_pixels(body: bytes) -> tuple[bytes, np.ndarray | None]:
    """Takes the numbers of all clips out of a request, and a mark in."""
    begin = body.find(b"[")
    text = body[begin : body.rfind(b"]") + 1] if begin >= 0 else b""
    if not text.startswith(b"[[") or _MARK.encode() in body:
        return body, None
    pixels = pixels_from_json(text)
    if pixels is None or pixels.ndim != _LEVELS or pixels.shape[-1] != 3:
        return body, None
    end = begin + len(text)
    return body[:begin] + orjson.dumps(_MARK) + body[end:], pixels


def _with_pixels(sent: Any, pixels: np.ndarray) -> Any:
    """Puts the clips back in the place of the mark."""
    return list(pixels) if sent == _MARK else sent


def _signature(name: Any) -> Signature:
    if name == "":
        name = "serving_default"
    if not isinstance(name, str) or name not in SIGNATURES:
        shown = str(name)[:60]
        raise Refusal(
            400,
            f'Serving signature key "{shown}" not found. Expected one of '
            f"{', '.join(SIGNATURES)}.",
        )
    return SIGNATURES[name]


def _rows(request: dict[str, Any], signature: Signature) -> Any:
    sent = request["instances"]
    named = isinstance(sent, list) and sent and _is_named(sent[0])
    return [_only(row, signature) for row in sent] if named else sent


def _column(request: dict[str, Any], signature: Signature) -> Any:
    sent = request["inputs"]
    return _only(sent, signature) if _is_named(sent) else sent


def _is_named(value: Any) -> bool:
    """Whether JSON names its inputs, and is not itself one in base64."""
    return isinstance(value, dict) and "b64" not in value


def _only(value: Any, signature: Signature) -> Any:
    names = sorted(value) if isinstance(value, dict) else []
    if names != [signature.input]:
        shown = ", ".join(names)[:100] or "none"
        raise Refusal(
            400, f"The input must be '{signature.input}'. Received: {shown}."
        )
    return value[signature.input]


def _require_at_most(number: int, most: int) -> None:
    if number > most:
        raise Refusal(
            413,
            f"A request may have at most {most} clips. Received: {number}.",
            reason="too_large",
        )


def _pixels(item: Any) -> np.ndarray:
    """Returns nested lists as a uint8 array of shape `(T, H, W, 3)`.

    Numbers are collected by `bytes`, which looks at each one's range: several
    times as fast as NumPy, which would also take floats.
    """
    if isinstance(item, np.ndarray):
        return item
    shape: list[int] = []
    level = [item]
    try:
        for _ in range(4):
            sizes = set(map(len, level)) if _all_lists(level) else {-1, -2}
            if len(sizes) != 1:
                raise ValueError("ragged")
            shape += sizes
            level = list(itertools.chain.from_iterable(level))
            if not level:
                break
        if level and (len(shape) != 4 or set(map(type, level)) != {int}):
            raise ValueError("not of integers")
        numbers = bytes(level)
    except (TypeError, ValueError, OverflowError) as error:
        raise _no_pixels() from error
    shape += [0] * (4 - len(shape))
    if level and shape[3] != 3:
        raise _no_pixels()
    return np.frombuffer(numbers, np.uint8).reshape(shape)


def _all_lists(level: list[Any]) -> bool:
    return set(map(type, level)) == {list}


def _no_pixels() -> DataError:
    return DataError(
        "Each of clips must be frames of rows of pixels of 3 integers from 0 "
        "to 255, as nested lists of equal lengths."
    )


def _images(item: Any) -> list[bytes]:
    if not isinstance(item, list):
        raise DataError(
            'Each of frames_bytes must be a list of images, {"b64": "..."} '
            "each."
        )
    return [_binary(image) for image in item]


def _binary(value: Any) -> bytes:
    """Returns a string of JSON, or one in base64, as bytes."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    text = value.get("b64") if isinstance(value, dict) else None
    if not isinstance(text, str) or len(value) != 1:
        raise DataError('Binary data must be an object {"b64": "..."}.')
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise DataError("A value of b64 is not base64.") from error


_READ: dict[str, Callable[[Any], Any]] = {
    "clips": _pixels,
    "frames_bytes": _images,
    "gif_bytes": _binary,
}


def predict_response(
    call: PredictCall,
    answers: np.ndarray,
    class_names: Sequence[str],
    info: ModelInfo,
) -> bytes:
    """Returns the body of a response, with the outputs of a SavedModel.

    Args:
        call: PredictCall. The request.
        answers: float32 array of shape `(B, K + 1)`. Probabilities and
            distances.
        class_names: Names in label order.
        info: ModelInfo. That of the model.
    """
    probabilities, distances = parted(answers)
    number = min(NUM_TOP, len(class_names))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :number]
    count, names, text = len(probabilities), list(class_names), info.text()
    outputs: dict[str, list[Any]] = {
        "probabilities": list(probabilities),
        "top_labels": [[names[i] for i in row] for row in order],
        "top_scores": list(np.take_along_axis(probabilities, order, 1)),
        "class_names": [names] * count,
        "accepted": list(
            accepted(
                probabilities,
                info.window_temperature,
                info.threshold,
                distances=distances,
                limit=info.window_limit,
            )
        ),
        INFO: [text] * count,
    }
    if info.has_distance:
        outputs[DISTANCE] = list(distances)
    answer: dict[str, Any] = {"outputs": outputs}
    if call.rows:
        rows = zip(*outputs.values(), strict=True)
        answer = {
            "predictions": [
                dict(zip(outputs, row, strict=True)) for row in rows
            ]
        }
    return as_json(answer)


def as_json(answer: Any) -> bytes:
    """Returns a response as JSON."""
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def status_of(versions: Sequence[tuple[int, str, str]]) -> dict[str, Any]:
    """Returns the status of versions: number, state and error each."""
    return {
        "model_version_status": [
            {
                "version": str(version),
                "state": state,
                "status": {
                    "error_code": "DATA_LOSS" if error else "OK",
                    "error_message": error,
                },
            }
            for version, state, error in versions
        ]
    }


def metadata_of(
    name: str, version: int, num_classes: int, info: ModelInfo
) -> dict[str, Any]:
    """Returns the signatures of a version, as TensorFlow Serving does."""
    top = min(NUM_TOP, num_classes)
    outputs = {
        "probabilities": ("DT_FLOAT", (-1, num_classes)),
        "top_labels": ("DT_STRING", (-1, top)),
        "top_scores": ("DT_FLOAT", (-1, top)),
        "class_names": ("DT_STRING", (-1, num_classes)),
        "accepted": ("DT_BOOL", (-1,)),
        INFO: ("DT_STRING", (-1,)),
        **({DISTANCE: ("DT_FLOAT", (-1,))} if info.has_distance else {}),
    }
    signatures = {
        key: {
            "inputs": {known.input: _tensor(known.input, *_kind(known))},
            "outputs": {x: _tensor(x, *kind) for x, kind in outputs.items()},
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        }
        for key, known in SIGNATURES.items()
    }
    return {
        "model_spec": {
            "name": name,
            "signature_name": "",
            "version": str(version),
        },
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _kind(signature: Signature) -> tuple[str, tuple[int, ...]]:
    return signature.dtype, signature.sizes


def _tensor(name: str, dtype: str, sizes: Sequence[int]) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "tensor_shape": {
            "dim": [{"size": str(size), "name": ""} for size in sizes],
            "unknown_rank": False,
        },
        "name": name,
    }
