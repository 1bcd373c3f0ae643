"""AdamW as the options ask for it."""

import keras

from har_keras.config import TrainingConfig

# Names of the variables that are no weights of a product: offsets, scales,
# and what is learned for a place or in place of one.
NOT_DECAYED = ("bias", "gamma", "beta", "positions", "token")


def build_optimizer(
    training: TrainingConfig, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """Returns AdamW with its learning rate schedule.

    Weight decay leaves out biases, layer norms, position embeddings and the
    class token: pulling those to zero changes what the model can say, not how
    complex it is.

    Args:
        training: TrainingConfig. Rate, decay, schedule and length.
        steps_per_epoch: int. Optimizer steps in one epoch, at least 1.

    Returns:
        An optimizer, not built yet.

    Example:

    >>> optimizer = build_optimizer(TrainingConfig(), steps_per_epoch=10)
    >>> round(float(optimizer.learning_rate), 6)
    0.001

    Reference:
        - [Loshchilov & Hutter, 2017](https://arxiv.org/abs/1711.05101).
    """
    optimizer = keras.optimizers.AdamW(
        learning_rate_schedule(training, steps_per_epoch),
        weight_decay=training.weight_decay,
    )
    optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    return optimizer


def learning_rate_schedule(
    training: TrainingConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate by step.

    Args:
        training: TrainingConfig. `learning_rate`, `schedule`, `warmup_epochs`
            and `epochs` are read.
        steps_per_epoch: int. Optimizer steps in one epoch, at least 1.

    Returns:
        A number where the rate never changes, so that a callback may set it;
        else a schedule: from zero in a straight line, then kept or along half
        a cosine to zero at the last step.

    Reference:
        - [Goyal et al., 2017](https://arxiv.org/abs/1706.02677), section 2.2
          (warm-up).
        - [Loshchilov & Hutter, 2016](https://arxiv.org/abs/1608.03983),
          equation 5 (cosine).
    """
    steps = training.epochs * steps_per_epoch
    warmup_steps = round(training.warmup_epochs * steps_per_epoch)
    if training.schedule == "constant" and warmup_steps == 0:
        return training.learning_rate
    floor = 1.0 if training.schedule == "constant" else 0.0
    decay_steps = max(1, steps - warmup_steps)
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(
            training.learning_rate, decay_steps, alpha=floor
        )
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        decay_steps,
        alpha=floor,
        warmup_target=training.learning_rate,
        warmup_steps=warmup_steps,
    )
