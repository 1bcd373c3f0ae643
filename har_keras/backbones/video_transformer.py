"""Transformers on clips: of your own runs, and of Hugging Face by name.

Features are the tokens before they are pooled. A run of `train` on the features
of another backbone is refused: it reads no pixels, and what it learned is for
its own classes; name that backbone instead.
"""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

import har_keras.model.mae  # noqa: F401  (registers its class)
from har_keras.backbones.backbone import (
    Backbone,
    BackboneInfo,
    ClipBackbone,
    FrameBackbone,
    Shape,
    Tensor,
)
from har_keras.backbones.nested import Nested
from har_keras.backbones.weight_files import first_line
from har_keras.config import ClipConfig, Config
from har_keras.damaged import read_model
from har_keras.errors import DataError, UsageError
from har_keras.hub import download, hub_name, hub_options
from har_keras.hub_config import family_of, options_of
from har_keras.model.options import transformer_options
from har_keras.model.vit import VideoViT
from har_keras.model.weights import copy_weights, load_weights
from har_keras.run import Run

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"

# By the model cards on huggingface.co; other models there have their own.
_LICENSES = {
    "MCG-NJU/videomae-": "CC-BY-NC-4.0 (not for commercial use)",
    "facebook/timesformer-": "CC-BY-NC-4.0 (not for commercial use)",
    "google/vivit-": "MIT",
    "google/vit-": "Apache-2.0",
}


@keras.saving.register_keras_serializable(package="har_keras")
class ClipTokens(VideoViT):
    """A `VideoViT` that returns its tokens instead of classes.

    Tokens have the final norm where each token had it in training: with
    `pooling="mean_norm"` it is for their mean, so it is left out. Those of the
    factorised encoder are the frames, one place each.

    Args:
        **options: Arguments of `VideoViT`, except `num_classes`.

    Input shape:
        `(batch_size, num_frames, crop_size, crop_size, 3)`, RGB of 0 to 255.

    Output shape:
        `(batch_size, t, h, w, hidden_dim)`

    Example:

    >>> network = ClipTokens(num_frames=4, crop_size=32, seed=0)
    >>> tuple(network(ops.zeros((2, 4, 32, 32, 3), "uint8")).shape)
    (2, 2, 2, 2, 48)
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(num_classes=2, **options)
        # No file has weights for a head of no classes, and none is missed.
        self.num_classes = 0
        self.head.trainable = False

    def build(self, input_shape: Shape | None = None) -> None:
        super().build(input_shape)
        # A head at random would change the hash of all weights.
        self.head.kernel.assign(ops.zeros(self.head.kernel.shape))

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        x = self.features(clips, training=training)
        return ops.reshape(x, (-1, *self.places, self.hidden_dim))

    @property
    def places(self) -> tuple[int, int, int]:
        """Tokens of a clip in time, height and width."""
        time, rows, columns = self.grid
        if self.attention == "factorised":
            return time, 1, 1
        return time, rows, columns

    def _pool(self, x: Tensor, norm: layers.Layer) -> Tensor:
        if self.attention == "factorised" and norm is self.norm:
            return super()._pool(x, norm)  # the frames' tokens, of each frame's
        tokens = x[:, int(self.class_token is not None) :]
        return tokens if self.pooling == "mean_norm" else norm(tokens)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self.places, self.hidden_dim)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["num_classes"]
        return config


@keras.saving.register_keras_serializable(package="har_keras")
class FrameTokens(Nested):
    """A network of clips of one frame, for frames.

    Args:
        network: ClipTokens. For one frame.
        **kwargs: Arguments of `keras.Model`.

    Input shape:
        `(batch_size, height, width, 3)`, RGB of 0 to 255.

    Output shape:
        `(batch_size, h, w, C)`
    """

    def __init__(self, network: ClipTokens, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.built = True  # the network is

    def call(self, frames: Tensor, training: bool | None = None) -> Tensor:
        return self.network(frames[:, None], training=training)[:, 0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self.network.compute_output_shape((None,))[2:])


def names() -> list[str]:
    """Returns no names: runs and models of a hub can't be listed."""
    return []


def knows(name: str) -> bool:
    """Returns whether a name is a run, a file, or a model on a hub.

    Example:

    >>> knows("owner/name@main"), knows("resnet50")
    (True, False)
    """
    path = Path(name)
    if path.exists():
        return path.is_dir() or path.suffix == ".safetensors"
    return hub_name(name) is not None


