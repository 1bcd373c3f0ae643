"""The features benchmark: what a pretrained backbone costs on this machine."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from har_keras.benchmark.step import matmul_flops
from har_keras.benchmark.step_worker import peak_bytes
from har_keras.config import Config
from har_keras.environment import device_name
from har_keras.errors import UsageError

# Noise, of which no two frames are alike: equal ones are read only once.
_NUM_FRAMES = 64


@dataclass(frozen=True)
class FeatureCost:
    """Cost of the features of a clip.

    Args:
        backbone: str. Its name.
        num_frames: int. Frames of a clip that the backbone reads.
        seconds: float. Wall-clock time per clip, the median over rounds.
        cpu_seconds: float. CPU time per clip, the median over rounds.
        peak_bytes: int. Peak memory of the process.
    """

    backbone: str
    num_frames: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def benchmark_features(
    config: Config | None = None, *, rounds: int = 5
) -> FeatureCost:
    """Measures how fast a backbone reads clips, and prints a table.

    Frames are of noise and in memory: neither decoding nor the store counts.

    Args:
        config: Config or None. Backbone and clip. Defaults to those of the
            recipe `transfer`.
        rounds: int. Measurements, at least 1. Defaults to `5`.

    Returns:
        A `FeatureCost`.

    Raises:
        UsageError: If `rounds` is below 1, or there is no such backbone.
        EnvironmentFault: If its package or its weights are not here.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1. Received: {rounds}.")
    config = config or Config().replace(recipe="transfer")
    if config.features.backbone == "none":
        raise UsageError(
            "There is no backbone to measure. Name one, such as --backbone "
            "efficientnet-lite0; `har-keras models` lists them."
        )
    from har_keras.backbones.catalog import load_backbone
    from har_keras.backbones.extractor import FeatureExtractor

    backbone = load_backbone(config.features, config.clip)
    extractor = FeatureExtractor(backbone, config.clip.crop_size)
    cost = _measured(extractor, config, rounds)
    print(_table(cost))
    print(_utilization(backbone, config, cost))
    return cost


def _measured(extractor: Any, config: Config, rounds: int) -> FeatureCost:
    clip, stride = config.clip, config.features.backbone_stride
    number = max(1, _NUM_FRAMES // clip.num_frames)
    rng = np.random.default_rng(0)
    shape = (number * clip.num_frames, clip.crop_size, clip.crop_size, 3)
    frames = rng.integers(0, 256, shape, dtype=np.uint8)
    clips = np.arange(len(frames)).reshape(number, clip.num_frames)
    extractor.features(frames, clips)  # compiles
    walls, cpus = [], []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        extractor.features(frames, clips)
        walls.append((time.perf_counter() - wall) / number)
        cpus.append((time.process_time() - cpu) / number)
    return FeatureCost(
        config.features.backbone,
        len(range(0, clip.num_frames, stride)),
        statistics.median(walls),
        statistics.median(cpus),
        peak_bytes(),
    )


def _table(cost: FeatureCost) -> str:
    frames = cost.num_frames
    return (
        "   clips/s  frames/s  cpu ms/frame  peak MiB\n"
        f"{1 / cost.seconds:10.2f} {frames / cost.seconds:9.1f} "
        f"{1e3 * cost.cpu_seconds / frames:13.2f} "
        f"{cost.peak_bytes / 2**20:9.0f}"
    )


def _utilization(backbone: Any, config: Config, cost: FeatureCost) -> str:
    """Returns what was measured where, and its part of the peak rate.

    The part is left out where nobody knows the multiply-adds: those that are
    not published are counted under TensorFlow only.
    """
    from har_keras.backbones.costs import macs_of

    clip, info = config.clip, backbone.info
    text = (
        f"{cost.backbone} on {device_name()}: {cost.num_frames} frames of "
        f"{clip.crop_size} x {clip.crop_size} pixels a clip."
    )
    macs = 0.0
    if info.kind == "frames":
        macs = info.macs or macs_of(backbone)
    if not macs:
        return text
    scale = (clip.crop_size / info.image_size) ** 2
    flops = 2e9 * macs * scale * cost.num_frames
    rate = matmul_flops()
    return (
        f"{text} A core multiplies matrices at {rate / 1e9:.0f} GFLOP/s; the "
        f"backbone reaches {flops / cost.cpu_seconds / rate:.0%} of that."
    )
