"""Every option of the project: one line each, with its range, default and help.

A flag, a key in a `--config` file and an entry in a run's `config.toml` follow
from the field's name; the text below a field is its `--help`. Sections group
related fields, and no name occurs in two of them, so flags are flat.
"""

import dataclasses
import difflib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from har_keras.errors import UsageError
from har_keras.recipes import PRESETS, RECIPES, Preset, RecipeName

Form = Literal["jpeg", "raw"]
"""Format of stored frames."""

FRAME_STRIDE = 2
"""Stored frames per clip frame: the second one is for speed jitter."""


@dataclass(frozen=True)
class Range:
    """The values that an option can have.

    Args:
        text: str. What is allowed, to follow "must be".
        holds: Callable. Whether a value is allowed.
    """

    text: str
    holds: Callable[[Any], bool]


class Metavar(str):
    """What `--help` shows in the place of an option's value."""


AT_LEAST_ONE = Range("at least 1", lambda value: value >= 1)
NOT_NEGATIVE = Range("0 or more", lambda value: value >= 0)
POSITIVE = Range("above 0", lambda value: value > 0)
FRACTION = Range("in [0, 1)", lambda value: 0 <= value < 1)
RATIO = Range("in (0, 1)", lambda value: 0 < value < 1)
SHARE = Range("above 0 and at most 1", lambda value: 0 < value <= 1)
MICRO_BATCH = Range(
    "-1 (whole batch), 0 (automatic) or a number of clips",
    lambda value: value >= -1,
)


@dataclass(frozen=True)
class ClipConfig:
    """The clip: what the model sees of a video."""

    num_frames: Annotated[int, AT_LEAST_ONE] = 16
    """Frames in a clip."""
    fps: Annotated[float, POSITIVE] = 8.0
    """Frame rate of a clip in frames per second, whatever the video's own."""
    crop_size: Annotated[int, AT_LEAST_ONE] = 112
    """Height and width of a clip in pixels; a multiple of --patch-size."""

    @property
    def short_side(self) -> int:
        """Short side of stored frames in pixels, 8/7 of the crop: 128."""
        return round(self.crop_size * 8 / 7)

    @property
    def store_fps(self) -> float:
        """Stored frames per second: two for each clip frame, for jitter."""
        return FRAME_STRIDE * self.fps

    @property
    def stored_frames(self) -> int:
        """Stored frames from a clip's first frame to its last: 31."""
        return FRAME_STRIDE * (self.num_frames - 1) + 1

    @property
    def span_seconds(self) -> float:
        """Duration of a clip in seconds: 2.0."""
        return self.num_frames / self.fps


@dataclass(frozen=True)
class StoreConfig:
    """The frame store, in which every video is decoded once."""

    cache: Literal["auto", "jpeg", "raw", "off"] = "auto"
    """Format of the frame store: jpeg (small), raw (fastest), auto (raw if it
    fits a quarter of the free memory and disk, else jpeg), off (decode again
    each time and keep nothing)."""
    store_dir: Path | None = None
    """Folder of the frame store. Default: har_keras in the user's cache."""
    workers: Annotated[int, NOT_NEGATIVE] = 0
    """Videos decoded in parallel; 0 is one per processor core."""
    timeout_seconds: Annotated[float, POSITIVE] = 600.0
    """Time limit for decoding one video, in seconds."""


@dataclass(frozen=True)
class SplitConfig:
    """How videos without a split are divided."""

    val_fraction: Annotated[float, FRACTION] = 0.15
    """Fraction of the videos for validation if there is no val split."""
    test_fraction: Annotated[float, FRACTION] = 0.15
    """Fraction of the videos for testing if there is no test split."""
    split_seed: Annotated[int, NOT_NEGATIVE] = 0
    """Random seed of the split; separate from --seed so that runs compare."""
    strict: bool = False
    """Refuse splits that share footage (leakage) instead of warning."""


