"""The machine: backend, cores, memory, keys, versions of packages."""

import contextlib
import ctypes
import gc
import importlib
import logging
import netrc
import os
import platform
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from har_keras._version import __version__
from har_keras.compiled import keep_compiled
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.interrupts import is_program
from har_keras.terminal import printable

logger = logging.getLogger("har_keras")

Backend = Literal["auto", "tensorflow", "jax", "torch"]
_BACKENDS = ("tensorflow", "jax", "torch")

PROGRAM_BYTES = 10**9
"""Address space of a verb, with what libraries of numbers reserve in it."""
_BACKEND_BYTES = 3 * 10**9

# Levels of TensorFlow's messages that are kept, and of absl's.
_ERRORS = "3"
_FATAL = 3


def start_backend(backend: Backend = "auto", *, reads_data: bool = True) -> str:
    """Imports keras on a backend, without the noise of its start.

    Args:
        backend: str. "tensorflow", "jax" or "torch". Defaults to `"auto"`,
            which is the one that runs, else `KERAS_BACKEND`, else
            TensorFlow.
        reads_data: bool. Whether videos are read, for which TensorFlow is
            needed under any backend. Defaults to `True`.

    Returns:
        The name of the backend in use.

    Raises:
        UsageError: If keras already runs on another backend, or
            `KERAS_BACKEND` names none of them.
        EnvironmentFault: If the backend is not installed.
    """
    chosen: str = backend
    if backend == "auto":
        chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend == "auto" and "keras" in sys.modules:
        chosen = str(sys.modules["keras"].backend.backend())
    if chosen not in _BACKENDS:
        raise UsageError(
            f"KERAS_BACKEND must be one of {', '.join(_BACKENDS)}. Received: "
            f"'{printable(chosen)}'."
        )
    require_address_space(_BACKEND_BYTES, "A backend of Keras")
    os.environ["KERAS_BACKEND"] = chosen
    try:
        with quiet_libraries(), _uncollected_garbage():
            import keras

            if reads_data or chosen == "tensorflow":
                import tensorflow as tf

                tf.get_logger().setLevel("ERROR")
                if os.environ["TF_CPP_MIN_LOG_LEVEL"] == _ERRORS:
                    _quiet_compiler(Path(tf.__file__).parent)
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        extra = f"har_keras[{chosen}]" if name == chosen else name
        extra = "har_keras" if name in ("keras", "tensorflow", "") else extra
        raise EnvironmentFault(
            f"The backend '{chosen}' can't start ({error}). Install what is "
            f'missing with: pip install "{extra}".'
        ) from error
    except (AttributeError, TypeError, ValueError) as error:
        raise EnvironmentFault(
            f"Keras can't start ({error}). Look into its settings, "
            "~/.keras/keras.json, or remove them."
        ) from error
    running = str(keras.backend.backend())
    if running != chosen:
        raise UsageError(
            f"Keras already runs on {running} in this process, so --backend "
            f"{chosen} comes too late. Set KERAS_BACKEND={chosen} before keras "
            "is first imported."
        )
    keep_compiled(running, num_cores())
    return running


def require_address_space(least: int, what: str) -> None:
    """Refuses to go on under a limit at which libraries crash.

    They end the process where memory is refused, without a word of why.

    Args:
        least: int. Bytes of address space that are needed.
        what: str. What needs them, for the sentence.

    Raises:
        EnvironmentFault: If the limit of this process is lower.
    """
    try:
        resource: Any = importlib.import_module("resource")
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, AttributeError, OSError, ValueError):
        return  # Windows has none
    if 0 <= limit < least and limit != resource.RLIM_INFINITY:
        raise EnvironmentFault(
            f"{what} needs {least / 1e9:.1f} GB of address space, and this "
            f"process may have {limit / 1e9:.1f}. Raise the limit, as with "
            "'ulimit -v unlimited'."
        )


