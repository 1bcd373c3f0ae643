"""Attention rollout: how much each tubelet contributes to a prediction.

Shape letters: B clips, T tubelets in time, S in space, N tokens, D hidden.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from har_keras.errors import UsageError
from har_keras.inference.distance import keras_model_of
from har_keras.video.ffmpeg import Frames

_GRAY_BRIGHTNESS = 0.75
_MAX_OPACITY = 0.75
_SATURATION_PERCENTILE = 98


def attention_rollout(model: Any, clips: Frames) -> np.ndarray:
    """Returns the contribution of each tubelet to the pooled representation.

    The attention matrix of a layer is averaged over heads and with the
    identity, for the residual connection. The product over layers gives the
    contribution of each tubelet to each output token; these are pooled as the
    head does, by the mean or the class token.

    Of a model on pooled features, the contribution of a moment is spread over
    its picture as the pooling weighs its places.

    Args:
        model: `VideoViT`, with any type of space-time attention, or a
            `BackboneClassifier`.
        clips: `uint8` array of shape `(B, num_frames, H, W, 3)`.

    Returns:
        `float64` array of shape `(B, T, H', W')`, the grid of tubelets; each
        clip's sums to 1.

    Raises:
        UsageError: If the model has no attention.

    Reference:
        - [Abnar and Zuidema, 2020](https://arxiv.org/abs/2005.00928), section
          3.
    """
    model = keras_model_of(model)
    if not has_attention(model):
        raise UsageError(
            "Attention rollout needs the model 'vit'. Received: "
            f"{type(model).__name__}."
        )
    return np.concatenate([_rollout(model, clip[None]) for clip in clips])


def has_attention(model: Any) -> bool:
    """Returns whether a model is a transformer that is at hand."""
    from har_keras.model.vit import VideoViT

    model = keras_model_of(model)
    return isinstance(getattr(model, "reader", model), VideoViT)


def _rollout(model: Any, clip: Frames) -> np.ndarray:
    """Returns the contributions to one clip, `(1, T, H', W')`."""
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        found = _contributions(model, _weights(model, clip))
        return found.reshape(1, *model.grid)
    reader = model.reader
    features, maps = model.extractor.with_maps(clip[0])
    weights = _weights(reader, features)
    moments = _contributions(reader, weights).reshape(1, *reader.grid)
    return moments * backbone.places_of(maps)


def _contributions(model: Any, weights: list[np.ndarray]) -> np.ndarray:
    """Returns the contribution of each tubelet of one clip, `(TS,)`."""
    first = int(model.class_token is not None)
    if model.attention == "factorised":
        spatial = weights[: model.num_layers]  # each (T, [1 +] S, [1 +] S)
        temporal = weights[model.num_layers :]  # each (1, [1 +] T, [1 +] T)
        frames = pooled(rolled_out(temporal), first)  # (1, T)
        within = pooled(rolled_out(spatial), first)  # (T, S)
        return np.asarray(frames[0][:, None] * within).ravel()
    if model.attention == "divided":
        weights = [
            mixed
            for time, space in zip(weights[::2], weights[1::2], strict=True)
            for mixed in (along_time(time, first), within_frames(space, first))
        ]
    return np.asarray(pooled(rolled_out(weights), first)[0])


def rolled_out(weights: list[np.ndarray]) -> np.ndarray:
    """Returns the contribution of each input token to each output token.

    Args:
        weights: List of arrays of shape `(B, N, N)`, one per layer, whose rows
            sum to 1.

    Returns:
        Array of shape `(B, N, N)`, whose rows sum to 1.

    Example:

    >>> rolled_out([np.full((1, 2, 2), 0.5)] * 2)[0].tolist()
    [[0.625, 0.375], [0.375, 0.625]]
    """
    product = np.eye(weights[0].shape[-1])[None]
    for layer in weights:
        product = (layer @ product + product) / 2
    return product


def pooled(rollout: np.ndarray, first: int) -> np.ndarray:
    """Returns the contribution of each token to the pooled representation.

    Args:
        rollout: Array of shape `(B, N, N)`, whose rows sum to 1.
        first: int. 1 if the first token is a class token, which is then the
            pooled representation; 0 if it is the mean of all tokens.

    Returns:
        Array of shape `(B, N - first)`, whose rows sum to 1.
    """
    row = rollout[:, 0, 1:] if first else rollout.mean(1)
    return np.asarray(row / row.sum(-1, keepdims=True))


def along_time(weights: np.ndarray, first: int) -> np.ndarray:
    """Expands temporal attention to a matrix over all tokens.

    Args:
        weights: Array of shape `(S, T, T)`.
        first: int. 1 if there is a class token, which is left unchanged.

    Returns:
        Array of shape `(1, N, N)`, whose rows sum to 1.
    """
    places, times = weights.shape[:2]
    number = first + times * places
    whole = np.eye(number)
    for place in range(places):
        tokens = first + place + places * np.arange(times)
        whole[np.ix_(tokens, tokens)] = weights[place]
    return whole[None]


def within_frames(weights: np.ndarray, first: int) -> np.ndarray:
    """Expands spatial attention to a matrix over all tokens.

    Args:
        weights: Array of shape `(T, first + S, first + S)`.
        first: int. 1 if there is a class token, which attends to each frame
            separately and is averaged.

    Returns:
        Array of shape `(1, N, N)`, whose rows sum to 1.
    """
    times, tokens = weights.shape[:2]
    places = tokens - first
    whole = np.zeros((first + times * places,) * 2)
    for time in range(times):
        own = first + time * places + np.arange(places)
        whole[np.ix_(own, own)] = weights[time, first:, first:]
        if first:
            whole[own, 0] = weights[time, 1:, 0]
            whole[0, own] = weights[time, 0, 1:] / times
    if first:
        whole[0, 0] = weights[:, 0, 0].mean()
    return whole[None]


def _weights(model: Any, clips: Frames) -> list[np.ndarray]:
    """Returns the weights of each attention layer, in order of execution."""
    with _recorded(model) as calls:
        model.features(clips, training=False)
    return [attention_weights(layer, x) for layer, x in calls]


@contextlib.contextmanager
def _recorded(model: Any) -> Iterator[list[tuple[Any, Any]]]:
    """Yields a list that records attention layers and their inputs."""
    from har_keras.model.attention import SelfAttention

    calls: list[tuple[Any, Any]] = []
    watched = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, SelfAttention)
    ]

    def watch(layer: Any) -> None:
        original = layer.call

        def call(x: Any, training: bool | None = None) -> Any:
            calls.append((layer, x))
            return original(x, training=training)

        object.__setattr__(layer, "call", call)

    for layer in watched:
        watch(layer)
    try:
        yield calls
    finally:
        for layer in watched:
            object.__delattr__(layer, "call")


def attention_weights(layer: Any, x: Any) -> np.ndarray:
    """Returns the attention matrix of a layer, averaged over heads.

    Args:
        layer: `SelfAttention`.
        x: Tensor of shape `(B, N, D)`. Input of the layer.

    Returns:
        `float64` array of shape `(B, N, N)`, queries by keys; rows sum to 1.
    """
    query, key, _ = heads(layer, x)
    scores = query @ key.swapaxes(-1, -2) / query.shape[-1] ** 0.5
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray((scores / scores.sum(-1, keepdims=True)).mean(1))


def heads(layer: Any, x: Any) -> np.ndarray:
    """Returns queries, keys and values, `float64` `(3, B, h, N, d)`."""
    from keras import ops

    mixed = ops.cast(layer.query_key_value(x), "float32")
    found = np.asarray(ops.convert_to_numpy(mixed), np.float64)
    if not layer.key_bias:
        query, value = np.asarray(
            ops.convert_to_numpy(layer.query_value_bias), np.float64
        )
        found += np.concatenate([query, np.zeros_like(query), value])
    batch, tokens, width = found.shape
    shape = (batch, tokens, 3, layer.num_heads, width // 3 // layer.num_heads)
    return found.reshape(shape).transpose(2, 0, 3, 1, 4)


def overlay_heatmap(clip: Frames, attention: np.ndarray) -> Frames:
    """Overlays a clip in grayscale with an attention heatmap.

    Args:
        clip: `uint8` array of shape `(num_frames, H, W, 3)`.
        attention: float array of shape `(T, H', W')`, from
            `attention_rollout`.

    Returns:
        `uint8` array of the clip's shape. The heatmap is scaled from the
        minimum to the 98th percentile over the whole clip.
    """
    height, width = clip.shape[1:3]
    depth = len(clip) // len(attention)
    low = float(attention.min())
    high = float(np.percentile(attention, _SATURATION_PERCENTILE))
    high = max(high, low + 1e-9)
    shown = np.empty_like(clip)
    for index, frame in enumerate(clip):
        heat = (attention[index // depth] - low) / (high - low)
        heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC)
        heat = np.clip(heat, 0, 1)
        colors = cv2.applyColorMap(
            (255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO
        )[..., ::-1]
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)[..., None]
        opacity = _MAX_OPACITY * heat[..., None]
        shown[index] = (
            _GRAY_BRIGHTNESS * gray * (1 - opacity) + colors * opacity
        ).round()
    return shown
