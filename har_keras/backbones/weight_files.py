"""Published weights in files: of PyTorch, read without its code, and HDF5.

The legacy format of `torch.save` is a sequence of pickles, then the raw
storages. A pickle can name any function to call, so the reader admits nothing
but ordered dictionaries, storages and the function that makes a tensor of one.
"""

import collections
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from har_keras.errors import DataError

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"),
}


class _Tensor:
    """A tensor that waits for its storage."""

    def __init__(
        self, storage: tuple[str, str, int], offset: int,
        shape: tuple[int, ...], strides: tuple[int, ...], *_: Any,
    ) -> None:  # fmt: skip
        self.key, self.kind, self.size = storage
        self.offset, self.shape, self.strides = offset, shape, strides

    def array(self, data: np.ndarray) -> np.ndarray:
        """Returns the tensor's values from those of its storage."""
        spans = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((size - 1) * step for size, step in spans)
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or (
            last >= len(data)
        ):
            raise ValueError("a tensor lies outside its storage")
        strides = tuple(step * data.itemsize for step in self.strides)
        view = np.lib.stride_tricks.as_strided(
            data[self.offset :], self.shape, strides, writeable=False
        )
        return np.ascontiguousarray(view)


_ADMITTED: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    **{("torch", name): name for name in _DTYPES},
}


class _TensorsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> tuple[str, str, int]:
        _, kind, key, _, size, *_ = pid
        return str(key), str(kind), int(size)


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Reads a checkpoint of PyTorch's legacy format.

    Args:
        path: Path. A file that `torch.save` wrote from a state dict.

    Returns:
        Arrays by name.

    Raises:
        DataError: If the file is missing, damaged, of another format or holds
            anything but tensors.
    """
    try:
        with io.BytesIO(path.read_bytes()) as file:
            return _read(file)
    except (
        OSError, ValueError, TypeError, LookupError, EOFError, AttributeError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise DataError(
            f"'{path}' can't be read as a PyTorch checkpoint of tensors: "
            f"{error}. Install its package again."
        ) from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    magic, _, system = (_TensorsOnly(file).load() for _ in range(3))
    if magic != _MAGIC or not system["little_endian"]:
        raise ValueError("it has another format")
    tensors = _TensorsOnly(file).load()
    kinds = {tensor.key: tensor.kind for tensor in tensors.values()}
    storages = {}
    for key in _TensorsOnly(file).load():
        dtype = _DTYPES[kinds[key]]
        (size,) = np.frombuffer(file.read(8), "<i8")
        data = file.read(int(size) * dtype.itemsize)
        if len(data) != size * dtype.itemsize:
            raise ValueError("it is truncated")
        storages[key] = np.frombuffer(data, dtype)
    return {
        name: tensor.array(storages[tensor.key])
        for name, tensor in tensors.items()
    }


def require_hdf5(path: Path, remedy: str) -> None:
    """Raises `DataError` for a file that is truncated or no HDF5.

    Args:
        path: Path. The file.
        remedy: str. A sentence for the message.
    """
    try:
        with h5py.File(path):
            pass
    except OSError as error:
        raise DataError(
            f"The weights in '{path}' can't be read as HDF5 "
            f"({first_line(error)}). {remedy}"
        ) from error


def first_line(error: object) -> str:
    """Returns what went wrong in one short line, without its full stop.

    Example:

    >>> first_line(ValueError("It is truncated. " + chr(10) + "See above."))
    'It is truncated'
    """
    return str(error).strip().partition("\n")[0].strip(" .")[:200]
