"""Starts each Keras backend in its own process to see whether it works."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

from har_keras.doctor.finding import Finding, State
from har_keras.doctor.packages import installed, tensorflow_packages

BACKENDS = ("tensorflow", "jax", "torch")

_TIMEOUT_SECONDS = 180
_INSTALL = {
    "tensorflow": "pip install tensorflow",
    "jax": 'pip install "har_keras[jax]"',
    "torch": 'pip install "har_keras[torch]"',
}
_INSTALL_FOR_GPU = {
    "tensorflow": 'pip install "tensorflow[and-cuda]"',
    "jax": 'pip install "jax[cuda13]"',
    "torch": "see pytorch.org for the build for your CUDA version",
}
# One training step of a small layer: an import alone proves little.
_PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import keras, numpy as np
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
model.compile("sgd", "mse", jit_compile=False)
model.train_on_batch(np.ones((2, 4), "float32"), np.ones((2, 2), "float32"))
name = keras.config.backend()
if name == "tensorflow":
    import tensorflow as tf
    found = tf.config.list_logical_devices()
    devices = [device.name.split(":", 1)[1] for device in found]
    version = tf.__version__
elif name == "jax":
    import jax
    devices = [str(device) for device in jax.devices()]
    version = jax.__version__
else:
    import torch
    count = torch.cuda.device_count()
    devices = [f"cuda:{i}" for i in range(count)]
    if torch.backends.mps.is_available():
        devices.append("mps")
    devices.append("cpu")
    version = torch.__version__
print(json.dumps({"devices": devices, "version": version}))
"""


def check_backends(progress: Callable[[], object]) -> Iterator[Finding]:
    """Starts each installed backend and runs a training step.

    Args:
        progress: Callable without arguments, called after each backend.

    Yields:
        A `Finding` for each installed backend, and for a missing one that
        is required: TensorFlow, and the one in `KERAS_BACKEND`.
    """
    chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
    for name in BACKENDS:
        variants = tensorflow_packages() if name == "tensorflow" else []
        if variants or installed(name):
            yield _started(name, name in (chosen, "tensorflow"))
        elif name in (chosen, "tensorflow"):
            yield Finding("bad", name, "is not installed", _INSTALL[name])
        progress()


def _started(name: str, needed: bool) -> Finding:
    """Starts one backend; `needed` tells whether training depends on it."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env=os.environ
            | {"KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        fault = f"did not start within {_TIMEOUT_SECONDS} s"
        return Finding("bad" if needed else "look", name, fault, _mend(name))
    if done.returncode:
        last = done.stderr.strip() or f"exit code {done.returncode}"
        fault = f"does not work: {last.splitlines()[-1][:200]}"
        return Finding("bad" if needed else "look", name, fault, _mend(name))
    found = json.loads(done.stdout.splitlines()[-1])
    return _devices(name, found["version"], found["devices"])


def _devices(name: str, version: str, devices: list[str]) -> Finding:
    shown = ", ".join(devices).lower().replace("device:", "")
    text = f"{version} works, on {shown}"
    accelerated = any(
        word in shown for word in ("gpu", "cuda", "mps", "tpu", "rocm")
    )
    state: State = "ok"
    mend = ""
    if nvidia_gpus() and not accelerated:
        state, mend = "look", _INSTALL_FOR_GPU[name]
        text += f"; it does not use the {nvidia_gpus()[0]} of this machine"
    return Finding(state, name, text, mend)


def _mend(name: str) -> str:
    package = name if name != "tensorflow" else "tensorflow keras"
    return f"pip install --upgrade --force-reinstall {package}"


@functools.cache
def nvidia_gpus() -> tuple[str, ...]:
    """Returns the names of the GPUs that nvidia-smi lists."""
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
