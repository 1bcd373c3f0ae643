"""What XLA compiled, kept for the next process on this machine.

Compiling a training takes some ten seconds, and gives the same program each
time. TensorFlow and JAX can read it from a folder instead; but TensorFlow fails
on a damaged file, and neither bounds what is kept across processes. So each
process has a folder of its own, filled with files whose hash was checked.
"""

import atexit
import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

from har_keras.files import (
    remove,
    remove_leftovers,
    temporary_folder,
    temporary_prefix,
    whole_file,
)

VARIABLE = "HAR_KERAS_COMPILED"
"""The environment variable that holds another folder, or "off"."""

_MOST_BYTES = 2**27
# TensorFlow ends with an error if the disk is full when it writes a program.
_LEAST_FREE = 2**28
_DAY_SECONDS = 24 * 3600
_NAME = re.compile(r"[0-9a-f]{64}-(xla_|jit_|pmap_)")
# They change what is compiled. The other is how much TensorFlow says.
_VARIABLES = ("TF_", "XLA_", "JAX_")
_NO_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"


def compiled_dir() -> Path:
    """Returns the folder `har_keras/compiled` in the user's cache folder.

    Or that of `HAR_KERAS_COMPILED`.
    """
    if given := os.environ.get(VARIABLE):
        return Path(given).absolute()
    cache = platformdirs.user_cache_path(
        "har_keras", appauthor=False, opinion=False
    )
    return cache / "compiled"


def compiled_bytes() -> int:
    """Returns what is kept, in bytes."""
    return sum(file.stat().st_size for file in _kept(compiled_dir()))


@functools.cache
def keep_compiled(backend: str, num_cores: int) -> None:
    """Lets a backend read compiled programs of earlier processes, and keep its.

    It must not have compiled anything. PyTorch compiles nothing. TensorFlow's
    programs for a GPU are not kept.

    Args:
        backend: str. The one that runs.
        num_cores: int. The cores that programs are compiled for.
    """
    point = {"tensorflow": _point_tensorflow, "jax": _point_jax}.get(backend)
    if point is None or backend not in sys.modules:
        return
    if os.environ.get(VARIABLE) == "off":
        return
    with contextlib.suppress(OSError):
        if shutil.disk_usage(temporary_folder()).free >= _LEAST_FREE:
            shared = compiled_dir() / _fingerprint(backend, num_cores)
            _borrow(shared, point)


def clear_compiled() -> None:
    """Removes all that is kept; running processes have their own."""
    for file in _kept(compiled_dir()):
        remove(file)
        with contextlib.suppress(OSError):  # it is not empty
            file.parent.rmdir()


def _fingerprint(backend: str, num_cores: int) -> str:
    """Returns a name for all on which a compiled program depends."""
    variables = sorted(
        f"{name}={value}"
        for name, value in os.environ.items()
        if name.startswith(_VARIABLES) and name != _NO_VARIABLE
    )
    # TensorFlow is installed under several names; it knows its version.
    package = f"{backend} {sys.modules[backend].__version__}"
    text = "\n".join([package, _processor(), str(num_cores), *variables])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _processor() -> str:
    """Returns what the processor is and can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    known = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({x for x in lines if x.startswith(known)}))


def _borrow(shared: Path, point: Callable[[Path], bool]) -> None:
    """Gives the backend a folder, handed over at the end of the process."""
    own = Path(
        tempfile.mkdtemp(prefix=temporary_prefix(), dir=temporary_folder())
    )
    if not point(own):
        remove(own)
        return
    for file, name in _sound_files(shared):
        with contextlib.suppress(OSError):  # another process made it again
            shutil.copyfile(file, own / name)
    borrowed = {file.name for file in own.iterdir()}
    atexit.register(_hand_over, own, borrowed, shared, os.getpid())


def _sound_files(shared: Path) -> Iterator[tuple[Path, str]]:
    """Yields the files that are what was written, and the backend's names."""
    for file in _kept(shared):
        digest, _, name = file.name.partition("-")
        try:
            sound = _digest(file) == digest
        except OSError:
            continue
        if sound:
            yield file, name
        else:
            remove(file)


def _kept(folder: Path) -> list[Path]:
    """Returns the programs in a folder and those in it, the newest first.

    No other files, for the folder may be one that the user chose.
    """
    files = [file for file in folder.rglob("*") if _NAME.match(file.name)]
    return sorted(files, key=lambda x: x.stat().st_mtime_ns, reverse=True)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _hand_over(
    own: Path, borrowed: set[str], shared: Path, process: int
) -> None:
    """Keeps what this process compiled, and removes its folder."""
    if os.getpid() != process:  # a fork of it ends
        return
    with contextlib.suppress(Exception):  # a full disk is no error at the end
        for file in own.iterdir():
            if file.name not in borrowed:
                name = f"{_digest(file)}-{file.name}"
                with whole_file(shared / name) as temporary:
                    shutil.copyfile(file, temporary)
        _shrink(shared)
    remove(own)


def _shrink(shared: Path) -> None:
    """Removes the oldest programs beyond the bound."""
    if shared.is_dir():
        remove_leftovers(shared, older_than_seconds=_DAY_SECONDS)
    num_bytes = 0
    for file in _kept(compiled_dir()):
        num_bytes += file.stat().st_size
        if num_bytes > _MOST_BYTES:
            remove(file)


def _point_tensorflow(folder: Path) -> bool:
    """Lets TensorFlow keep programs in a folder, unless the user chose one."""
    flags = os.environ.get("TF_XLA_FLAGS", "")
    if "persistent_cache" in flags:
        return False
    os.environ["TF_XLA_FLAGS"] = (
        f"{flags} --tf_xla_persistent_cache_device_types=CPU "
        f'--tf_xla_persistent_cache_directory="{folder}"'
    ).strip()
    return True


def _point_jax(folder: Path) -> bool:
    """Lets JAX keep programs in a folder, unless the user chose one."""
    import jax

    if jax.config.jax_compilation_cache_dir:
        return False
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return True