@dataclass(frozen=True)
class ModelConfig:
    """The network: a small Vision Transformer on tubelets by default."""

    model: Literal["vit", "frame-vit", "cnn3d"] = "vit"
    """Architecture: vit; or as baselines frame-vit (the same transformer on
    single frames) and cnn3d (a small 3-D convolutional network)."""
    preset: Preset = "tiny"
    """Dimensions of a published model; options given beside it take
    precedence."""
    weights: Annotated[str, Metavar("WEIGHTS")] = "random"
    """Initial weights: random; synthetic-actions (pretrained on twelve
    synthetic actions; needs --stem gradients and the default size); the
    folder of a run of pretrain or train, whose dimensions are then the
    default; or a .safetensors file of a ViViT, VideoMAE, TimeSformer or image
    ViT from Hugging Face with the same dimensions."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype; bfloat16 is mixed precision (variables stay float32)."""
    patch_size: Annotated[int, AT_LEAST_ONE] = 16
    """Height and width of a tubelet in pixels."""
    tubelet_frames: Annotated[int, AT_LEAST_ONE] = 2
    """Depth of a tubelet in frames."""
    hidden_dim: Annotated[int, AT_LEAST_ONE] = 48
    """Embedding dimension of a token."""
    num_layers: Annotated[int, AT_LEAST_ONE] = 4
    """Transformer encoder layers."""
    num_heads: Annotated[int, AT_LEAST_ONE] = 4
    """Attention heads; must divide --hidden-dim."""
    mlp_dim: Annotated[int, AT_LEAST_ONE] = 192
    """Hidden dimension of the MLP in each layer."""
    dropout_rate: Annotated[float, FRACTION] = 0.0
    """Dropout on embeddings, attention outputs and MLPs."""
    attention_dropout_rate: Annotated[float, FRACTION] = 0.0
    """Dropout on attention weights."""
    drop_path_rate: Annotated[float, FRACTION] = 0.0
    """Stochastic depth rate of the last layer, rising linearly from 0."""
    pooling: Literal["mean", "mean_norm", "class_token"] = "mean"
    """Pooling before the classification head: mean of the tokens after the
    final norm, mean_norm (mean, then norm) or class_token."""
    stem: Literal["pixels", "gradients"] = "pixels"
    """Token features: pixels, or gradients (HOG3D, histograms of 3-D
    gradients; need fewer videos to learn from)."""
    attention: Literal["joint", "factorised", "divided"] = "joint"
    """Space-time attention: joint, factorised (ViViT's factorised encoder,
    cheaper for many tokens) or divided (TimeSformer)."""
    num_temporal_layers: Annotated[int, AT_LEAST_ONE] = 2
    """Temporal encoder layers of --attention factorised."""


@dataclass(frozen=True)
class TrainingConfig:
    """The optimizer, the schedule and the augmentation."""

    recipe: RecipeName = "plain"
    """Set of options that go together: plain (the stated hyperparameters),
    quick (minutes), small-data (up to a few hundred videos) or finetune
    (pretrained weights). Options given beside it take precedence."""
    batch_size: Annotated[int, AT_LEAST_ONE] = 128
    """Clips per batch, over all devices."""
    epochs: Annotated[int, AT_LEAST_ONE] = 100
    """Passes over the training videos."""
    learning_rate: Annotated[float, POSITIVE] = 0.001
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, NOT_NEGATIVE] = 0.004
    """Weight decay of AdamW; none on biases, norms and positions."""
    layer_decay: Annotated[float, SHARE] = 1.0
    """Layer-wise learning rate decay: the factor from each layer to the one
    below it; below 1 for fine-tuning."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or cosine decay to zero."""
    warmup_epochs: Annotated[float, NOT_NEGATIVE] = 0.0
    """Epochs of linear learning rate warm-up."""
    keep: Literal["best", "last"] = "best"
    """Epoch whose weights are kept: the best by validation, or the last (with
    few validation videos the best is often a lucky one)."""
    label_smoothing: Annotated[float, FRACTION] = 0.0
    """Label smoothing."""
    clips_per_video: Annotated[int, NOT_NEGATIVE] = 0
    """Clips per video and epoch; 0 covers the whole video."""
    augment: Literal["none", "light", "basic", "strong", "keras-cv"] = "basic"
    """Augmentation: none, light (shift, flip), basic (random resized crop,
    flip, color jitter), strong (basic, RandAugment and random erasing) or
    keras-cv (its RandAugment and RandomCutout; slow, extra cv)."""
    flip: bool = True
    """Flip half of the training clips left to right."""
    no_flip_classes: Annotated[str, Metavar("CLASS,...")] = ""
    """Classes whose clips are never flipped, separated by commas."""
    speed_jitter: Annotated[float, FRACTION] = 0.0
    """Random playback speed: 0.2 is between 0.8 and 1.25 times."""
    mixup: Annotated[float, NOT_NEGATIVE] = 0.0
    """MixUp alpha; 0 is off, 0.8 is common."""
    cutmix: Annotated[float, NOT_NEGATIVE] = 0.0
    """CutMix alpha; 0 is off, 1.0 is common."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Class imbalance: none, weights (in the loss) or sampling (draw every
    class equally often)."""
    repeats: Annotated[int, AT_LEAST_ONE] = 1
    """Repeated augmentation: differently augmented clips of the same footage
    in a batch."""
    seed: Annotated[int, NOT_NEGATIVE] = 0
    """Random seed of weights, order and augmentation."""
    micro_batch_size: Annotated[int, MICRO_BATCH] = 0
    """Clips per forward and backward pass (gradient accumulation): the
    gradient is that of the whole batch. 0 chooses for the device, -1 is the
    whole batch."""
    backend: Literal["auto", "tensorflow", "jax", "torch"] = "auto"
    """Keras backend; auto is KERAS_BACKEND, else tensorflow."""
    devices: Annotated[str, Metavar("DEVICE,...")] = ""
    """Devices that share each batch, such as gpu:0,gpu:1. Default: all GPUs,
    else the CPU."""
    checkpoint_minutes: Annotated[float, NOT_NEGATIVE] = 5.0
    """Minutes between checkpoints, in addition to one after each epoch."""


