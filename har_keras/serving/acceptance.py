"""The rule of acceptance: which answer is sure enough, and else no class is.

Here, and nowhere else, for numpy and for the graph of an export alike.
"""

from types import ModuleType
from typing import Any

import numpy as np


def apply_temperature(
    probabilities: Any, temperature: float, ops: Any = np
) -> Any:
    """Rescales probabilities by a temperature.

    Args:
        probabilities: float array or tensor of shape `(..., K)`.
        temperature: float. Above 0.
        ops: Module. `numpy` or `keras.ops`. Defaults to `numpy`.

    Returns:
        An array of the same shape; the ranking of classes is kept.

    Example:

    >>> apply_temperature(np.array([0.8, 0.2]), 2.0).round(3)
    array([0.667, 0.333])
    """
    scores = ops.log(ops.maximum(probabilities, 1e-12)) / temperature
    scores = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
    return scores / ops.sum(scores, axis=-1, keepdims=True)


def accepted(
    probabilities: Any,
    temperature: float,
    threshold: float | None,
    ops: ModuleType = np,
) -> Any:
    """Returns which answers are accepted; the others are "none of these".

    Args:
        probabilities: float array or tensor of shape `(..., K)`, as a model
            gives them.
        temperature: float. The calibration temperature.
        threshold: float or None. The smallest calibrated probability of an
            accepted class; None accepts everything.
        ops: Module. `numpy` or `keras.ops`. Defaults to `numpy`.

    Returns:
        A bool array or tensor of shape `(...)`.

    Example:

    >>> accepted(np.array([[0.8, 0.2], [0.6, 0.4]]), 1.0, 0.7)
    array([ True, False])
    """
    calibrated = apply_temperature(probabilities, temperature, ops)
    return ops.max(calibrated, axis=-1) >= (threshold or 0.0)
