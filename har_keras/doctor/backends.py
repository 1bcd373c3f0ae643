"""Each backend started in a process of its own, to see whether it computes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

from har_keras.doctor.health import Finding, State, nvidia_gpus
from har_keras.doctor.packages import installed, tensorflow_packages

BACKENDS = ("tensorflow", "jax", "torch")

_PATIENCE_SECONDS = 180
_ON_A_GPU = {
    "tensorflow": 'pip install "tensorflow[and-cuda]"',
    "jax": 'pip install "jax[cuda12]"',
    "torch": "see pytorch.org for the build of your CUDA version",
}
# One gradient step of a small layer: import and devices alone prove little.
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


def backends(progress: Callable[[], object]) -> Iterator[Finding]:
    """Starts each backend that is installed and yields how it went.

    Args:
        progress: Callable without arguments, called after each.

    Yields:
        A `Finding` for each backend.
    """
    chosen = os.environ.get("KERAS_BACKEND") or "tensorflow"
    for name in BACKENDS:
        there = tensorflow_packages() if name == "tensorflow" else []
        if there or installed(name):
            yield _started(name, name in (chosen, "tensorflow"))
        elif name in (chosen, "tensorflow"):
            yield Finding(
                "bad", name, "is missing", f'pip install "har_keras[{name}]"'
            )
        progress()


def _started(name: str, needed: bool) -> Finding:
    """Starts one backend; `needed` says whether training stands on it."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            env=os.environ
            | {"KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        fault = f"did not start within {_PATIENCE_SECONDS} s"
        return Finding("bad" if needed else "look", name, fault, _mend(name))
    if done.returncode:
        last = done.stderr.strip() or f"ended with code {done.returncode}"
        fault = f"does not work: {last.splitlines()[-1][:200]}"
        return Finding("bad" if needed else "look", name, fault, _mend(name))
    answer = json.loads(done.stdout.splitlines()[-1])
    return _devices(name, answer["version"], answer["devices"])


def _devices(name: str, version: str, devices: list[str]) -> Finding:
    shown = ", ".join(devices).lower().replace("device:", "")
    text = f"{version} works, on {shown}"
    accelerated = any(
        word in shown for word in ("gpu", "cuda", "mps", "tpu", "rocm")
    )
    state: State = "ok"
    mend = ""
    if nvidia_gpus() and not accelerated:
        state, mend = "look", _ON_A_GPU[name]
        text += f"; it does not see the {nvidia_gpus()[0]} of this machine"
    return Finding(state, name, text, mend)


def _mend(name: str) -> str:
    package = name if name != "tensorflow" else "tensorflow keras"
    return f"pip install --upgrade --force-reinstall {package}"
