"""Which devices a training runs on."""

import contextlib
import logging
from typing import Any

import keras

from har_keras.errors import UsageError

logger = logging.getLogger("har_keras")


def device_scope(devices: str = "") -> Any:
    """Returns the scope in which to build and train a model.

    On TensorFlow, several devices share each batch by `MirroredStrategy`; on
    JAX by `keras.distribution.DataParallel`. One device needs neither.

    Args:
        devices: str. Names with commas between, such as "gpu:0,gpu:1".
            Defaults to every GPU, else the processor.

    Returns:
        A context manager.

    Raises:
        UsageError: If a device does not exist, or PyTorch is given several.

    Example:

    >>> with device_scope("cpu:0"):
    ...     layer = keras.layers.Dense(1)
    """
    names = [name.strip().lower() for name in devices.split(",") if name]
    available = keras.distribution.list_devices()
    gpus = [name for name in available if not name.startswith("cpu")]
    for name in names:
        if name not in available:
            raise UsageError(
                f"--devices: there is no '{name}' on this machine. There is "
                f"{', '.join(available)}."
            )
    chosen = names or gpus or available[:1]
    if len(chosen) == 1:
        return keras.device(chosen[0]) if names else contextlib.nullcontext()
    logger.info("Training on %s.", ", ".join(chosen))
    return _several(chosen)


def _several(names: list[str]) -> Any:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(names).scope()
    if backend == "jax":
        return keras.distribution.DataParallel(devices=names).scope()
    raise UsageError(
        f"The PyTorch backend trains on one device. Received: --devices "
        f"{','.join(names)}. Choose one, or --backend tensorflow or jax."
    )