def info(name: str) -> BackboneInfo:
    """Returns what is known of a backbone without loading its weights.

    Args:
        name: str. The folder of a run; a folder with a `model.safetensors`,
            or such a file, and a `config.json` beside it; or `owner/name`.

    Raises:
        UsageError: If it is a model of another kind.
        DataError: If a run's options, or a `config.json`, are damaged.
        EnvironmentFault: If the hub can't be reached.
    """
    return info_of(name, _options(name))


def info_of(name: str, options: dict[str, Any]) -> BackboneInfo:
    """Returns what is known of a transformer by its options.

    Args:
        name: str. As for `info`.
        options: dict. Dimensions and clip by option name; no number of frames
            for a model of images.
    """
    config = _config(options)
    is_clips = "num_frames" in options
    parameters, macs = cost(config)
    return BackboneInfo(
        name,
        kind="clips" if is_clips else "frames",
        image_size=config.clip.crop_size,
        license=_license(name),
        source="a run" if _is_run(name) else "Hugging Face's transformers",
        num_frames=config.clip.num_frames,
        fps=config.clip.fps if is_clips else 0.0,
        is_fixed=True,
        parameters=parameters,
        macs=macs,
    )


def cost(config: Config) -> tuple[float, float]:
    """Returns what the encoder of a config costs.

    For N tokens, of S places and T times, P pixel values each, and width D,
    with an MLP of width M:

        embedding = N P D
        joint layer = N (4 D D + 2 D M) + 2 N N D
        factorised layer = N (4 D D + 2 D M) + 2 N S D, in time T and T T
        divided layer = N (9 D D + 2 D M) + 2 N (S + T) D

    Class tokens are left out.

    Args:
        config: Config. The sections `model` and `clip`.

    Returns:
        Millions of parameters, and billions of multiply-adds of a clip.

    Example:

    >>> millions, billions = cost(Config().replace(preset="videomae-b"))
    >>> round(millions), round(billions)
    (86, 180)
    """
    model, clip = config.model, config.clip
    width, mlp, depth = model.hidden_dim, model.mlp_dim, model.num_layers
    space = (clip.crop_size // model.patch_size) ** 2
    time = clip.num_frames // model.tubelet_frames
    tokens = space * time
    pixels = 3 * model.tubelet_frames * model.patch_size**2
    layer = 4 * width**2 + 2 * width * mlp
    weights, macs = pixels * width, tokens * pixels * width
    if model.attention == "divided":
        layer += 5 * width**2
    seen = {"joint": tokens, "factorised": space, "divided": space + time}
    weights += depth * layer
    macs += depth * tokens * (layer + 2 * seen[model.attention] * width)
    if model.attention == "factorised":
        weights += model.num_temporal_layers * layer
        macs += model.num_temporal_layers * time * (layer + 2 * time * width)
    return weights / 1e6, macs / 1e9


def is_here(name: str) -> bool:
    """Returns whether the weights are on this machine."""
    on_hub = hub_name(name)
    if on_hub is None:
        return Run(name).model_file.is_file() or _file(name).is_file()
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(
        on_hub.repo, _WEIGHTS, revision=on_hub.revision
    )
    return isinstance(found, str)


def require(name: str, weights: Path | None) -> None:
    """Raises what `load` would, without reading the weights.

    Those of a model on a hub are downloaded, unless they are in the cache.

    Args:
        name: str. As for `info`.
        weights: Path or None. A file to load instead of those of a model on a
            hub, or beside a `config.json`.

    Raises:
        UsageError: If a file is missing, or of another kind.
        DataError: If a run has no model yet, or a file is damaged.
        EnvironmentFault: If the hub can't be reached.
    """
    run = Run(name)
    if weights is not None and (_is_run(name) or not weights.is_file()):
        reason = "a run has its own" if _is_run(name) else "there is none"
        raise UsageError(
            f"--backbone-weights '{weights}' can't be used with --backbone "
            f"{name}: {reason}."
        )
    if _is_run(name):
        _require_own_pixels(run)
    elif (on_hub := hub_name(name)) is not None:
        _options(name)
        if weights is None:
            download(on_hub)
    else:
        _settings(name)
        if not (weights or _file(name)).is_file():
            raise UsageError(
                f"--backbone '{name}' has no {_WEIGHTS}. Give a folder with "
                "one, or the folder of a run."
            )


def _require_own_pixels(run: Run) -> None:
    config = run.config()
    flat = config.flat()
    if flat["backbone"] != "none":
        raise UsageError(
            f"--backbone '{run.path}' is a run on the features of another "
            f"backbone, not on pixels. Give --backbone {flat['backbone']} "
            "itself."
        )
    if config.model.model != "vit":
        raise UsageError(
            f"--backbone '{run.path}' is a run of --model "
            f"{config.model.model}. Only --model vit has tokens to read."
        )
    if not run.model_file.is_file():
        raise DataError(
            f"--backbone '{run.path}' has no {run.model_file.name} yet: its "
            "training was stopped before the end of an epoch. Resume it with: "
            f"{run.resume_command}"
        )


def load(name: str, weights: Path | None, clip: ClipConfig) -> Backbone:
    """Returns the backbone of a name, with its weights.

    Args:
        name: str. As for `info`.
        weights: Path or None. As for `require`.
        clip: ClipConfig. Not used: frames and pixels are those of the model.

    Returns:
        A `ClipBackbone`; a `FrameBackbone` of an image ViT.

    Raises:
        UsageError: If a file is missing, or of another kind or size.
        DataError: If a run has no model yet, or a file is damaged.
        EnvironmentFault: If the hub can't be reached.
    """
    require(name, weights)
    if _is_run(name):
        return ClipBackbone(_of_run(Run(name)), info=info(name))
    on_hub = hub_name(name)
    known = info(name)
    if on_hub is not None:
        exact, file = download(on_hub)
        known = replace(known, name=str(exact))
    else:
        file = _file(name)
    network = _of_options(_options(name), weights or file)
    if known.kind == "clips":
        return ClipBackbone(network, info=known)
    return FrameBackbone(FrameTokens(network), info=known)


def _of_run(run: Run) -> ClipTokens:
    """Returns the transformer of a run, or of its autoencoder."""
    model = read_model(run.model_file)
    source = getattr(model, "encoder", model)
    options = source.get_config()
    for name in ("num_classes", "name", "dtype", "trainable"):
        options.pop(name, None)
    network = ClipTokens(**options, name="network")
    network.build()
    copy_weights(source, network, str(run.path))
    return network


def _of_options(options: dict[str, Any], file: Path) -> ClipTokens:
    """Returns a transformer with the weights of a file of transformers."""
    config = _config(options)
    network = ClipTokens(
        num_frames=config.clip.num_frames,
        crop_size=config.clip.crop_size,
        name="network",
        **transformer_options(config.model),
    )
    network.build()
    load_weights(network, file)
    return network


def _config(options: dict[str, Any]) -> Config:
    of_image = {"num_frames": 1, "tubelet_frames": 1}
    return Config().replace(**of_image | options)


def _is_run(name: str) -> bool:
    return Run(name).config_file.is_file()


def _options(name: str) -> dict[str, Any]:
    """Returns options of the model and the clip, by name."""
    if _is_run(name):
        return Run(name).model_options()
    on_hub = hub_name(name)
    if on_hub is not None:
        return hub_options(on_hub)
    return options_of(_settings(name), name)


def _file(name: str) -> Path:
    path = Path(name)
    return path if path.suffix == ".safetensors" else path / _WEIGHTS


def _settings(name: str) -> dict[str, Any]:
    """Returns the `config.json` beside a file of weights."""
    path = _file(name).with_name(_CONFIG)
    try:
        settings = dict(json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise UsageError(
            f"--backbone '{name}' is neither a run, which has a config.toml, "
            f"nor a model with a {_CONFIG}. `har-keras models` lists "
            "backbones by name."
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"'{path}' is no JSON object ({first_line(error)}). Download it "
            "again."
        ) from error
    family_of(settings, name)
    return settings


def _license(name: str) -> str:
    """Returns the licence of a model's weights, as far as it is known."""
    if _is_run(name):
        return "your own, beside those of its videos and initial weights"
    for beginning, found in _LICENSES.items():
        if name.startswith(beginning):
            return found
    return "unknown: see its model card"
