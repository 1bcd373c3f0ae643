"""A backbone: a network that turns frames, or clips, into a grid of features.

Shape letters: B batch, T frames, t places in time, H W pixels, g side of the
grid, C channels.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from har_keras.backbones.nested import Nested
from har_keras.backbones.optical_flow import (
    NUM_FLOW_STATISTICS,
    flow_statistics,
)
from har_keras.backbones.pooling import (
    Pooling,
    motion_weights,
    pooled,
    pooled_shape,
)

Tensor = Any
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class BackboneInfo:
    """What is known of a backbone before it is loaded.

    Args:
        name: str. As `--backbone` has it.
        kind: str. Whether it reads single "frames" or whole "clips".
        image_size: int. Height and width that it was trained on, in pixels.
        license: str. The licence of the weights.
        source: str. Where the weights come from.
        num_frames: int. Frames that it reads at once.
        fps: float. Frames per second of those; 0 for single frames.
        is_fixed: bool. Whether it reads no other number of frames or pixels,
            as its positions were learned for these.
        parameters: float. Millions of parameters; 0 is not known.
        macs: float. Billions of multiply-adds for a frame or a clip of
            `image_size` pixels; 0 is not known.
    """

    name: str
    kind: Literal["frames", "clips"]
    image_size: int
    license: str
    source: str
    num_frames: int = 1
    fps: float = 0.0
    is_fixed: bool = False
    parameters: float = 0.0
    macs: float = 0.0


class Backbone(Nested):
    """A pretrained network in front of the transformer.

    Pixels are scaled as in the network's own training, and its feature maps
    are pooled to a few vectors of each moment. It never trains batch
    statistics: a frozen and an unfrozen one compute the same.

    Args:
        network: keras.Model or Layer. The network proper, built.
        mean: float or sequence of 3. Subtracted from pixels of 0 to 255.
        std: float or sequence of 3. Pixels are divided by it afterwards.
        grid: int. Cells of a frame along each side; 0 keeps the network's.
        pooling: str. "grid", or "motion": where a clip moves most.
        frame_stride: int. The network reads every n-th frame of a clip.
            Defaults to `1`.
        optical_flow: bool. Whether statistics of the optical flow of all
            frames stand beside the features, as the last channels. Defaults to
            `False`.
        info: BackboneInfo or dict. What it is.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(
        self,
        network: keras.Layer,
        mean: Any = 0.0,
        std: Any = 1.0,
        grid: int = 1,
        pooling: Pooling = "grid",
        frame_stride: int = 1,
        optical_flow: bool = False,
        info: BackboneInfo | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.mean, self.std = mean, std
        self.grid, self.pooling = grid, pooling
        self.frame_stride, self.optical_flow = frame_stride, optical_flow
        known = asdict(info) if isinstance(info, BackboneInfo) else info
        self.info = BackboneInfo(**(known or {}))
        self._pixel_mean = np.asarray(mean, "float32")
        self._pixel_std = np.asarray(std, "float32")
        self.build(None)

    def build(self, input_shape: Shape | None) -> None:
        self.built = True  # the network is

    def scaled(self, pixels: Tensor) -> Tensor:
        """Returns uint8 pixels as the network was trained on them."""
        # Tensors, for PyTorch can't compute with arrays on a GPU.
        x, mean, std = (
            ops.cast(value, self.compute_dtype)
            for value in (pixels, self._pixel_mean, self._pixel_std)
        )
        return (x - mean) / std

    def of_clips(self, clips: Tensor) -> Tensor:
        """Returns the features of clips.

        Args:
            clips: uint8 tensor of shape `(B, T, H, W, 3)`.

        Returns:
            float tensor of shape `(B, t, g, g, C)`.
        """
        return self.with_flow(self.pooled(self.maps_of(clips)), clips)

    def maps_of(self, clips: Tensor) -> Tensor:
        """Returns the feature maps of clips, `(B, t, h, w, C)`."""
        read = clips[:, :: self.frame_stride]
        return self.maps_of_clips(self(self.images_of(read)), read.shape[1])

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        return self.network(self.scaled(images), training=False)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.network.compute_output_shape(input_shape)

    def images_of(self, clips: Tensor) -> Tensor:
        """Returns what one call reads of clips: the frames, or the clips."""
        return clips

    def maps_of_clips(self, maps: Tensor, num_frames: int) -> Tensor:
        """Returns the maps of images as those of clips, `(B, t, h, w, C)`."""
        return maps

    def pooled(self, maps: Tensor) -> Tensor:
        """Returns the features of clips, from their maps."""
        return pooled(maps, self.pooling, self.grid)

    def with_flow(self, features: Tensor, clips: Tensor) -> Tensor:
        """Returns the features of clips with their optical flow, if wanted.

        Args:
            features: float tensor of shape `(B, t, g, g, C)`.
            clips: uint8 tensor of shape `(B, T, H, W, 3)`.

        Returns:
            float tensor of shape `(B, t, g, g, C + 56)`: the statistics are
            those of the clip, at every place.
        """
        if not self.optical_flow:
            return features
        x = ops.cast(flow_statistics(clips), features.dtype)
        places = ops.ones_like(features[..., :1])
        flow = places * x[:, None, None, None]
        return ops.concatenate([features, flow], axis=-1)

    def places_of(self, maps: Tensor) -> np.ndarray:
        """Returns what share of a feature each place has, for pictures.

        Args:
            maps: float tensor of shape `(B, t, h, w, C)`.

        Returns:
            float array that multiplies `(B, t, g, g)`: ones, or by motion
            `(B, 1, h, w)`.
        """
        if self.pooling == "grid":
            return np.ones((1, 1, 1, 1))
        weights = keras.ops.convert_to_numpy(motion_weights(maps))
        return np.asarray(weights)[:, None]

    def feature_shape(
        self, num_frames: int, crop_size: int
    ) -> tuple[int, int, int, int]:
        """Returns the shape of a clip's features, `(t, g, g, C)`."""
        frame = (crop_size, crop_size, 3)
        num_frames //= self.frame_stride
        many = (num_frames,) if self.frames_at_once > 1 else ()
        shape = self.compute_output_shape((None, *many, *frame))
        if not many:
            shape = (None, num_frames, *shape[1:])
        shape = pooled_shape(shape, self.pooling, self.grid)
        places, rows, columns, channels = (int(n or 0) for n in shape[1:])
        return places, rows, columns, channels + self.num_flow

    @property
    def frames_at_once(self) -> int:
        """Frames that one call reads together: 1, or those of a clip."""
        return self.info.num_frames

    @property
    def num_moving(self) -> int:
        """Channels of the features that were pooled by motion."""
        if self.pooling != "motion":
            return 0
        size = self.info.image_size
        many = (self.frames_at_once,) if self.frames_at_once > 1 else ()
        shape = self.compute_output_shape((None, *many, size, size, 3))
        return int(shape[-1] or 0)

    @property
    def num_flow(self) -> int:
        """Channels of the features that are statistics of optical flow."""
        return NUM_FLOW_STATISTICS if self.optical_flow else 0

    def described(self) -> dict[str, str]:
        """Returns its name, licence, source and the hash of its weights."""
        return {
            "name": self.info.name,
            "license": self.info.license,
            "source": self.info.source,
            "weights_sha256": self.weights_hash,
        }

    @property
    def weights_hash(self) -> str:
        """A hash of every weight, by which stored features are found."""
        found = hashlib.sha256()
        for weight in self.network.weights:
            value = keras.ops.convert_to_numpy(weight.value)
            found.update(np.ascontiguousarray(value).tobytes())
        return found.hexdigest()

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "mean": self.mean,
            "std": self.std,
            "grid": self.grid,
            "pooling": self.pooling,
            "frame_stride": self.frame_stride,
            "optical_flow": self.optical_flow,
            "info": asdict(self.info),
        }