@contextlib.contextmanager
def _uncollected_garbage() -> Iterator[None]:
    """Imports without the garbage collector, which would find nothing.

    It looks at all of the 400,000 objects of a backend again and again. In a
    program it leaves them out from then on; those of a notebook, or of another
    program, are not ours to decide on.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        if is_program():
            gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def _quiet_compiler(tensorflow: Path) -> None:
    """Leaves out what XLA logs by a way that knows no variable.

    It tells that it compiles, and calls each program that it reads from a file
    an error, for it first tries another format. What fails is raised.
    """
    with contextlib.suppress(OSError, AttributeError, ValueError):
        options = tensorflow / "include" / "absl" / "base" / "options.h"
        (space,) = re.findall(
            r"define ABSL_OPTION_INLINE_NAMESPACE_NAME (\w+)",
            options.read_text("utf-8"),
        )
        name = f"_ZN4absl{len(space)}{space}14SetMinLogLevel"
        library = ctypes.CDLL(str(tensorflow / "libtensorflow_framework.so.2"))
        library[f"{name}ENS0_18LogSeverityAtLeastE"](_FATAL)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Holds back what libraries write to stderr, unless they fail.

    Also what C libraries write, below Python. Those of TensorFlow go on after
    the import: level 3 leaves what ends it, the rest is for who builds it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _ERRORS)
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as noise, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(noise.fileno(), 2)
        try:
            yield
        except Exception:
            noise.seek(0)
            words = noise.read().decode("utf-8", "replace").splitlines(True)
            shown = [f"{printable(line.rstrip())}\n" for line in words]
            os.write(kept, "".join(shown).encode())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def versions() -> dict[str, str]:
    """Returns the versions of the packages that compute, and the machine.

    Keras runs, so the backend is known; TensorFlow reads the data on any.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    backend = str(keras.config.backend())
    # TensorFlow is installed under several names; it knows its version.
    own = {} if backend == "tensorflow" else {backend: version(backend)}
    return {
        "har_keras": __version__,
        "keras": str(keras.__version__),
        "backend": backend,
        "tensorflow": str(tf.__version__),
        **own,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def device_name() -> str:
    """Returns the backend that runs, and the device it computes on."""
    import keras

    backend = str(keras.config.backend())
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        return f"{backend}, {device.device_kind or device.platform}"
    if backend == "torch":
        import torch

        is_gpu = torch.cuda.is_available()
        return f"{backend}, {torch.cuda.get_device_name() if is_gpu else 'cpu'}"
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        return f"{backend}, {details.get('device_name', 'gpu')}"
    return f"{backend}, cpu"


def num_cores() -> int:
    """Returns how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory_bytes() -> int:
    """Returns the memory that is free for this process, caches included."""
    import psutil

    found = [int(psutil.virtual_memory().available), _cgroup()]
    return min(size for size in found if size)


def _cgroup() -> int:
    """Returns what a container's limit leaves; 0 without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text("ascii"))
        used = int((folder / "memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return 0
    return max(1, limit - used)


def wandb_mode() -> str:
    """Returns the mode of W&B where no option chose one.

    Returns:
        str. "online", "offline" or "off": as `WANDB_MODE` and
        `WANDB_DISABLED` say, else online where there is a key, for nobody is
        asked for one.
    """
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        return "off"
    said = os.environ.get("WANDB_MODE", "")
    if not said:
        return "online" if has_wandb_key() else "offline"
    known = {
        "online": "online",
        "offline": "offline",
        "dryrun": "offline",
        "disabled": "off",
    }
    if said.lower() not in known:
        logger.warning(
            "WANDB_MODE must be one of %s. Received: '%s'. Weights & Biases "
            "logs offline.",
            ", ".join(known),
            printable(said),
        )
    return known.get(said.lower(), "offline")


def has_wandb_key() -> bool:
    """Whether `WANDB_API_KEY` is set or `wandb login` left a key."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)


def run_with_tensorflow(
    module: str, arguments: Sequence[str], *, what: str
) -> str:
    """Runs a module in a process of its own, on the TensorFlow backend.

    Args:
        module: str. The name of the module.
        arguments: Sequence of str. Its command-line arguments.
        what: str. What it does, for the error.

    Returns:
        str. Its standard output.

    Raises:
        EnvironmentFault: If it fails; gives the last line of its errors.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        # The graph is small; the accelerator belongs to this process.
        env=os.environ
        | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise EnvironmentFault(
            f"{what} through the TensorFlow backend failed: "
            f"{reason.removeprefix('Error: ')}"
        )
    return done.stdout
