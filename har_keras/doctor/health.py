"""What of this machine works for har_keras, each finding with its remedy.

Nothing here imports keras or a backend: `backends` starts each in a process of
its own, so that a broken one is a finding and not the end of the program.
"""

import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import har_keras
from har_keras.doctor.packages import (
    extras,
    installed,
    tensorflow_packages,
    unmet_requirements,
)
from har_keras.environment import free_memory_bytes, has_wandb_key
from har_keras.errors import HarError
from har_keras.store.store import default_store_dir
from har_keras.video.ffmpeg import ffmpeg_binary, read_frames
from har_keras.video.writer import encode_mp4

State = Literal["ok", "look", "bad"]

_GIB = 2**30
# What a training of a few hundred videos writes, and what leaves room.
_LEAST_DISK, _ENOUGH_DISK = 1 * _GIB, 5 * _GIB
_ENOUGH_MEMORY = 2 * _GIB
_TRIED_PYTHONS = ((3, 11), (3, 13))


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        state: str. "ok", "look" (works, but see) or "bad" (does not work).
        topic: str. A word for what it is about.
        text: str. What was found.
        mend: str. What to do, if anything.
    """

    state: State
    topic: str
    text: str
    mend: str = ""


def software() -> Iterator[Finding]:
    """Yields findings on Python and the packages that are installed."""
    yield _python()
    yield Finding(
        "ok",
        "har_keras",
        f"{har_keras.__version__} in {Path(har_keras.__file__).parent}",
    )
    names = ("keras", "numpy", "imageio-ffmpeg", "wandb", "protobuf")
    versions = [f"{name} {installed(name) or 'missing'}" for name in names]
    yield Finding("ok", "packages", ", ".join(versions))
    yield from _known_bad_pairs()
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
    low, high = _TRIED_PYTHONS
    if low <= sys.version_info[:2] <= high:
        return Finding("ok", "python", text)
    return Finding(
        "look",
        "python",
        f"{text}; har_keras is made for 3.{low[1]} to 3.{high[1]}",
        "if something fails to install, take one of those",
    )


def _known_bad_pairs() -> Iterator[Finding]:
    """Yields what is known to fail together, or to be unsafe."""
    flavours = tensorflow_packages()
    if len(flavours) > 1:
        yield Finding(
            "bad",
            "tensorflow",
            f"{' and '.join(flavours)} lie in one folder and overwrite each "
            "other",
            f"pip uninstall {' '.join(flavours)}, then install one of them",
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
            f"{' and '.join(both)} lie in one folder; the last one wins",
            "pip uninstall both, then: pip install opencv-python-headless",
        )
    for need in unmet_requirements():
        yield Finding(
            "bad" if need.missing else "look",
            need.package,
            f"asks for {need.wanted}, and {need.found} is installed",
            f'pip install "{need.wanted}", or take other versions of both',
        )


def ffmpeg() -> Iterator[Finding]:
    """Yields whether videos can be written and read back."""
    try:
        binary = ffmpeg_binary()
        first = subprocess.run(
            [binary, "-version"], capture_output=True, text=True, timeout=30
        ).stdout.split("\n")[0]
        _write_and_read()
    except (HarError, OSError, subprocess.SubprocessError) as error:
        yield Finding(
            "bad",
            "ffmpeg",
            f"videos can't be read: {error}",
            "pip install --force-reinstall imageio-ffmpeg, or set "
            "IMAGEIO_FFMPEG_EXE to an ffmpeg that works",
        )
        return
    words = first.split()
    version = words[2] if len(words) > 2 else "of unknown version"
    yield Finding("ok", "ffmpeg", f"{version}, {binary}")


def _write_and_read() -> None:
    """Writes a second of video and reads it back, or raises."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.mp4"
        path.write_bytes(encode_mp4(np.zeros((8, 64, 64, 3), np.uint8), 8))
        with read_frames(
            path, fps=8, short_side=32, timeout_seconds=30
        ) as frames:
            next(frames)


def room(run_dir: Path, store_dir: Path | None) -> Iterator[Finding]:
    """Yields what is free of disk and memory, and whether it can be used."""
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
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK) or not there.is_dir():
        return Finding(
            "bad",
            topic,
            f"'{folder}' can't be written to",
            f"choose another folder with {option}",
        )
    free = shutil.disk_usage(there).free
    text = f"{free / _GIB:.1f} GiB free for '{folder}'"
    if free >= _ENOUGH_DISK:
        return Finding("ok", topic, text)
    state: State = "bad" if free < _LEAST_DISK else "look"
    return Finding(
        state, topic, text, f"free some, or choose another disk with {option}"
    )


def wandb() -> Iterator[Finding]:
    """Yields how a training would log to Weights & Biases. Never asks."""
    if not installed("wandb"):
        yield Finding("bad", "wandb", "is missing", "pip install wandb")
    elif has_wandb_key():
        yield Finding("ok", "wandb", "online: a key is set")
    else:
        yield Finding(
            "ok",
            "wandb",
            "offline: no key is set; runs are kept in their folder",
            "to log online: wandb login",
        )


@functools.cache
def nvidia_gpus() -> tuple[str, ...]:
    """Returns the names of GPUs that NVIDIA's driver shows."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(done.stdout.split("\n")[:-1]) if not done.returncode else ()
