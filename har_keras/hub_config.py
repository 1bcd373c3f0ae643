"""The `config.json` of a model of Hugging Face's transformers, as options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from har_keras.errors import DataError, UsageError
from har_keras.recipes import PRESETS, Preset


@dataclass(frozen=True)
class _Family:
    """What the models of a family have in common.

    Args:
        base: Preset. Its options are those that a `config.json` leaves out.
        activations: tuple of str. Names of the activation that `VideoViT` has
            for this family.
        is_video: bool. Whether the input is a video.
    """

    base: Preset
    activations: tuple[str, ...] = ("gelu", "gelu_python")
    is_video: bool = True


_FAMILIES = {
    "vivit": _Family(
        "vivit-b-16x2", ("gelu_fast", "gelu_new", "gelu_pytorch_tanh")
    ),
    "videomae": _Family("videomae-b"),
    "timesformer": _Family("timesformer-b"),
    "vit": _Family("vivit-b-16x2", is_video=False),
}
_DIMENSIONS = {
    "hidden_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "crop_size": "image_size",
    "patch_size": "patch_size",
}
_FRAMES = {"num_frames": "num_frames", "tubelet_frames": "tubelet_size"}
# Variances are about 1: above it, outputs differ visibly from the family's.
_LARGEST_EPSILON = 1e-5


def family_of(settings: Mapping[str, Any], name: str) -> str:
    """Returns the family of a model: its `model_type`.

    Args:
        settings: Mapping. The content of `config.json`.
        name: str. The model, for messages.

    Raises:
        UsageError: If `VideoViT` can't be a model of this type.
    """
    family = settings.get("model_type")
    if family not in _FAMILIES:
        raise UsageError(
            f"'{name}' is a model of the type {family}. Choose a "
            "ViViT, VideoMAE, TimeSformer or image ViT "
            f"({', '.join(_FAMILIES)})."
        )
    return str(family)


def options_of(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the options of a model with these settings.

    The preset is the nearest of the family: it stands for what is no
    dimension, such as the activation. The frame rate is the preset's, as
    `config.json` has none; an image model leaves the clip's frames alone.

    Args:
        settings: Mapping. The content of `config.json`.
        name: str. The model, for messages.

    Returns:
        Values by option name.

    Raises:
        UsageError: If the model is of another type, or a setting is one that
            `VideoViT` does not have.
        DataError: If a dimension is no whole number.

    Example:

    >>> settings = {"model_type": "vivit", "num_frames": 64}
    >>> options = options_of(settings, "owner/name")
    >>> options["num_frames"], options["hidden_dim"], options["preset"]
    (64, 768, 'vivit-b-16x2')
    """
    family = family_of(settings, name)
    kind = _FAMILIES[family]
    _require_known(settings, family, name)
    settings = _with_tubelet(settings, family, name)
    base = PRESETS[kind.base]
    options: dict[str, Any] = {
        ours: _whole_number(settings, theirs, base[ours], name)
        for ours, theirs in (
            _DIMENSIONS | (_FRAMES if kind.is_video else {})
        ).items()
    }
    options |= {"model": "vit", "stem": "pixels", "pooling": base["pooling"]}
    options["attention"] = base.get("attention", "joint")
    if kind.is_video:
        options["fps"] = base["fps"]
    return options | {"preset": _nearest_preset(family, options)}


def _require_known(settings: Mapping[str, Any], family: str, name: str) -> None:
    """Raises `UsageError` for a setting that `VideoViT` does not have."""
    known = {
        "hidden_act": _FAMILIES[family].activations,
        "num_channels": (3,),
        "attention_type": ("divided_space_time",),
    }
    for key, values in known.items():
        if settings.get(key, values[0]) not in values:
            needed = " or ".join(map(str, values))
            raise _other_setting(name, key, settings[key], needed)
    epsilon = settings.get("layer_norm_eps", 0)
    if not isinstance(epsilon, int | float) or epsilon > _LARGEST_EPSILON:
        needed = f"at most {_LARGEST_EPSILON:g}"
        raise _other_setting(name, "layer_norm_eps", epsilon, needed)


def _with_tubelet(
    settings: Mapping[str, Any], family: str, name: str
) -> dict[str, Any]:
    """Returns settings whose tubelet is a depth and a patch size.

    ViViT has them in one, `[2, 16, 16]`; TimeSformer has no depth.
    """
    tubelet = settings.get("tubelet_size")
    if family == "timesformer":
        return {**settings, "tubelet_size": 1}
    if not isinstance(tubelet, list):
        return dict(settings)
    if len(tubelet) != 3 or tubelet[1] != tubelet[2]:
        needed = "three numbers, the last two equal"
        raise _other_setting(name, "tubelet_size", tubelet, needed)
    return {**settings, "tubelet_size": tubelet[0], "patch_size": tubelet[1]}


def _other_setting(
    name: str, key: str, value: object, needed: str
) -> UsageError:
    return UsageError(
        f"'{name}' can't be loaded: its config.json has {key} "
        f"{value}, and it must be {needed}. Choose another model."
    )


def _whole_number(
    settings: Mapping[str, Any], key: str, default: int, name: str
) -> int:
    value = settings.get(key, default)
    if type(value) is not int or value < 1:
        raise DataError(
            f"The config.json of '{name}' is wrong: {key} must be a "
            f"whole number of at least 1. Received: {value}."
        )
    return value


def _nearest_preset(family: str, options: dict[str, Any]) -> Preset:
    """Returns the preset of a family that agrees with most options."""
    own = [name for name in PRESETS if name.split("-")[0] == family]
    return max(
        own,
        key=lambda name: len(PRESETS[name].items() & options.items()),
        default="tiny",
    )
