"""What input costs beside a training step, and which of them is the limit."""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from har_keras.config import Config
from har_keras.model.build import build_model
from har_keras.training.steps import build_trainer
from har_keras.video import speed

FORMS = ("jpeg", "raw")


def measure_input(
    videos: Path | None = None, config: Config | None = None, rounds: int = 3
) -> dict[str, Any]:
    """Measures decoding, store, augmentation and a training step.

    Args:
        videos: Path or None. A folder of videos; None draws some.
        config: Config or None. Every option. Defaults to `Config()`.
        rounds: int. How often each way is taken. Defaults to `3`.

    Returns:
        Figures by name: `reading` (medians of clips per cpu-second),
        `over_direct` and `over_jpeg` (medians of ratios within a round),
        `preparing` (cpu seconds, cores and the ratio to ffmpeg alone),
        `step_cpu_seconds` of a clip and `input_share`, by form of the store:
        the part of a training step, reading included, that reading is.
    """
    config = config or Config()
    with tempfile.TemporaryDirectory() as drawn:
        folder = videos or speed.draw_benchmark_videos(Path(drawn))
        rates = speed.measure_reading(folder, config, rounds=rounds)
        costs = dict(speed.measure_preparing(folder, config, rounds=rounds))
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
    }


def _ratios(rates: dict[str, list[float]], base: str) -> dict[str, float]:
    """Returns medians of the ratios to one way, each within its round."""
    return {
        name: median(
            one / other for one, other in zip(found, rates[base], strict=True)
        )
        for name, found in rates.items()
    }


def _preparing(costs: dict[str, list[speed.Cost]]) -> dict[str, Any]:
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
    """Returns the processor time of a training step, per clip."""
    clip, number = config.clip, min(32, config.training.batch_size)
    network = build_model(config.model, clip, num_classes=3)
    trainer = build_trainer(network, config.training, 1)
    shape = (number, clip.num_frames, clip.crop_size, clip.crop_size, 3)
    clips = np.random.default_rng(0).integers(256, size=shape).astype("uint8")
    labels = np.zeros(number, "int32")
    trainer.train_on_batch(clips, labels)  # compiles
    costs = [
        speed.cost(lambda: trainer.train_on_batch(clips, labels)).cpu_seconds
        for _ in range(repeats)
    ]
    return median(costs) / number


def input_table(found: dict[str, Any]) -> str:
    """Returns the figures of `measure_input` for a terminal."""
    direct, jpeg = found["over_direct"], found["over_jpeg"]
    lines = [f"{'clips per cpu-second':42}{'':9}x direct  x JPEG decode"]
    for name, rate in found["reading"].items():
        lines.append(
            f"{name:42}{rate:9.1f}{direct[name]:9.1f}{jpeg[name]:15.2f}"
        )
    lines += ["", f"{'preparing':42}{'cpu s':>9}{'x ffmpeg':>9}{'cores':>15}"]
    for name, item in found["preparing"].items():
        lines.append(
            f"{name:42}{item['cpu_seconds']:9.2f}{item['over_ffmpeg']:9.2f}"
            f"{item['cores']:15.2f}"
        )
    milliseconds = 1000 * found["step_cpu_seconds"]
    lines += ["", f"A training step takes {milliseconds:.1f} cpu-ms a clip."]
    for form, share in found["input_share"].items():
        limit = "the model" if share < 0.5 else "input"
        lines.append(
            f"Input takes {share:.0%} of a training step from a {form} store: "
            f"{limit} is the limit."
        )
    return "\n".join(lines)