@dataclass(frozen=True)
class HostsConfig:
    """Training on several hosts (JAX only)."""

    hosts: Annotated[int, NOT_NEGATIVE] = 1
    """Number of processes, one per host, all started with the same command.
    0 asks SLURM, Open MPI or Kubernetes, as JAX does."""
    host_index: int = -1
    """Index of this process, from 0; -1 asks as --hosts 0 does. Host 0 is the
    chief: it writes the run."""
    coordinator: Annotated[str, Metavar("HOST:PORT")] = ""
    """Address of the chief with a free port. Default: ask as --hosts 0 does."""
    join_seconds: Annotated[int, AT_LEAST_ONE] = 300
    """How long to wait for the other hosts at the start."""


@dataclass(frozen=True)
class MaskingConfig:
    """The masked autoencoder of `pretrain` (VideoMAE)."""

    mask_ratio: Annotated[float, RATIO] = 0.9
    """Masking ratio of the tubes."""
    decoder_dim: Annotated[int, NOT_NEGATIVE] = 0
    """Embedding dimension of the decoder; 0 is half of --hidden-dim."""
    decoder_layers: Annotated[int, AT_LEAST_ONE] = 2
    """Decoder layers."""
    decoder_heads: Annotated[int, NOT_NEGATIVE] = 0
    """Attention heads of the decoder; 0 is --num-heads."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Views of a video, whose probabilities are averaged."""

    num_clips: Annotated[int, AT_LEAST_ONE] = 4
    """Clips per video, evenly spaced in time."""
    num_crops: Annotated[int, AT_LEAST_ONE] = 3
    """Crops per clip: 1 is the center; 3 adds both ends of the long side."""


