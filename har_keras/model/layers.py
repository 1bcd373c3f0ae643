"""The parts of a Vision Transformer on clips.

Shape letters: B batch, T frames, H W pixels, C channels, N tokens, D hidden,
h heads, d width of a head.
"""

import math
from typing import Any

import keras
from keras import layers, ops

# A tensor of whichever backend runs; the three have no type in common.
Tensor = Any
Shape = tuple[int | None, ...]

EPSILON = 1e-6  # of every layer norm, as in the Vision Transformer's code
SHORT_SEQUENCE = 512  # tokens; see `SelfAttention`


@keras.saving.register_keras_serializable(package="har_keras")
class TubeletEmbedding(layers.Layer):
    """Turns every tubelet of uint8 pixels into one token.

    A tubelet is `tubelet_frames` frames deep and `patch_size` pixels high and
    wide; tubelets don't overlap. What a `Conv3D` with stride = kernel computes
    is done by a reshape and one matrix product, more than twice as fast on a
    CPU; the kernel has the shape of the `Conv3D`'s, so weights move between
    the two as they are. Pixels of 0 to 255 are scaled to [-1, 1] inside the
    product, so that only bytes are moved before it.

    Args:
        hidden_dim: int. Width of a token, D.
        patch_size: int. Height and width of a tubelet in pixels.
        tubelet_frames: int. Depth of a tubelet in frames.
        seed: int or None. Seed of the weights.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_frames, height, width, channels)`, whole tubelets.

    Output shape:
        `(batch_size, num_tokens, hidden_dim)`, time slowest, then rows.

    Example:

    >>> clips = ops.zeros((2, 4, 32, 48, 3), "uint8")
    >>> tuple(TubeletEmbedding(hidden_dim=8, patch_size=16)(clips).shape)
    (2, 12, 8)

    Reference:
        - [Arnab et al., 2021](https://arxiv.org/abs/2103.15691), section 3.2.
    """

    def __init__(
        self,
        hidden_dim: int,
        patch_size: int = 16,
        tubelet_frames: int = 2,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.patch_size = patch_size
        self.tubelet_frames = tubelet_frames
        self.seed = seed

    def build(self, input_shape: Shape) -> None:
        self.grid(input_shape)
        depth, side = self.tubelet_frames, self.patch_size
        self.kernel = self.add_weight(
            name="kernel",
            shape=(depth, side, side, input_shape[-1], self.hidden_dim),
            initializer=keras.initializers.LecunNormal(self.seed),
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.hidden_dim,), initializer="zeros"
        )

    def grid(self, input_shape: Shape) -> tuple[int, int, int]:
        """Returns the number of tubelets in time, in height and in width.

        Raises:
            ValueError: If the clips don't divide into whole tubelets.
        """
        sizes = input_shape[1:4]
        units = (self.tubelet_frames, self.patch_size, self.patch_size)
        if any(n is None or n % k for n, k in zip(sizes, units, strict=True)):
            raise ValueError(
                "Clips must divide into tubelets of "
                f"{units} (frames, height, width). Received: {input_shape=}."
            )
        counts = [int(n or 0) // k for n, k in zip(sizes, units, strict=True)]
        return counts[0], counts[1], counts[2]

    def call(self, clips: Tensor) -> Tensor:
        time, rows, columns = self.grid(clips.shape)
        depth, side = self.tubelet_frames, self.patch_size
        channels = clips.shape[-1]
        # Batch and time stay merged: LiteRT transposes no more than six axes.
        x = ops.reshape(
            clips, (-1, depth, rows, side, columns, side * channels)
        )
        x = ops.transpose(x, (0, 2, 4, 1, 3, 5))  # (BT/t, H/p, W/p, t, p, pC)
        pixels = depth * side * side * channels
        x = ops.reshape(x, (-1, time * rows * columns, pixels))  # (B, N, tppC)
        x = ops.cast(x, self.compute_dtype)
        kernel = ops.reshape(self.kernel, (pixels, self.hidden_dim)) / 127.5
        # (x / 127.5 - 1) K + b = x (K / 127.5) + (b - 127.5 sum(K / 127.5))
        shift = ops.sum(ops.cast(kernel, "float32"), axis=0) * 127.5
        bias = ops.cast(self.bias, "float32") - shift
        return ops.matmul(x, kernel) + ops.cast(bias, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (
            input_shape[0],
            math.prod(self.grid(input_shape)),
            self.hidden_dim,
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "patch_size": self.patch_size,
            "tubelet_frames": self.tubelet_frames,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="har_keras")
class ClassToken(layers.Layer):
    """Puts one learned token before the others.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        `(batch_size, num_tokens + 1, hidden_dim)`
    """

    def build(self, input_shape: Shape) -> None:
        self.token = self.add_weight(
            name="class_token", shape=(input_shape[-1],), initializer="zeros"
        )

    def call(self, x: Tensor) -> Tensor:
        first = ops.zeros_like(x[:, :1]) + ops.cast(self.token, x.dtype)
        return ops.concatenate([first, x], axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, tokens, hidden = input_shape
        return batch, tokens if tokens is None else tokens + 1, hidden


@keras.saving.register_keras_serializable(package="har_keras")
class PositionEmbedding(layers.Layer):
    """Adds a learned vector to every token.

    Args:
        seed: int or None. Seed of the weights.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        As the input.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, input_shape: Shape) -> None:
        self.positions = self.add_weight(
            name="positions",
            shape=input_shape[1:],
            initializer=keras.initializers.TruncatedNormal(0, 0.02, self.seed),
        )

    def call(self, x: Tensor) -> Tensor:
        return x + ops.cast(self.positions, x.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"seed": self.seed}


@keras.saving.register_keras_serializable(package="har_keras")
class SelfAttention(layers.Layer):
    """Lets every token read all the others, in several heads.

    Queries, keys and values come from one product. Scores have three layouts
    with the same answer, and the fastest one is taken: PyTorch's own fused
    kernel there; else, up to `SHORT_SEQUENCE` tokens, keys by queries with the
    division left to the end, so that every product on a CPU has a long last
    axis; else queries by keys. Softmax is computed in float32.

    Args:
        num_heads: int. Heads, h; a divisor of the tokens' width.
        dropout_rate: float. Share of scores dropped in training, in [0, 1).
        seed: int or None. Seed of the weights and of dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        As the input.

    Reference:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section
          3.2.
    """

    def __init__(
        self,
        num_heads: int,
        dropout_rate: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout_rate = dropout_rate
        self.seed = seed
        self.dropout = layers.Dropout(
            dropout_rate, seed=seed, name="dropout", dtype=self.dtype_policy
        )

    def build(self, input_shape: Shape) -> None:
        hidden = _width(input_shape)
        if hidden % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the width of the tokens. Received: "
                f"num_heads={self.num_heads}, {input_shape=}."
            )
        # Each of the three products is initialised as a layer of its own.
        limit = math.sqrt(6 / (hidden + hidden))
        self.query_key_value = layers.Dense(
            3 * hidden,
            kernel_initializer=keras.initializers.RandomUniform(
                -limit, limit, self.seed
            ),
            name="query_key_value",
            dtype=self.dtype_policy,
        )
        self.query_key_value.build(input_shape)
        self.output_dense = layers.Dense(
            hidden,
            kernel_initializer=keras.initializers.GlorotUniform(
                _after(self.seed)
            ),
            name="output",
            dtype=self.dtype_policy,
        )
        self.output_dense.build(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        tokens, hidden = x.shape[1:]
        width = hidden // self.num_heads
        x = self.query_key_value(x)  # (B, N, 3D)
        x = ops.reshape(x, (-1, tokens, 3, self.num_heads, width))
        dropping = bool(training) and self.dropout_rate > 0
        if keras.config.backend() == "torch" and not dropping:
            x = ops.dot_product_attention(x[:, :, 0], x[:, :, 1], x[:, :, 2])
        elif tokens <= SHORT_SEQUENCE:
            x = self.keys_by_queries(x, training)
        else:
            x = self.queries_by_keys(x, training)
        return self.output_dense(ops.reshape(x, (-1, tokens, hidden)))

    def keys_by_queries(self, x: Tensor, training: bool | None) -> Tensor:
        """Returns attended values, for queries, keys and values in one.

        Args:
            x: Tensor of shape `(B, N, 3, h, d)`.
            training: bool or None. Whether scores are dropped.

        Returns:
            Tensor of shape `(B, N, h, d)`.
        """
        x = ops.transpose(x, (2, 0, 3, 4, 1))  # (3, B, h, d, N)
        query, key, value = x[0] * x.shape[3] ** -0.5, x[1], x[2]
        scores = ops.matmul(ops.swapaxes(key, -1, -2), query)  # (B, h, N, N)
        scores = ops.cast(scores, "float32")
        largest = ops.stop_gradient(ops.max(scores, axis=-2, keepdims=True))
        weights = ops.exp(scores - largest)
        total = ops.cast(ops.sum(weights, axis=-2, keepdims=True), x.dtype)
        weights = self.dropout(ops.cast(weights, x.dtype), training=training)
        x = ops.matmul(value, weights) / total  # (B, h, d, N)
        return ops.transpose(x, (0, 3, 1, 2))

    def queries_by_keys(self, x: Tensor, training: bool | None) -> Tensor:
        """Returns what `keys_by_queries` does, in the usual order."""
        x = ops.transpose(x, (2, 0, 3, 1, 4))  # (3, B, h, N, d)
        query, key, value = x[0] * x.shape[4] ** -0.5, x[1], x[2]
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2))  # (B, h, N, N)
        weights = ops.softmax(ops.cast(scores, "float32"), axis=-1)
        weights = self.dropout(ops.cast(weights, x.dtype), training=training)
        x = ops.matmul(weights, value)  # (B, h, N, d)
        return ops.transpose(x, (0, 2, 1, 3))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_heads": self.num_heads,
            "dropout_rate": self.dropout_rate,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="har_keras")
class EncoderBlock(layers.Layer):
    """One layer of the encoder: attention, then an MLP, each added back.

    Both read their input through a layer norm (pre-norm).

    Args:
        num_heads: int. Attention heads.
        mlp_dim: int. Width of the hidden layer of the MLP.
        dropout_rate: float. Dropout after attention and in the MLP, in [0, 1).
        attention_dropout_rate: float. Dropout on attention weights.
        seed: int or None. Seed of the weights and of dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        As the input.

    Reference:
        - [Dosovitskiy et al., 2020](https://arxiv.org/abs/2010.11929),
          section 3.1, equations 2 and 3.
    """

    def __init__(
        self,
        num_heads: int,
        mlp_dim: int,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.dropout_rate = dropout_rate
        self.attention_dropout_rate = attention_dropout_rate
        self.seed = seed
        self.attention_norm = layers.LayerNormalization(
            epsilon=EPSILON, name="attention_norm", dtype=self.dtype_policy
        )
        self.attention = SelfAttention(
            num_heads,
            attention_dropout_rate,
            seed,
            name="attention",
            dtype=self.dtype_policy,
        )
        self.mlp_norm = layers.LayerNormalization(
            epsilon=EPSILON, name="mlp_norm", dtype=self.dtype_policy
        )
        self.mlp_hidden = layers.Dense(
            mlp_dim,
            kernel_initializer=keras.initializers.GlorotUniform(
                _after(seed, 2)
            ),
            name="mlp_hidden",
            dtype=self.dtype_policy,
        )
        self.dropout = layers.Dropout(
            dropout_rate, seed=_after(seed, 4), dtype=self.dtype_policy
        )

    def build(self, input_shape: Shape) -> None:
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape)
        self.mlp_norm.build(input_shape)
        self.mlp_hidden.build(input_shape)
        self.mlp_output = layers.Dense(
            _width(input_shape),
            kernel_initializer=keras.initializers.GlorotUniform(
                _after(self.seed, 3)
            ),
            name="mlp_output",
            dtype=self.dtype_policy,
        )
        self.mlp_output.build((*input_shape[:-1], self.mlp_dim))

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        y = self.attention(self.attention_norm(x), training=training)
        x = x + self.dropout(y, training=training)
        y = gelu(self.mlp_hidden(self.mlp_norm(x)))
        y = self.mlp_output(self.dropout(y, training=training))
        return x + self.dropout(y, training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "dropout_rate": self.dropout_rate,
            "attention_dropout_rate": self.attention_dropout_rate,
            "seed": self.seed,
        }


def gelu(x: Tensor) -> Tensor:
    """Returns the exact GELU of a tensor.

    Written out because `keras.ops.gelu` becomes `Erfc` in an ONNX file made
    from TensorFlow, which ONNX Runtime refuses.

    Reference:
        - [Hendrycks & Gimpel, 2016](https://arxiv.org/abs/1606.08415),
          section 2.
    """
    return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))


def _width(input_shape: Shape) -> int:
    width = input_shape[-1]
    if width is None:
        raise ValueError(
            f"The width of the tokens must be known. Received: {input_shape=}."
        )
    return width


def _after(seed: int | None, steps: int = 1) -> int | None:
    """Returns a seed of its own for another part of the same layer."""
    return None if seed is None else seed + steps
