"""The input benchmark: the cost of input relative to a training step."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import keras
import numpy as np

from har_keras.benchmark import reading
from har_keras.clips.dataset import ClipDataset
from har_keras.config import Config, Form, StoreConfig
from har_keras.errors import UsageError
from har_keras.files import temporary_prefix
from har_keras.manifest.manifest import Manifest
from har_keras.model.build import build_model
from har_keras.store.preparation import decode_all
from har_keras.training.trainer import build_trainer

FORMS: tuple[Form, ...] = ("jpeg", "raw")
# Steps until compilation is done and batch buffers are allocated.
_WARM_UP_STEPS = 6


def benchmark_input(
    videos: Path | None = None,
    config: Config | None = None,
    *,
    rounds: int = 3,
) -> dict[str, Any]:
    """Measures the input pipeline and prints a table.

    Args:
        videos: Path or None. A folder of videos. Defaults to generated videos
            of ten seconds.
        config: Config or None. Clip, model and batch. Defaults to `Config()`.
        rounds: int. Measurements of each pipeline, at least 1. Defaults to
            `3`.

    Returns:
        dict. The figures of `measure_input`.

    Raises:
        UsageError: If `rounds` is below 1.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1. Received: {rounds}.")
    found = measure_input(videos, config or Config(), rounds)
    print(input_table(found))
    return found


def measure_input(
    videos: Path | None = None, config: Config | None = None, rounds: int = 3
) -> dict[str, Any]:
    """Measures the input pipeline and a training step; prints nothing.

    Args:
        videos: Path or None. A folder of videos. Defaults to generated
            videos.
        config: Config or None. Every option. Defaults to `Config()`.
        rounds: int. Measurements of each pipeline. Defaults to `3`.

    Returns:
        dict. `reading`: median clips per CPU second of each pipeline;
        `over_direct` and `over_jpeg`: median ratios to decoding a video
        directly and to decoding JPEG alone; `preparing`: CPU seconds, busy
        cores and the ratio to ffmpeg alone; `step_cpu_seconds`: CPU seconds
        of a training step per clip; `input_share`: by format of the store,
        the fraction of a training step with input that input takes;
        `share_during_training`: the same, measured while training;
        `augmentation_share`: the fraction of input that each augmentation
        takes.
    """
    config = config or Config()
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as temporary:
        folder = videos or reading.draw_benchmark_videos(Path(temporary))
        rates = reading.measure_reading(folder, config, rounds=rounds)
        costs = dict(reading.measure_preparing(folder, config, rounds=rounds))
        during = {
            form: share_during_training(folder, config, form) for form in FORMS
        }
    step = step_cpu_seconds(config)
    return {
        "reading": {name: median(found) for name, found in rates.items()},
        "over_direct": _ratios(rates, "direct decode, augmented"),
        "over_jpeg": _ratios(rates, "decode of JPEG alone"),
        "preparing": _preparing(costs),
        "step_cpu_seconds": step,
        "input_share": {
            form: median(
                1 / (1 + rate * step)
                for rate in rates[f"{form} store, augmented, in batches"]
            )
            for form in FORMS
        },
        "share_during_training": during,
        "augmentation_share": _augmentation_shares(rates, config),
    }


def _augmentation_shares(
    rates: dict[str, list[float]], config: Config
) -> dict[str, float]:
    """Returns the fraction of input that each augmentation takes (JPEG)."""
    plain = rates["jpeg store, none, in batches"]
    found = {
        level: rates[f"jpeg store, {level}, in batches"]
        for level in reading.LEVELS
    }
    found[config.training.augment] = rates["jpeg store, augmented, in batches"]
    return {
        level: median(
            1 - one / other for one, other in zip(of_level, plain, strict=True)
        )
        for level, of_level in found.items()
        if level != "none"
    }


class _TimedClips(ClipDataset):
    """A data set that sums the CPU time of reading its clips."""

    cpu_seconds = 0.0

    def read(self, *args: Any) -> tuple[np.ndarray, np.int32]:
        begin = time.thread_time()
        clip = super().read(*args)
        with _LOCK:
            self.cpu_seconds += time.thread_time() - begin
        return clip


_LOCK = threading.Lock()


