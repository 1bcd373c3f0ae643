"""The process of one candidate of `benchmark step`.

It builds its model, then reads numbers of training steps from standard input,
one per line, and writes the cost of each to standard output as JSON.
"""

import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.config import Config
from har_keras.toml import read_toml

Train = Callable[[int], None]


def main(candidate: str, config_file: str) -> None:
    """Trains for the steps in each line of standard input, until its end."""
    responses = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # so that output of libraries does not mix with responses
    config = Config().replace(**read_toml(Path(config_file)))
    train = CANDIDATES[candidate](config)
    train(1)
    print("{}", file=responses)
    for line in sys.stdin:
        steps = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        train(steps)
        clips = steps * config.training.batch_size
        cost = {
            "seconds": (time.perf_counter() - wall) / clips,
            "cpu_seconds": (time.process_time() - cpu) / clips,
            "peak_bytes": peak_bytes(),
        }
        print(json.dumps(cost), file=responses)


def peak_bytes() -> int:
    """Returns the most memory that this process has had."""
    import psutil

    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:  # Windows
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def batch_of(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Returns clips of noise and their labels."""
    rng = np.random.default_rng(0)
    side = config.clip.crop_size
    size = config.training.batch_size
    shape = (size, config.clip.num_frames, side, side, 3)
    clips = rng.integers(0, 256, shape, dtype=np.uint8)
    return clips, rng.integers(0, 3, size).astype("int32")


def ours(config: Config) -> Train:
    """Our model, trained by `fit`."""
    from har_keras.model.build import build_model
    from har_keras.training.trainer import build_trainer

    network = build_model(config.model, config.clip, num_classes=3)
    trainer = build_trainer(network, config.training, steps_per_epoch=100)
    return _fitting(trainer, batch_of(config))


def _fitting(model: Any, batch: tuple[np.ndarray, np.ndarray]) -> Train:
    data_of = _repeating(batch)

    def train(steps: int) -> None:
        model.fit(data_of(), steps_per_epoch=steps, verbose=0, shuffle=False)

    return train


def _repeating(batch: tuple[np.ndarray, np.ndarray]) -> Callable[[], Any]:
    """Returns what gives a batch without end: of tf.data, as in training.

    Of a generator where only another backend is installed.
    """
    try:
        import tensorflow as tf
    except ImportError:
        return lambda: (item for item in itertools.repeat(batch))
    data = tf.data.Dataset.from_tensors(batch).repeat()
    return lambda: data


def bare(config: Config) -> Train:
    """Our training step without `fit`, on TensorFlow."""
    import tensorflow as tf

    from har_keras.model.build import build_model
    from har_keras.training.trainer import build_trainer

    network = build_model(config.model, config.clip, num_classes=3)
    trainer = build_trainer(network, config.training, steps_per_epoch=100)
    batch = tuple(tf.constant(item) for item in batch_of(config))
    trainer.optimizer.build(trainer.trainable_variables)
    trainer.fit(batch[0][:1], batch[1][:1], verbose=0)
    data = iter(tf.data.Dataset.from_tensors(batch).repeat())

    def train(steps: int) -> None:
        for _ in range(steps):
            logs = trainer.train_function(data)
        float(logs["loss"])

    return train


def naive(config: Config) -> Train:
    """The same network, built from Keras's own layers."""
    import keras
    from keras import layers

    from har_keras.model.layers import PositionEmbedding

    dims, clip = config.model, config.clip
    inputs = keras.Input((clip.num_frames, *[clip.crop_size] * 2, 3))
    tubelet = (dims.tubelet_frames, *[dims.patch_size] * 2)
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    x = layers.Conv3D(dims.hidden_dim, tubelet, tubelet)(x)
    x = layers.Reshape((-1, dims.hidden_dim))(x)
    x = PositionEmbedding()(x)
    for _ in range(dims.num_layers):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        width = dims.hidden_dim // dims.num_heads
        x = x + layers.MultiHeadAttention(dims.num_heads, width)(y, y)
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(dims.mlp_dim, activation="gelu")(y)
        x = x + layers.Dense(dims.hidden_dim)(y)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Dense(3)(layers.GlobalAveragePooling1D()(x))
    model = keras.Model(inputs, x)
    model.compile(
        keras.optimizers.AdamW(config.training.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    clips, labels = batch_of(config)
    return _fitting(model, (clips.astype("float32"), labels))


def torch(config: Config) -> Train:
    """The same network in PyTorch, with fused attention and AdamW."""
    from har_keras.benchmark.step_peers import torch_twin

    return torch_twin(config, *batch_of(config))


def vivit(config: Config) -> Train:
    """Hugging Face's ViViT with scaled-dot-product attention."""
    from har_keras.benchmark.step_peers import hugging_face_vivit

    return hugging_face_vivit(config, *batch_of(config))


CANDIDATES: dict[str, Callable[[Config], Train]] = {
    "ours": ours,
    "bare": bare,
    "naive": naive,
    "torch": torch,
    "vivit": vivit,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
