"""Runs a SavedModel through TensorFlow's C library, as a server would.

A program of its own, started by a test: Python's TensorFlow is not imported.
Arguments: TensorFlow's folder, the version, input and output, a .npy file.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np

UINT8 = 4


class Output(ctypes.Structure):
    """`TF_Output`: an operation and which of its outputs."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def load(folder):
    library = ctypes.CDLL(
        str(Path(folder, "libtensorflow_cc.so.2")), mode=ctypes.RTLD_GLOBAL
    )
    for name in (
        "TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions",
        "TF_LoadSessionFromSavedModel", "TF_GraphOperationByName",
        "TF_AllocateTensor", "TF_TensorData",
    ):  # fmt: skip
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    library.TF_Dim.restype = ctypes.c_int64
    return library


def run(library, version, input_name, output_name, clips):
    status = ctypes.c_void_p(library.TF_NewStatus())

    def require_ok():
        if library.TF_GetCode(status):
            sys.exit(library.TF_Message(status).decode())

    graph = ctypes.c_void_p(library.TF_NewGraph())
    session = ctypes.c_void_p(
        library.TF_LoadSessionFromSavedModel(
            ctypes.c_void_p(library.TF_NewSessionOptions()), None,
            version.encode(), (ctypes.c_char_p * 1)(b"serve"), 1, graph, None,
            status,
        )
    )  # fmt: skip
    require_ok()
    places = [named(library, graph, name) for name in (input_name, output_name)]
    shape = (ctypes.c_int64 * clips.ndim)(*clips.shape)
    sent = library.TF_AllocateTensor(
        UINT8, shape, clips.ndim, ctypes.c_size_t(clips.nbytes)
    )
    target = library.TF_TensorData(ctypes.c_void_p(sent))
    ctypes.memmove(target, clips.tobytes(), clips.nbytes)
    found = (ctypes.c_void_p * 1)()
    library.TF_SessionRun(
        session, None,
        ctypes.byref(places[0]), (ctypes.c_void_p * 1)(sent), 1,
        ctypes.byref(places[1]), found, 1, None, 0, None, status,
    )  # fmt: skip
    require_ok()
    answer = ctypes.c_void_p(found[0])
    size = [library.TF_Dim(answer, axis) for axis in range(2)]
    data = library.TF_TensorData(answer)
    values = (ctypes.c_float * (size[0] * size[1])).from_address(data)
    return np.array(values).reshape(size)


def named(library, graph, name):
    operation, _, index = name.partition(":")
    found = library.TF_GraphOperationByName(graph, operation.encode())
    if not found:
        sys.exit(f"There is no operation '{operation}' in the graph.")
    return Output(found, int(index))


def main():
    folder, version, input_name, output_name, file = sys.argv[1:]
    found = run(load(folder), version, input_name, output_name, np.load(file))
    print(
        json.dumps(
            {
                "probabilities": found.tolist(),
                "python_tensorflow": "tensorflow" in sys.modules,
            }
        )
    )


if __name__ == "__main__":
    main()