def share_during_training(
    videos: Path, config: Config, form: Form, *, steps: int = 6
) -> float:
    """Trains for a few steps and returns the fraction of time input takes.

    Args:
        videos: Path. A folder of videos.
        config: Config. Every option.
        form: str. Format of the frame store, "jpeg" or "raw".
        steps: int. Training steps after the warm-up. Defaults to `6`.

    Returns:
        float. CPU time of the threads that read and augment clips, relative
        to that of the whole process.
    """
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        manifest = Manifest.from_folder(videos)
        store, manifest = decode_all(
            manifest, config.clip, StoreConfig(form, Path(folder))
        )
        usable = [video for video in manifest.videos if video.kept_frames]
        wanted = -(-config.training.batch_size // len(usable))
        options = config.replace(**config.flat() | {"clips_per_video": wanted})
        clips = _TimedClips(store, manifest, usable, options, training=True)
        network = build_model(
            config.model, config.clip, num_classes=len(manifest.class_names)
        )
        trainer = build_trainer(network, options.training, steps)

        timer = _InputTimer(clips)
        trainer.fit(
            # More batches than steps, so that it reads ahead to the end.
            clips.batches(epochs=_WARM_UP_STEPS + 2 * steps),
            steps_per_epoch=_WARM_UP_STEPS + steps,
            callbacks=[timer],
            verbose=0,
            shuffle=False,
        )
        return timer.share


class _InputTimer(keras.callbacks.Callback):
    """Measures the fraction of CPU time that input takes after the warm-up."""

    def __init__(self, clips: _TimedClips) -> None:
        super().__init__()
        self.clips = clips
        self.before = self.now = (0.0, 0.0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        float((logs or {})["loss"])  # waits for the device
        self.now = self.clips.cpu_seconds, time.process_time()
        if batch == _WARM_UP_STEPS - 1:
            self.before = self.now

    @property
    def share(self) -> float:
        """CPU time of reading relative to the whole."""
        read, whole = np.subtract(self.now, self.before)
        return float(read / whole)


def _ratios(rates: dict[str, list[float]], base: str) -> dict[str, float]:
    """Returns the median ratio of each rate to a base, within rounds."""
    return {
        name: median(
            one / other for one, other in zip(found, rates[base], strict=True)
        )
        for name, found in rates.items()
    }


def _preparing(costs: dict[str, list[reading.ReadCost]]) -> dict[str, Any]:
    alone = costs["ffmpeg alone"]
    return {
        name: {
            "cpu_seconds": median(item.cpu_seconds for item in found),
            "cores": median(item.cores for item in found),
            "over_ffmpeg": median(
                one.cpu_seconds / other.cpu_seconds
                for one, other in zip(found, alone, strict=True)
            ),
        }
        for name, found in costs.items()
    }


def step_cpu_seconds(config: Config, *, repeats: int = 5) -> float:
    """Returns the CPU time of a training step, per clip."""
    clip, number = config.clip, min(32, config.training.batch_size)
    network = build_model(config.model, clip, num_classes=3)
    trainer = build_trainer(network, config.training, 1)
    shape = (number, clip.num_frames, clip.crop_size, clip.crop_size, 3)
    clips = np.random.default_rng(0).integers(256, size=shape).astype("uint8")
    labels = np.zeros(number, "int32")
    trainer.train_on_batch(clips, labels)  # compiles
    costs = [
        reading.cost(lambda: trainer.train_on_batch(clips, labels)).cpu_seconds
        for _ in range(repeats)
    ]
    return median(costs) / number


def input_table(found: dict[str, Any]) -> str:
    """Formats the figures of `measure_input` for a terminal."""
    direct, jpeg = found["over_direct"], found["over_jpeg"]
    lines = [f"{'clips per CPU second':42}{'':9}x direct  x JPEG decode"]
    for name, rate in found["reading"].items():
        lines.append(
            f"{name:42}{rate:9.1f}{direct[name]:9.1f}{jpeg[name]:15.2f}"
        )
    lines += ["", f"{'preparing':42}{'CPU s':>9}{'x ffmpeg':>9}{'cores':>15}"]
    for name, item in found["preparing"].items():
        lines.append(
            f"{name:42}{item['cpu_seconds']:9.2f}{item['over_ffmpeg']:9.2f}"
            f"{item['cores']:15.2f}"
        )
    milliseconds = 1000 * found["step_cpu_seconds"]
    lines += ["", f"A training step takes {milliseconds:.1f} CPU ms per clip."]
    for form, share in found["input_share"].items():
        limit = "the model" if share < 0.5 else "input"
        lines.append(
            f"Input takes {share:.0%} of a training step from a {form} store: "
            f"{limit} is the bottleneck."
        )
    for form, share in found["share_during_training"].items():
        lines.append(
            f"While training from a {form} store it took {share:.0%} of the "
            "CPU time."
        )
    shares = found["augmentation_share"].items()
    listed = ", ".join(f"{level} {share:.0%}" for level, share in shares)
    lines.append(f"Augmentation takes, of input from a jpeg store: {listed}.")
    return "\n".join(lines)
