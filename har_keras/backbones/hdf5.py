"""Files of weights in HDF5, as Keras writes them."""

from pathlib import Path

import h5py

from har_keras.errors import DataError


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
