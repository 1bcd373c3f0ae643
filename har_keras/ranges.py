"""What values options can have, said in one sentence where one can't."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from har_keras.errors import UsageError

if TYPE_CHECKING:
    from har_keras.config import Config


def check_ranges(config: Config) -> None:
    """Raises `UsageError` for the first value that can't work."""
    clip, model, training = config.clip, config.model, config.training
    for name in _AT_LEAST_ONE:
        _demand(name, config, lambda value: value >= 1, "at least 1")
    for name in _FRACTIONS:
        _demand(name, config, lambda value: 0 <= value < 1, "in [0, 1)")
    for name in _POSITIVE:
        _demand(name, config, lambda value: value > 0, "above 0")
    for name in _NOT_NEGATIVE:
        _demand(name, config, lambda value: value >= 0, "0 or more")
    if not 0 < training.layer_decay <= 1:
        raise UsageError(
            "--layer-decay must be above 0 and at most 1. Received: "
            f"{training.layer_decay}."
        )
    if training.micro_batch_size < -1:
        raise UsageError(
            "--micro-batch-size must be -1 (whole batch), 0 (automatic) or a "
            f"number of clips. Received: {training.micro_batch_size}."
        )
    _demand_multiple(
        "crop_size", clip.crop_size, "patch_size", model.patch_size
    )
    _demand_multiple(
        "num_frames", clip.num_frames, "tubelet_frames", model.tubelet_frames
    )
    _demand_multiple(
        "hidden_dim", model.hidden_dim, "num_heads", model.num_heads
    )
    _demand_multiple(
        "batch_size", training.batch_size, "repeats", training.repeats
    )
    if config.split.val_fraction + config.split.test_fraction >= 1:
        raise UsageError(
            "--val-fraction and --test-fraction must leave some videos for "
            f"training. Received: {config.split.val_fraction} and "
            f"{config.split.test_fraction}."
        )
    if model.start != "random" and not (model.weights or model.init):
        _demand_drawn(config)


def _demand_drawn(config: Config) -> None:
    """Raises `UsageError` if the weights of drawn actions don't fit a model."""
    for name, wanted in _DRAWN.items():
        value = getattr(config.model, name)
        if value != wanted:
            raise UsageError(
                f"--start drawn-actions is for {flag(name)} {wanted}. "
                f"Received: {value}. --start random goes with any model."
            )


# The stated size, and tokens of gradients, which drawn and real people share.
_DRAWN = {
    "model": "vit", "stem": "gradients", "attention": "joint",
    "pooling": "mean", "patch_size": 16, "tubelet_frames": 2,
    "hidden_dim": 48, "num_layers": 4, "num_heads": 4, "mlp_dim": 192,
}  # fmt: skip
_AT_LEAST_ONE = (
    "num_frames", "crop_size", "patch_size", "tubelet_frames", "hidden_dim",
    "num_layers", "num_heads", "mlp_dim", "batch_size", "epochs", "num_clips",
    "num_temporal_layers", "repeats", "decoder_layers", "join_seconds",
)  # fmt: skip
_FRACTIONS = (
    "dropout_rate", "attention_dropout_rate", "drop_path_rate",
    "label_smoothing", "speed_jitter", "mask_ratio",
    "val_fraction", "test_fraction",
)  # fmt: skip
_POSITIVE = ("fps", "learning_rate", "timeout_seconds")
_NOT_NEGATIVE = (
    "weight_decay", "warmup_epochs", "clips_per_video", "seed", "split_seed",
    "mixup", "cutmix", "workers", "checkpoint_minutes", "decoder_dim",
    "decoder_heads", "hosts",
)  # fmt: skip


def flag(name: str) -> str:
    """Returns the flag of an option: `crop_size` is `--crop-size`."""
    return "--" + name.replace("_", "-")


def _demand(name: str, config: Config, holds: Any, wanted: str) -> None:
    value = config.flat()[name]
    if not holds(value):
        raise UsageError(f"{flag(name)} must be {wanted}. Received: {value}.")


def _demand_multiple(name: str, value: int, unit: str, divisor: int) -> None:
    if value % divisor:
        near = max(divisor, round(value / divisor) * divisor)
        raise UsageError(
            f"{flag(name)} must be a multiple of {flag(unit)}. Received: "
            f"{value} and {divisor}; {near} would do."
        )
