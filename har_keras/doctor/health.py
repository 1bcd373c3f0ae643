"""Checks of this machine and installation, each finding with its remedy.

Nothing here imports keras or a backend: `backends` starts each in its own
process, so that a broken one is reported instead of ending the program.
"""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import har_keras
from har_keras.doctor.backends import BACKENDS, check_backends
from har_keras.doctor.codecs import check_ffmpeg
from har_keras.doctor.finding import Finding, State
from har_keras.doctor.packages import (
    PACKAGE,
    TENSORFLOWS,
    extras,
    installed,
    pip_check,
    tensorflow_packages,
)
from har_keras.environment import free_memory_bytes, has_wandb_key
from har_keras.progress import ProgressBar
from har_keras.store.store import default_store_dir

_GIB = 2**30
# What training on a few hundred videos writes, and a comfortable margin.
_MIN_DISK, _ENOUGH_DISK = 1 * _GIB, 5 * _GIB
_ENOUGH_MEMORY = 2 * _GIB
_TESTED_PYTHONS = ((3, 11), (3, 13))
# Packages that computation depends on; conflicts of others are not reported.
_ROOTS = {
    PACKAGE.replace("_", "-"), *TENSORFLOWS, "keras", "jax", "jaxlib", "torch",
    "wandb",
}  # fmt: skip
# Lines of `pip check`.
_MISSING = re.compile(r"(\S+) \S+ requires (\S+), which is not installed\.")
_CONFLICT = re.compile(
    r"(\S+) \S+ has requirement (.+), but you have (\S+ \S+)\."
)


def doctor(
    run_dir: Path = Path("runs"),
    store_dir: Path | None = None,
    *,
    backends: bool = True,
) -> list[Finding]:
    """Checks packages, backends, devices, ffmpeg, disk, memory and W&B.

    Args:
        run_dir: Path. Parent folder of future runs. Defaults to `runs`.
        store_dir: Path or None. Folder of the frame store. Defaults to
            har_keras in the user's cache.
        backends: bool. Whether to start each installed backend, which takes
            some seconds each. Defaults to `True`.

    Returns:
        A list of `Finding`.

    Example:

    >>> found = doctor(Path("."), Path("."), backends=False)
    >>> [x.state for x in found if x.topic == "ffmpeg"]
    ['ok']
    """
    findings = [*software()]
    if backends:
        with ProgressBar("Starting backends", len(BACKENDS)) as bar:
            findings += check_backends(bar.advance)
    return [*findings, *check_ffmpeg(), *room(run_dir, store_dir), *wandb()]


def software() -> Iterator[Finding]:
    """Yields findings about Python and the installed packages."""
    yield _python()
    yield Finding(
        "ok",
        "har_keras",
        f"{har_keras.__version__} in {Path(har_keras.__file__).parent}",
    )
    names = ("keras", "numpy", "imageio-ffmpeg", "wandb", "protobuf")
    versions = [f"{name} {installed(name) or 'missing'}" for name in names]
    yield Finding("ok", "packages", ", ".join(versions))
    yield from _shared_folders()
    yield from _unmet_requirements()
    for name, missing in extras().items():
        if missing:
            yield Finding(
                "ok",
                f"[{name}]",
                f"not installed (optional): {', '.join(missing)}",
                f'if wanted: pip install "har_keras[{name}]"',
            )
        else:
            yield Finding("ok", f"[{name}]", "installed")


def _python() -> Finding:
    version = platform.python_version()
    text = f"{version} on {platform.system()} {platform.machine()}"
    low, high = _TESTED_PYTHONS
    if low <= sys.version_info[:2] <= high:
        return Finding("ok", "python", text)
    return Finding(
        "look",
        "python",
        f"{text}; har_keras is tested on 3.{low[1]} to 3.{high[1]}",
        "if a package fails to install, use one of these versions",
    )


def _shared_folders() -> Iterator[Finding]:
    """Yields packages that overwrite each other's files."""
    flavors = tensorflow_packages()
    if len(flavors) > 1:
        yield Finding(
            "bad",
            "tensorflow",
            f"{' and '.join(flavors)} install the same files and overwrite "
            "each other",
            f"pip uninstall {' '.join(flavors)}, then install one of them",
        )
    both = [
        name
        for name in ("opencv-python", "opencv-python-headless")
        if installed(name)
    ]
    if len(both) == 2:
        yield Finding(
            "look",
            "opencv",
            f"{' and '.join(both)} install the same files; the one installed "
            "last is used",
            f"pip uninstall {' '.join(both)}, then: pip install "
            "opencv-python-headless",
        )


def _unmet_requirements() -> Iterator[Finding]:
    """Yields what `pip check` reports of the packages that compute."""
    lines = pip_check()
    if lines is None:
        yield Finding(
            "look",
            "pip",
            "is missing or does not run, so requirements between packages "
            "were not checked",
            "python -m ensurepip; or, in an environment of uv: uv pip check",
        )
    for line in lines or []:
        package = line.split(" ")[0]
        if package not in _ROOTS:
            continue
        if missing := _MISSING.fullmatch(line):
            need = missing[2]
            # Any distribution of TensorFlow will do; pip knows names only.
            if need != "tensorflow" or not tensorflow_packages():
                yield Finding(
                    "bad",
                    package,
                    f"requires {need}, which is not installed",
                    f"pip install {need}",
                )
        elif conflict := _CONFLICT.fullmatch(line):
            need = conflict[2].partition(";")[0].strip()
            yield Finding(
                "look",
                package,
                f"requires {need}, but {conflict[3]} is installed",
                f'pip install "{need}", or other versions of both',
            )
        else:
            yield Finding("look", package, line.partition(" ")[2])


def room(run_dir: Path, store_dir: Path | None) -> Iterator[Finding]:
    """Yields the free disk space and memory."""
    yield _disk("frame store", store_dir or default_store_dir(), "--store-dir")
    yield _disk("runs", run_dir, "--run-dir")
    free = free_memory_bytes()
    enough = free >= _ENOUGH_MEMORY
    yield Finding(
        "ok" if enough else "look",
        "memory",
        f"{free / _GIB:.1f} GiB free, {os.cpu_count()} processor cores",
        "" if enough else "close other programs, or lower --batch-size",
    )


def _disk(topic: str, folder: Path, option: str) -> Finding:
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK) or not existing.is_dir():
        return Finding(
            "bad",
            topic,
            f"'{folder}' is not writable",
            f"choose another folder with {option}",
        )
    free = shutil.disk_usage(existing).free
    text = f"{free / _GIB:.1f} GiB free for '{folder}'"
    if free >= _ENOUGH_DISK:
        return Finding("ok", topic, text)
    state: State = "bad" if free < _MIN_DISK else "look"
    return Finding(
        state,
        topic,
        text,
        f"free some space, or choose another disk with {option}",
    )


def wandb() -> Iterator[Finding]:
    """Yields how runs would log to Weights & Biases; never prompts."""
    if not installed("wandb"):
        yield Finding("bad", "wandb", "is missing", "pip install wandb")
    elif has_wandb_key():
        yield Finding("ok", "wandb", "online: an API key is set")
    else:
        yield Finding(
            "ok",
            "wandb",
            "offline: no API key is set; logs stay in the run's folder",
            "to log online: wandb login",
        )
