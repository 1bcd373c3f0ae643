"""A masked autoencoder of clips (VideoMAE), for pre-training without labels.

Shape letters: B batch, N tokens, V visible tokens, M masked tokens, D hidden,
S positions in space, T tubelets in time.
"""

from typing import Any

import keras
from keras import layers, ops

from har_keras.model.blocks import EncoderBlock
from har_keras.model.layers import Shape, Tensor, seed_after, sinusoids
from har_keras.model.options import require_at_most
from har_keras.model.vit import VideoViT
from har_keras.ranges import MOST_LAYERS

_EPSILON = 1e-6  # of pixels in [0, 1], as published


@keras.saving.register_keras_serializable(package="har_keras")
class MaskedAutoencoder(keras.Model):
    """Reconstructs the masked tubelets of a clip from the visible ones.

    The same positions are masked in all frames (tube masking), since adjacent
    frames would reveal them. The encoder processes only the visible tubelets,
    which makes it cheap; a small decoder then processes all positions. The
    targets are the pixels of each masked tubelet, normalized to mean 0 and
    variance 1 per color channel, so that dark regions count as much.

    Args:
        encoder: VideoViT with `attention="joint"` and no class token. The
            model to pre-train.
        mask_ratio: float. Fraction of positions that are masked, in (0, 1).
        decoder_dim: int. Width of the decoder's tokens.
        decoder_layers: int. Layers of the decoder.
        decoder_heads: int. Attention heads of the decoder.
        seed: int or None. Seed of the decoder's weights.
        **kwargs: Arguments of `keras.Model`.

    Input shape:
        A pair: clips, uint8 `(batch_size, num_frames, crop_size, crop_size,
        3)`; and a permutation of their positions, int32 `(batch_size, S)`,
        visible ones first. See `har_keras.clips.masking`.

    Output shape:
        `(batch_size, 1)`, mean squared error of each clip's masked pixels.

    Example:

    >>> encoder = VideoViT(num_classes=2, num_frames=4, crop_size=64, seed=0)
    >>> model = MaskedAutoencoder(encoder, mask_ratio=0.75, seed=0)
    >>> clips = ops.zeros((2, 4, 64, 64, 3), "uint8")
    >>> places = ops.tile(ops.arange(16)[None], (2, 1))
    >>> tuple(model((clips, places)).shape), model.num_visible
    ((2, 1), 4)

    Reference:
        - [Tong et al., 2022](https://arxiv.org/abs/2203.12602), section 3.
        - [He et al., 2021](https://arxiv.org/abs/2111.06377), section 3.
    """

    def __init__(
        self,
        encoder: VideoViT,
        mask_ratio: float = 0.9,
        decoder_dim: int = 24,
        decoder_layers: int = 2,
        decoder_heads: int = 4,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_encoder(encoder)
        require_at_most(MOST_LAYERS, decoder_layers=decoder_layers)
        self.encoder = encoder
        self.mask_ratio = mask_ratio
        self.decoder_dim = decoder_dim
        self.decoder_layers = decoder_layers
        self.decoder_heads = decoder_heads
        self.seed = seed
        if not encoder.built:
            encoder.build()
        # The head is not used here, nor is a norm that only the head reads.
        encoder.head.trainable = False
        encoder.norm.trainable = encoder.pooling == "mean"

        policy = self.dtype_policy
        self.bridge = layers.Dense(
            decoder_dim,
            use_bias=False,
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            name="bridge",
            dtype=policy,
        )
        self.blocks = [
            EncoderBlock(
                decoder_heads, 4 * decoder_dim,
                activation=encoder.activation, key_bias=encoder.key_bias,
                norm_epsilon=encoder.norm_epsilon,
                seed=seed_after(seed, 16 * (1 + index)),
                name=f"decoder_{index}", dtype=policy,
            )
            for index in range(decoder_layers)
        ]  # fmt: skip
        self.norm = layers.LayerNormalization(
            epsilon=1e-5, name="decoder_norm", dtype=policy
        )
        self.pixels = layers.Dense(
            self.pixels_of_tubelet,
            kernel_initializer=keras.initializers.GlorotUniform(
                seed_after(seed)
            ),
            name="pixels",
            dtype="float32",
        )

    @property
    def clips_shape(self) -> Shape:
        """Shape of a batch of clips, the batch size unknown."""
        return self.encoder.clips_shape

    @property
    def num_tokens(self) -> int:
        """Number of tokens of a clip, N."""
        return self.encoder.num_tokens

    @property
    def num_places(self) -> int:
        """Number of positions in space, S."""
        return self.num_tokens // self.encoder.grid[0]

    @property
    def num_visible(self) -> int:
        """Number of visible positions, at least 1 and at most S - 1."""
        shown = round(self.num_places * (1 - self.mask_ratio))
        return min(max(1, shown), self.num_places - 1)

    @property
    def pixels_of_tubelet(self) -> int:
        """Number of values of a tubelet."""
        return 3 * self.encoder.tubelet_frames * self.encoder.patch_size**2

    def build(self, input_shape: Any = None) -> None:
        self.bridge.build((None, None, self.encoder.hidden_dim))
        shape = (None, None, self.decoder_dim)
        self.mask_token = self.add_weight(
            name="mask_token",
            shape=(self.decoder_dim,),
            initializer=keras.initializers.TruncatedNormal(
                0, 0.02, seed_after(self.seed, 2)
            ),
        )
        for block in self.blocks:
            block.build(shape)
        self.norm.build(shape)
        self.pixels.build(shape)
        self.built = True

    def call(
        self, inputs: tuple[Tensor, Tensor], training: bool | None = None
    ) -> Tensor:
        tubelets, visible, masked = self._tubelets(*inputs)
        guessed = self._guess(tubelets, visible, masked, training)
        wanted = normalized(_rows(tubelets, masked))
        error = ops.mean(ops.square(guessed - wanted), axis=(1, 2))
        return ops.reshape(error, (-1, 1))

    def logits(self, inputs: Any, training: bool | None = None) -> Tensor:
        """Same as `call`; `Trainer` calls it as for a classifier."""
        return self(inputs, training=training)

    def guess(self, clips: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the reconstructed pixels, for visualization.

        Args:
            clips: uint8 tensor of shape `(B, T, H, W, 3)`.
            places: int32 tensor of shape `(B, S)`.

        Returns:
            The reconstruction, float32 `(B, M, pixels)`, normalized as in
            training, and the indices of its tokens, int32 `(B, M)`.
        """
        tubelets, visible, masked = self._tubelets(clips, places)
        return self._guess(tubelets, visible, masked, False), masked

    def _tubelets(
        self, clips: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns all tubelets, and the indices of visible and masked ones."""
        shown = self.num_visible
        places = ops.convert_to_tensor(places, "int32")
        return (
            self.encoder.embedding.tubelets(clips),
            self._tokens_at(places[:, :shown]),
            self._tokens_at(places[:, shown:]),
        )

    def _tokens_at(self, places: Tensor) -> Tensor:
        """Returns the indices of the tokens at some positions, time slowest."""
        times = self.num_places * ops.arange(self.encoder.grid[0])
        tokens = (
            ops.cast(times, "int32")[:, None] + places[:, None]
        )  # (B, T, P)
        return ops.reshape(tokens, (-1, self.encoder.grid[0] * places.shape[1]))

    def _guess(
        self,
        tubelets: Tensor,
        visible: Tensor,
        masked: Tensor,
        training: bool | None,
    ) -> Tensor:
        x = self._encode(_rows(tubelets, visible), visible, training)
        x = self.bridge(x)  # (B, V, decoder_dim)
        places = ops.cast(sinusoids(self.num_tokens, self.decoder_dim), x.dtype)
        hidden = ops.take(places, masked, axis=0)
        hidden = hidden + ops.cast(self.mask_token, x.dtype)
        x = x + ops.take(places, visible, axis=0)
        x = ops.concatenate([x, hidden], axis=1)  # (B, N, decoder_dim)
        for block in self.blocks:
            x = block(x, training=training)
        return self.pixels(self.norm(x[:, visible.shape[1] :]))

    def _encode(
        self, tubelets: Tensor, indices: Tensor, training: bool | None
    ) -> Tensor:
        """Returns the encoded tokens `(B, V, D)` of the visible tubelets."""
        encoder = self.encoder
        x = encoder.embedding.embed(tubelets)
        positions = ops.convert_to_tensor(encoder.positions.positions)
        x = x + ops.cast(ops.take(positions, indices, axis=0), x.dtype)
        x = encoder.dropout(x, training=training)
        for block in encoder.blocks:
            x = block(x, training=training)
        return x if encoder.pooling == "mean_norm" else encoder.norm(x)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        first = input_shape[0]
        return (first[0] if isinstance(first, tuple) else first, 1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "mask_ratio": self.mask_ratio,
            "decoder_dim": self.decoder_dim,
            "decoder_layers": self.decoder_layers,
            "decoder_heads": self.decoder_heads,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MaskedAutoencoder":
        encoder = keras.saving.deserialize_keras_object(config.pop("encoder"))
        return cls(encoder, **config)


def normalized(tubelets: Tensor) -> Tensor:
    """Normalizes tubelets to mean 0 and variance 1 per color channel.

    Args:
        tubelets: uint8 tensor of shape `(B, M, pixels)`.

    Returns:
        float32 tensor of the same shape.

    Reference:
        - [He et al., 2021](https://arxiv.org/abs/2111.06377), section 3,
          "reconstruction target".
    """
    tokens, pixels = tubelets.shape[1:]
    x = ops.cast(tubelets, "float32") / 255.0
    x = ops.reshape(x, (-1, tokens, pixels // 3, 3))
    x = x - ops.mean(x, axis=2, keepdims=True)
    # The unbiased variance, as for the published models.
    total = ops.sum(ops.square(x), axis=2, keepdims=True)
    x = x / (ops.sqrt(total / (pixels // 3 - 1)) + _EPSILON)
    return ops.reshape(x, (-1, tokens, pixels))


def _rows(x: Tensor, indices: Tensor) -> Tensor:
    """Returns the rows `(B, V, ...)` of `(B, N, ...)` at `(B, V)` indices."""
    tokens, width = x.shape[1:]
    first = tokens * ops.arange(ops.shape(indices)[0], dtype="int32")
    flat = ops.reshape(x, (-1, width))
    rows = ops.take(flat, indices + first[:, None], axis=0)
    return ops.reshape(rows, (-1, indices.shape[1], width))


def _check_encoder(encoder: VideoViT) -> None:
    wanted = {"attention": "joint", "stem": "pixels"}
    found = {name: getattr(encoder, name) for name in wanted}
    if found != wanted or encoder.pooling == "class_token":
        raise ValueError(
            f"`encoder` must have {wanted} and no class token. "
            f"Received: {found}, pooling='{encoder.pooling}'."
        )
