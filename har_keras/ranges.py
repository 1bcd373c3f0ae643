"""The values that an option can have, alone and beside others."""

import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from har_keras.errors import UsageError


@dataclass(frozen=True)
class Range:
    """The values that an option can have.

    Args:
        text: str. What is allowed, to follow "must be".
        holds: Callable. Whether a value is allowed.
    """

    text: str
    holds: Callable[[Any], bool]


class Metavar(str):
    """What `--help` shows in the place of an option's value."""


class Advanced:
    """Metadata of a verb's own option that only `--help-all` shows."""


AT_LEAST_ONE = Range("at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Range("0 or more", lambda value: value >= 0)
POSITIVE = Range("above 0", lambda value: 0 < value < math.inf)
PORT = Range("a port, 0 to 65535", lambda value: 0 <= value <= 65535)
MOST_PIXELS = 4096
SIZE = Range(
    f"from 1 to {MOST_PIXELS}", lambda value: 1 <= value <= MOST_PIXELS
)
MOST_LAYERS = 1000
LAYERS = Range(
    f"from 1 to {MOST_LAYERS}", lambda value: 1 <= value <= MOST_LAYERS
)
MOST_WIDTH = 32768
WIDTH = Range(f"from 1 to {MOST_WIDTH}", lambda value: 1 <= value <= MOST_WIDTH)
RATE = Range("above 0 and at most 4096", lambda value: 0 < value <= 4096)
# Videos are decoded at twice the rate of clips, whatever their own.
CLIP_RATE = Range("above 0 and at most 500", lambda value: 0 < value <= 500)
FRACTION = Range("in [0, 1)", lambda value: 0 <= value < 1)
# What the generators of all libraries take.
SEED = Range("from 0 to 4294967295", lambda value: 0 <= value < 2**32)
RATIO = Range("in (0, 1)", lambda value: 0 < value < 1)
SHARE = Range("above 0 and at most 1", lambda value: 0 < value <= 1)
MICRO_BATCH = Range(
    "-1 (whole batch), 0 (automatic) or a number of clips",
    lambda value: value >= -1,
)


def flag(name: str) -> str:
    """Returns the flag of an option: `crop_size` is `--crop-size`."""
    return "--" + name.replace("_", "-")


def require_ranges(section: Any) -> None:
    """Raises `UsageError` for the first value that is out of its range."""
    hints = typing.get_type_hints(type(section), include_extras=True)
    for name, hint in hints.items():
        value = getattr(section, name)
        for allowed in getattr(hint, "__metadata__", ()):
            if isinstance(allowed, Range) and not allowed.holds(value):
                raise UsageError(
                    f"{flag(name)} must be {allowed.text}. Received: {value}."
                )


VIEW_PIXELS = 2**30
"""Of all views of a video, which are in memory at once: 3 GiB."""


def view_pixels(options: Mapping[str, Any]) -> int:
    """Returns the number of pixels of all views of a video."""
    sizes = ("num_clips", "num_crops", "num_frames", "crop_size", "crop_size")
    return math.prod(options[name] for name in sizes)


def require_agreement(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` for the first options that contradict each other.

    Args:
        options: Mapping. Every value by option name.
    """
    _require_multiples(options)
    _require_few_layers(options)
    _require_widths(options)
    _require_few_pixels(options)
    _require_rest(options["val_fraction"], options["test_fraction"])
    if options["weights"] == "synthetic-actions":
        _require_synthetic(options)
    if options["backbone"] != "none":
        _require_features(options)
    else:
        _require_no_features(options)


def _require_multiples(options: Mapping[str, Any]) -> None:
    for name, unit in (
        ("crop_size", "patch_size"),
        ("num_frames", "tubelet_frames"),
        ("hidden_dim", "num_heads"),
        ("batch_size", "repeats"),
        ("num_frames", "backbone_stride"),
    ):
        value, divisor = options[name], options[unit]
        if value % divisor:
            near = max(divisor, round(value / divisor) * divisor)
            raise UsageError(
                f"{flag(name)} must be a multiple of {flag(unit)}. Received: "
                f"{value} and {divisor}; {near} would do."
            )


def _require_few_layers(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` for a model that is too deep to be built."""
    names = ("num_layers", "num_temporal_layers")
    layers = [options[name] for name in names]
    if sum(layers) > MOST_LAYERS:
        raise UsageError(
            f"{' plus '.join(map(flag, names))} must be at most "
            f"{MOST_LAYERS}. Received: {' and '.join(map(str, layers))}."
        )


def _require_widths(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` for a decoder, where 0 is a default, too wide."""
    for name in ("decoder_dim", "decoder_heads"):
        if options[name] > MOST_WIDTH:
            raise UsageError(
                f"{flag(name)} must be at most {MOST_WIDTH}. Received: "
                f"{options[name]}."
            )


def _require_few_pixels(options: Mapping[str, Any]) -> None:
    pixels = view_pixels(options)
    if pixels > VIEW_PIXELS:
        raise UsageError(
            "--num-clips times --num-crops times --num-frames times "
            f"--crop-size squared must be at most {VIEW_PIXELS}, for memory. "
            f"Received: {pixels}."
        )


def _require_rest(val_fraction: float, test_fraction: float) -> None:
    if val_fraction + test_fraction >= 1:
        raise UsageError(
            "--val-fraction and --test-fraction must leave some videos for "
            f"training. Received: {val_fraction} and {test_fraction}."
        )


def _require_synthetic(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` if the pretrained weights don't fit a model."""
    for name, wanted in _SYNTHETIC.items():
        value = options[name]
        if value != wanted:
            raise UsageError(
                f"--weights synthetic-actions needs {flag(name)} {wanted}. "
                f"Received: {value}. --weights random fits any model."
            )


# The stated size, on gradients, which synthetic and real people share.
_SYNTHETIC = {
    "model": "vit", "stem": "gradients", "attention": "joint",
    "pooling": "mean", "patch_size": 16, "tubelet_frames": 2,
    "hidden_dim": 48, "num_layers": 4, "num_heads": 4, "mlp_dim": 192,
    "backbone": "none",
}  # fmt: skip


def _require_no_features(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` if an option is for a backbone that isn't named."""
    for name, unset in (
        ("unfreeze", 0),
        ("backbone_weights", None),
        ("backbone_stride", 1),
        ("optical_flow", False),
    ):
        if options[name] != unset:
            raise UsageError(f"{flag(name)} needs --backbone NAME.")


def _require_features(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` if an option is for a transformer on pixels."""
    for name, wanted in (("model", "vit"), ("stem", "pixels")):
        if options[name] != wanted:
            raise UsageError(
                f"--backbone needs {flag(name)} {wanted}: the transformer "
                f"reads its features. Received: {options[name]}."
            )
    for name, is_on, least in (
        (
            "--feature-pooling motion",
            options["feature_pooling"] == "motion",
            2 * options["backbone_stride"],
        ),
        ("--optical-flow", options["optical_flow"], _FRAMES_OF_FLOW),
    ):
        if is_on and options["num_frames"] < least:
            raise UsageError(
                f"{name} needs --num-frames {least} or more. Received: "
                f"{options['num_frames']}."
            )
    if not options["unfreeze"]:
        _require_frozen(options)


def _require_frozen(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` for what would be without effect on features."""
    augment = f"--augment {options['augment']}"
    for is_wrong, what in (
        (options["cutmix"], "--cutmix changes pixels"),
        (options["augment"] in _OF_PIXELS, f"{augment} changes pixels"),
        (
            options["speed_jitter"],
            "--speed-jitter changes the frames of a clip",
        ),
    ):
        if is_wrong:
            raise UsageError(
                f"{what}, which a frozen backbone reads only once. Use "
                "--augment light and --mixup, or train its last blocks, too, "
                "with --unfreeze."
            )
    if options["micro_batch_size"] > 0:
        raise UsageError(
            "--micro-batch-size is for pixels; the features of a batch are "
            "small and are read at once. Remove it."
        )


# Three steps, for an autocorrelation of lag 2.
_FRAMES_OF_FLOW = 4
_OF_PIXELS = ("strong", "keras-cv")
