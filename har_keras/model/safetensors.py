"""Reads `.safetensors` files: a length, a JSON header, and bytes.

Reference:
    - [The format](https://huggingface.co/docs/safetensors), "Format".
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.errors import UsageError

_LENGTH_BYTES = 8
_LARGEST_HEADER = 100_000_000  # the format's own limit
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """Returns every array of a file by its name.

    Half-precision numbers come as float32, bfloat16 too. Nothing in the file
    is ever run.

    Args:
        file: Path. The file.

    Returns:
        Arrays by name.

    Raises:
        UsageError: If the file is missing, cut short or of another format.
    """
    try:
        content = memoryview(file.read_bytes())
    except OSError as error:
        raise UsageError(
            f"--weights '{file}' can't be read: {error.strerror}."
        ) from error
    try:
        header, data = _split(content)
        return {
            name: _array(entry, data)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--weights '{file}' is no whole .safetensors file "
            f"({str(error) or type(error).__name__}). Fetch it again."
        ) from error


def _split(content: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Returns the header and what it describes."""
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    end = _LENGTH_BYTES + length
    if length > _LARGEST_HEADER or end > len(content):
        raise ValueError("its header is longer than the file")
    header = json.loads(bytes(content[_LENGTH_BYTES:end]))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header, content[end:]


def _array(entry: dict[str, Any], data: memoryview) -> np.ndarray:
    begin, end = entry["data_offsets"]
    shape = tuple(int(size) for size in entry["shape"])
    if not 0 <= begin <= end <= len(data):
        raise ValueError("it is cut short")
    if entry["dtype"] == "BF16":  # the upper half of a float32
        halves = np.frombuffer(data[begin:end], "<u2").astype("<u4")
        values = (halves << 16).view("<f4")
    elif entry["dtype"] in _DTYPES:
        values = np.frombuffer(data[begin:end], _DTYPES[entry["dtype"]])
    else:
        raise ValueError(f"numbers of type {entry['dtype']} are not supported")
    if math.prod(shape) != values.size:
        raise ValueError("a shape does not match its bytes")
    if values.dtype == np.float16:
        values = values.astype("float32")
    return values.reshape(shape)