@keras.saving.register_keras_serializable(package="har_keras")
class FrameBackbone(Backbone):
    """A backbone that reads single frames, such as an image network.

    Args:
        network: keras.Model or Layer. From float `(B, H, W, 3)` to a feature
            map `(B, h, w, C)`.
        *args: Arguments of `Backbone`.
        **kwargs: Arguments of `Backbone`.

    Input shape:
        `(batch_size, height, width, 3)`, uint8 RGB.

    Output shape:
        `(batch_size, h, w, C)`
    """

    def images_of(self, clips: Tensor) -> Tensor:
        return ops.reshape(clips, (-1, *clips.shape[2:]))

    def maps_of_clips(self, maps: Tensor, num_frames: int) -> Tensor:
        return ops.reshape(maps, (-1, num_frames, *maps.shape[1:]))


@keras.saving.register_keras_serializable(package="har_keras")
class ClipBackbone(Backbone):
    """A backbone that reads whole clips, such as a video transformer.

    Args:
        network: keras.Model or Layer. From float `(B, T, H, W, 3)` to a
            feature map `(B, t, h, w, C)`.
        *args: Arguments of `Backbone`.
        **kwargs: Arguments of `Backbone`.

    Input shape:
        `(batch_size, num_frames, height, width, 3)`, uint8 RGB.

    Output shape:
        `(batch_size, t, h, w, C)`
    """