@dataclass(frozen=True)
class LoggingConfig:
    """Where metrics go besides the run directory."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """Weights & Biases; auto is online if an API key is set, else offline."""
    wandb_project: Annotated[str, Metavar("NAME")] = "har_keras"
    """Weights & Biases project."""


@dataclass(frozen=True)
class Config:
    """All options of a run, by section.

    Example:

    >>> config = Config()
    >>> config.model.hidden_dim, config.training.batch_size
    (48, 128)
    >>> changed = config.replace(epochs=5, crop_size=224)
    >>> changed.training.epochs, changed.clip.short_side
    (5, 256)
    """

    clip: ClipConfig = field(default_factory=ClipConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hosts: HostsConfig = field(default_factory=HostsConfig)
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def replace(self, **options: Any) -> "Config":
        """Returns a config with the named options changed.

        A `recipe` and a `preset` change the options that aren't named, too.

        Args:
            **options: Values by option name, as flags have them. A `Path`
                may be given as a string, and the other way round.

        Returns:
            A new `Config`.

        Raises:
            UsageError: If a name is unknown or a value is out of its range.
        """
        for name in options:
            section_of(name)
        recipe = RECIPES[options.get("recipe", "plain")].options
        preset = PRESETS.get(options.get("preset", "tiny"), {})
        return self.changed(recipe | preset | options).validated()

    def changed(self, options: Mapping[str, Any]) -> "Config":
        """Returns a config with these options and no others changed."""
        sections = {}
        for section in dataclasses.fields(self):
            part = getattr(self, section.name)
            hints = typing.get_type_hints(type(part))
            chosen = {
                name: _path_or_text(hints[name], value)
                for name, value in options.items()
                if name in hints
            }
            sections[section.name] = dataclasses.replace(part, **chosen)
        return dataclasses.replace(self, **sections)

    def flat(self) -> dict[str, Any]:
        """Returns every option by its name, without sections."""
        return {
            name: value
            for part in dataclasses.asdict(self).values()
            for name, value in part.items()
        }

    def validated(self) -> "Config":
        """Returns self.

        Raises:
            UsageError: If a value is out of its range, or two contradict.
        """
        for section in dataclasses.fields(self):
            _require_ranges(getattr(self, section.name))
        _require_multiples(self)
        split = self.split
        if split.val_fraction + split.test_fraction >= 1:
            raise UsageError(
                "--val-fraction and --test-fraction must leave some videos for "
                f"training. Received: {split.val_fraction} and "
                f"{split.test_fraction}."
            )
        if self.model.weights == "synthetic-actions":
            _require_synthetic(self.model)
        return self


def _path_or_text(hint: Any, value: Any) -> Any:
    """Returns a path as text, or the other way round, as an option has it."""
    if hint is str and isinstance(value, Path):
        return str(value)
    if hint == Path | None and isinstance(value, str):
        return Path(value)
    return value


def _require_ranges(section: Any) -> None:
    """Raises `UsageError` for the first value that is out of its range."""
    hints = typing.get_type_hints(type(section), include_extras=True)
    for name, hint in hints.items():
        value = getattr(section, name)
        for allowed in getattr(hint, "__metadata__", ()):
            if isinstance(allowed, Range) and not allowed.holds(value):
                raise UsageError(
                    f"{flag(name)} must be {allowed.text}. Received: {value}."
                )


def _require_multiples(config: Config) -> None:
    options = config.flat()
    for name, unit in (
        ("crop_size", "patch_size"),
        ("num_frames", "tubelet_frames"),
        ("hidden_dim", "num_heads"),
        ("batch_size", "repeats"),
    ):
        value, divisor = options[name], options[unit]
        if value % divisor:
            near = max(divisor, round(value / divisor) * divisor)
            raise UsageError(
                f"{flag(name)} must be a multiple of {flag(unit)}. Received: "
                f"{value} and {divisor}; {near} would do."
            )


def _require_synthetic(model: ModelConfig) -> None:
    """Raises `UsageError` if the pretrained weights don't fit a model."""
    for name, wanted in _SYNTHETIC.items():
        value = getattr(model, name)
        if value != wanted:
            raise UsageError(
                f"--weights synthetic-actions needs {flag(name)} {wanted}. "
                f"Received: {value}. --weights random fits any model."
            )


# The stated size, on gradients, which synthetic and real people share.
_SYNTHETIC = {
    "model": "vit", "stem": "gradients", "attention": "joint",
    "pooling": "mean", "patch_size": 16, "tubelet_frames": 2,
    "hidden_dim": 48, "num_layers": 4, "num_heads": 4, "mlp_dim": 192,
}  # fmt: skip


def flag(name: str) -> str:
    """Returns the flag of an option: `crop_size` is `--crop-size`."""
    return "--" + name.replace("_", "-")


def section_of(name: str) -> str:
    """Returns the section that holds an option.

    Raises:
        UsageError: If there is no such option; names the nearest one.
    """
    known = {
        option: section
        for section, part in dataclasses.asdict(Config()).items()
        for option in part
    }
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"There is no option '{name}'.{hint}")
