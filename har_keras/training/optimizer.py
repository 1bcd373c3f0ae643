"""AdamW with its learning rate schedule and layer-wise decay."""

import re
from collections.abc import Callable
from typing import Any

import keras

from har_keras.config import TrainingConfig

Factor = Callable[[Any], float]

# Names of variables that are not kernels: biases, scales, position embeddings
# and learned tokens.
NOT_DECAYED = ("bias", "gamma", "beta", "positions", "token")


def build_optimizer(
    training: TrainingConfig,
    steps_per_epoch: int,
    factor: Factor | None = None,
) -> keras.optimizers.Optimizer:
    """Returns AdamW with its learning rate schedule.

    Biases, layer norms, position embeddings and the class token have no weight
    decay: it would not regularize them.

    Args:
        training: TrainingConfig. Rate, decay, schedule and length.
        steps_per_epoch: int. Optimizer steps in one epoch, at least 1.
        factor: Callable or None. Returns the factor of the learning rate of a
            variable. Defaults to 1 for all.

    Returns:
        An optimizer, not built yet.

    Example:

    >>> optimizer = build_optimizer(TrainingConfig(), steps_per_epoch=10)
    >>> round(float(optimizer.learning_rate), 6)
    0.001

    Reference:
        - [Loshchilov & Hutter, 2017](https://arxiv.org/abs/1711.05101).
    """
    rate = learning_rate_schedule(training, steps_per_epoch)
    options = {"weight_decay": training.weight_decay}
    if training.layer_decay == 1 and factor is None:
        optimizer = keras.optimizers.AdamW(rate, **options)
    else:
        optimizer = LayerwiseAdamW(
            training.layer_decay, rate, factor=factor, **options
        )
    optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    return optimizer


@keras.saving.register_keras_serializable(package="har_keras")
class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW with layer-wise learning rate decay.

    The head has the full rate, the last block `layer_decay` times that, and so
    on down to the embedding: in fine-tuning, lower layers are more general and
    need smaller updates. Weight decay is not scaled.

    Args:
        layer_decay: float. Ratio of the rates of a layer and the one above.
        *args: Arguments of `keras.optimizers.AdamW`.
        factor: Callable or None. Returns the factor of the rate of a variable;
            it is not saved.
        **kwargs: Arguments of `keras.optimizers.AdamW`.

    Reference:
        - [Bao et al., 2021](https://arxiv.org/abs/2106.08254), appendix H
          (layer-wise learning rate decay).
    """

    def __init__(
        self,
        layer_decay: float,
        *args: Any,
        factor: Factor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.layer_decay = layer_decay
        self.factor = factor or (lambda variable: 1.0)

    def build(self, variables: list[Any]) -> None:
        super().build(variables)
        depths = [depth_of(variable.path) for variable in variables]
        last = 1 + max((d for d in depths if d is not None), default=0)
        self._scales = [
            self.layer_decay ** (last - (last if depth is None else depth))
            * self.factor(variable)
            for depth, variable in zip(depths, variables, strict=True)
        ]

    def update_step(self, gradient: Any, variable: Any, rate: Any) -> None:
        scale = self._scales[self._get_variable_index(variable)]
        super().update_step(gradient, variable, rate * scale)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"layer_decay": self.layer_decay}


def depth_of(path: str) -> int | None:
    """Returns the depth of a variable's layer.

    Args:
        path: str. The variable's path, with the name of its layer.

    Returns:
        0 for the embeddings, 1 for the first block and so on; None for layers
        after all blocks.

    Example:

    >>> depth_of("vit/embedding/kernel"), depth_of("vit/block_2/mlp/kernel")
    (0, 3)
    >>> depth_of("vit/head/kernel") is None
    True
    """
    block = re.search(r"(?:^|/)block_(\d+)/", path)
    if block:
        return 1 + int(block[1])
    first = re.search(r"(?:^|/)(embedding|positions|class_token)/", path)
    return 0 if first else None


def learning_rate_schedule(
    training: TrainingConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate by step.

    Args:
        training: TrainingConfig. `learning_rate`, `schedule`, `warmup_epochs`
            and `epochs` are used.
        steps_per_epoch: int. Optimizer steps in one epoch, at least 1.

    Returns:
        A float if the rate is constant, so that a callback may set it; else a
        schedule: linear warm-up from zero, then constant or half a cosine to
        zero at the last step.

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
