"""Selects the devices for training and their distribution strategy."""

import contextlib
import logging
from typing import Any

import keras

from har_keras.errors import UsageError
from har_keras.training.hosts import current_hosts

logger = logging.getLogger("har_keras")


def device_scope(devices: str = "") -> Any:
    """Returns the scope in which to build and train a model.

    Several devices share each batch: by `MirroredStrategy` on TensorFlow, and
    by `keras.distribution.DataParallel` on JAX, which includes all devices of
    all hosts. One device needs neither.

    Args:
        devices: str. Names separated by commas, such as "gpu:0,gpu:1".
            Defaults to all GPUs, else the CPU.

    Returns:
        A context manager.

    Raises:
        UsageError: If a device does not exist, or PyTorch is given several.

    Example:

    >>> with device_scope("cpu:0"):
    ...     layer = keras.layers.Dense(1)
    """
    names = chosen_devices(devices)
    if len(names) == 1:
        return keras.device(names[0]) if devices else contextlib.nullcontext()
    logger.info("Training on %s.", ", ".join(names))
    return _several(names)


def chosen_devices(devices: str = "") -> list[str]:
    """Returns the names of the devices to train on.

    Args:
        devices: str. Names separated by commas; "" for all GPUs, else the
            CPU.

    Returns:
        list of str, such as `["gpu:0", "gpu:1"]`.

    Raises:
        UsageError: If a device does not exist or is named twice, or if some
            are selected with several hosts.

    Example:

    >>> chosen_devices("cpu:0")
    ['cpu:0']
    """
    names = [name.strip().lower() for name in devices.split(",") if name]
    available = _available()
    if current_hosts().are_several:
        if names:
            raise UsageError(
                f"--devices is for one host. Received: {devices}. Several "
                "hosts use all devices; exclude some with "
                "CUDA_VISIBLE_DEVICES."
            )
        return available
    for name in names:
        if name not in available:
            raise UsageError(
                f"--devices: there is no '{name}' on this machine. Available: "
                f"{', '.join(available)}."
            )
    if len(set(names)) < len(names):
        raise UsageError(f"--devices names one twice. Received: {devices}.")
    accelerators = [name for name in available if not name.startswith("cpu")]
    # PyTorch trains on one device.
    several = keras.config.backend() != "torch"
    return names or accelerators[: None if several else 1] or available[:1]


def num_shares(devices: str, batch_size: int) -> int:
    """Returns the number that every batch must be divisible by.

    JAX splits an array into equal shards, one per device; `MirroredStrategy`
    and a single device accept any number of clips.

    Args:
        devices: str. As for `chosen_devices`.
        batch_size: int. Clips in a whole batch.

    Returns:
        int. `1`, or under JAX the number of devices.

    Raises:
        UsageError: If the batch is not divisible by it.
    """
    number = len(chosen_devices(devices))
    if keras.config.backend() != "jax":
        return 1
    if batch_size % number:
        raise UsageError(
            f"--batch-size must be a multiple of the {number} devices under "
            f"JAX. Received: {batch_size}. Use for example "
            f"{max(1, round(batch_size / number)) * number}."
        )
    return number


def _available() -> list[str]:
    if keras.config.backend() != "torch":
        return [name.lower() for name in keras.distribution.list_devices()]
    import torch

    gpus = [f"gpu:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu:0", *gpus]


def _several(names: list[str]) -> Any:
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.distribute.MirroredStrategy(names).scope()
    if backend == "jax":
        # Every host reads its own shard of a batch already.
        return keras.distribution.DataParallel(
            devices=names, auto_shard_dataset=False
        ).scope()
    raise UsageError(
        f"The PyTorch backend trains on one device. Received: --devices "
        f"{','.join(names)}. Choose one, or --backend tensorflow or jax."
    )
