"""Every option of the project: one line each, with its default and help.

A flag, a key in a `--config` file and an entry in a run's `config.toml` follow
from the field's name; the text below a field is its `--help`. Sections group
related fields, and no name occurs in two of them, so flags are flat.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from har_keras.errors import UsageError
from har_keras.recipes import PRESETS, RECIPES, Preset, RecipeName


@dataclass(frozen=True)
class ClipConfig:
    """What the model sees of a video."""

    num_frames: int = 16
    """Frames in a clip, T."""
    fps: float = 8.0
    """Clip frames per second of video, whatever the video's own rate."""
    crop_size: int = 112
    """Height and width of a clip in pixels; a multiple of patch_size."""

    @property
    def short_side(self) -> int:
        """Short side of stored frames in pixels, 8/7 of the crop: 128."""
        return round(self.crop_size * 8 / 7)

    @property
    def store_fps(self) -> float:
        """Stored frames per second: two for each clip frame, for jitter."""
        return 2 * self.fps

    @property
    def span_seconds(self) -> float:
        """Seconds of video that one clip stands for: 2.0."""
        return self.num_frames / self.fps


@dataclass(frozen=True)
class StoreConfig:
    """How decoded frames are kept, so that a video is decoded once."""

    cache: Literal["auto", "jpeg", "raw", "off"] = "auto"
    """Form of the frame store: jpeg (small), raw (fastest), auto (raw where it
    fits a quarter of free memory and disk), off (decode anew, keep nothing)."""
    store_dir: Path | None = None
    """Folder of the frame store. Default: har_keras in the user's cache."""
    workers: int = 0
    """Videos decoded at once; 0 means one for each processor core."""
    timeout_seconds: float = 600.0
    """Wall-clock limit for decoding one video."""


@dataclass(frozen=True)
class SplitConfig:
    """How videos without a split are divided."""

    val_fraction: float = 0.15
    """Share of the videos for validation, where the folder has no val split."""
    test_fraction: float = 0.15
    """Share of the videos for the test, where the folder has no test split."""
    split_seed: int = 0
    """Seed of the division; kept apart from seed so that runs compare."""
    strict: bool = False
    """Refuse splits that share footage; otherwise they are warned of."""


@dataclass(frozen=True)
class ModelConfig:
    """The network, by default a small Vision Transformer on tubelets."""

    model: Literal["vit", "frame-vit", "cnn3d", "videoswin-tiny"] = "vit"
    """The transformer; or, to compare: the same on each frame by itself, a
    small 3D convolutional network, or keras-cv's VideoSwin (extra cv)."""
    preset: Preset = "tiny"
    """Published dimensions for everything that is not given beside it."""
    weights: Path | None = None
    """File .safetensors of Hugging Face to start from: a ViViT, VideoMAE,
    TimeSformer or image ViT classifier with the same dimensions."""
    init: Path | None = None
    """Run of pretrain, or of train, to start from; the model is the run's
    where nothing else is said, and the head new where classes differ."""
    start: Literal["random", "drawn-actions"] = "random"
    """Where weights start without --weights and --init: anywhere, or where
    telling twelve drawn actions apart led to (stem gradients, stated size)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What layers compute in; bfloat16 is for hardware that has it. Weights,
    scores and probabilities are float32 always."""
    patch_size: int = 16
    """Height and width of a tubelet in pixels."""
    tubelet_frames: int = 2
    """Depth of a tubelet in frames."""
    hidden_dim: int = 48
    """Width of a token, D."""
    num_layers: int = 4
    """Transformer encoder layers."""
    num_heads: int = 4
    """Attention heads; must divide hidden_dim."""
    mlp_dim: int = 192
    """Width of the hidden layer in each MLP."""
    dropout_rate: float = 0.0
    """Dropout on embeddings, attention outputs and MLPs, in [0, 1)."""
    attention_dropout_rate: float = 0.0
    """Dropout on attention weights, in [0, 1)."""
    drop_path_rate: float = 0.0
    """Share of clips that skip the last layer in training, in [0, 1); less
    for those before it (stochastic depth)."""
    pooling: Literal["mean", "mean_norm", "class_token"] = "mean"
    """What the head reads: the mean of all tokens, after the last norm or
    (mean_norm) before it, or a class token."""
    stem: Literal["pixels", "gradients"] = "pixels"
    """What a token is made of: pixels, or counts of edges and their motion,
    which need fewer videos to learn from."""
    attention: Literal["joint", "factorised", "divided"] = "joint"
    """Who reads whom: all tokens, within frames and then between them
    (cheaper for many tokens), or along time and within frames by turns."""
    num_temporal_layers: int = 2
    """Layers between frames, where attention is factorised."""


@dataclass(frozen=True)
class TrainingConfig:
    """The optimiser and the length of training."""

    recipe: RecipeName = "plain"
    """Options that go together: plain (the stated hyperparameters alone),
    quick (minutes), small-data (few videos), finetune; pretrain has its own."""
    batch_size: int = 128
    """Clips in a batch, over all devices."""
    epochs: int = 100
    """Passes over the training footage."""
    learning_rate: float = 0.001
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.004
    """AdamW weight decay; biases, norms and positions have none."""
    layer_decay: float = 1.0
    """Learning rate of each layer as a share of that of the layer above, in
    (0, 1]; below 1 for weights that were trained before."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: kept, or to zero along a cosine."""
    warmup_epochs: float = 0.0
    """Epochs over which the learning rate rises from zero."""
    keep: Literal["best", "last"] = "best"
    """Epoch whose weights are the model's: best by validation, or last; where
    validation has few videos the best is one by luck."""
    label_smoothing: float = 0.0
    """Share of each target spread over all classes, in [0, 1)."""
    clips_per_video: int = 0
    """Clips from each video an epoch; 0 covers its length."""
    augment: Literal["none", "light", "basic", "strong", "keras-cv"] = "basic"
    """Training pixels: none, light (shift, flip), basic (random-resized crop,
    flip, colour), strong (RandAugment and erasing too), or keras-cv (slow)."""
    flip: bool = True
    """Mirror half of the training clips; off where left and right matter."""
    keep_side: str = ""
    """Classes whose clips are never mirrored, with commas between."""
    speed_jitter: float = 0.0
    """Play training clips slower or faster: 0.2 is 0.8 to 1.25 times."""
    mixup: float = 0.0
    """Alpha of MixUp, which blends clips and labels; 0 is off, 0.8 usual."""
    cutmix: float = 0.0
    """Alpha of CutMix, which pastes clips together; 0 is off, 1.0 usual."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Classes of unequal size: as they are, weighted in the loss, or drawn
    equally often."""
    repeats: int = 1
    """Clips, each augmented anew, of the same footage in a batch."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    micro_batch_size: int = 0
    """Clips whose gradient is computed at once; the sum is the whole batch's.
    0 picks it for the device, -1 takes the whole batch."""
    backend: Literal["auto", "tensorflow", "jax", "torch"] = "auto"
    """Keras backend; auto is KERAS_BACKEND, else tensorflow."""
    devices: str = ""
    """Devices that share each batch, such as gpu:0,gpu:1. Default: every GPU,
    else the processor."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints, besides the one after each epoch."""


@dataclass(frozen=True)
class HostsConfig:
    """Several machines that train one model; only under JAX."""

    hosts: int = 1
    """Processes that share each batch, one a host; every one is started with
    the same command. 0 asks SLURM, Open MPI or Kubernetes, as JAX does."""
    host_index: int = -1
    """Which of them this is, from 0; -1 asks as --hosts 0 does. The first
    writes the run."""
    coordinator: str = ""
    """HOST:PORT of the first, a free port; by default it is asked for."""
    join_seconds: int = 300
    """How long to wait for the others at the start."""


@dataclass(frozen=True)
class MaskingConfig:
    """What `pretrain` hides of a clip, and what guesses it; only there."""

    mask_ratio: float = 0.9
    """Share of the places that are hidden, through all frames, in (0, 1)."""
    decoder_dim: int = 0
    """Width of the decoder's tokens; 0 is half of hidden_dim."""
    decoder_layers: int = 2
    """Layers of the decoder."""
    decoder_heads: int = 0
    """Attention heads of the decoder; 0 is num_heads."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Views of a video whose probabilities are averaged."""

    num_clips: int = 4
    """Clips in time, evenly spread over the video."""
    num_crops: int = 3
    """Crops in space: 1 is the centre, 3 are both ends of the long side too."""


@dataclass(frozen=True)
class LoggingConfig:
    """Where figures go besides the run directory."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """Weights & Biases; auto is online where a key is set, else offline."""
    wandb_project: str = "har_keras"
    """Project of the W&B run."""


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

    def replace(self, **options: Any) -> Config:
        """Returns a config with the named options changed.

        A `recipe` and a `preset` change the options that aren't named, too.

        Args:
            **options: Values by option name, as flags have them.

        Returns:
            A new `Config`.

        Raises:
            UsageError: If a name is unknown or a value is out of its range.
        """
        sections = {}
        for name in options:
            section_of(name)
        recipe = RECIPES[options.get("recipe", "plain")].options
        preset = PRESETS.get(options.get("preset", "tiny"), {})
        options = recipe | preset | options
        for section in dataclasses.fields(self):
            part = getattr(self, section.name)
            names = {item.name for item in dataclasses.fields(part)}
            chosen = {k: v for k, v in options.items() if k in names}
            sections[section.name] = dataclasses.replace(part, **chosen)
        return dataclasses.replace(self, **sections).validated()

    def flat(self) -> dict[str, Any]:
        """Returns every option by its name, without sections."""
        return {
            name: value
            for part in dataclasses.asdict(self).values()
            for name, value in part.items()
        }

    def validated(self) -> Config:
        """Returns self.

        Raises:
            UsageError: If a value is out of its range, or two contradict.
        """
        check_ranges(self)
        return self


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


def check_ranges(config: Config) -> None:
    """Raises `UsageError` for the first value that can't work."""
    clip, model, training = config.clip, config.model, config.training
    for name in _AT_LEAST_ONE:
        _require(name, config, lambda value: value >= 1, "at least 1")
    for name in _FRACTIONS:
        _require(name, config, lambda value: 0 <= value < 1, "in [0, 1)")
    for name in _POSITIVE:
        _require(name, config, lambda value: value > 0, "above 0")
    for name in _NOT_NEGATIVE:
        _require(name, config, lambda value: value >= 0, "0 or more")
    if not 0 < training.layer_decay <= 1:
        raise UsageError(
            "--layer-decay must be above 0 and at most 1. Received: "
            f"{training.layer_decay}."
        )
    if training.micro_batch_size < -1:
        raise UsageError(
            "--micro-batch-size must be -1 (whole batch), 0 (automatic) or a "
            f"number of clips. Received: {training.micro_batch_size}."
        )
    _require_multiple(
        "crop_size", clip.crop_size, "patch_size", model.patch_size
    )
    _require_multiple(
        "num_frames", clip.num_frames, "tubelet_frames", model.tubelet_frames
    )
    _require_multiple(
        "hidden_dim", model.hidden_dim, "num_heads", model.num_heads
    )
    _require_multiple(
        "batch_size", training.batch_size, "repeats", training.repeats
    )
    if config.split.val_fraction + config.split.test_fraction >= 1:
        raise UsageError(
            "--val-fraction and --test-fraction must leave some videos for "
            f"training. Received: {config.split.val_fraction} and "
            f"{config.split.test_fraction}."
        )
    if model.start != "random" and not (model.weights or model.init):
        _require_drawn(config)


def _require_drawn(config: Config) -> None:
    """Raises `UsageError` if the weights of drawn actions don't fit a model."""
    for name, wanted in _DRAWN.items():
        value = getattr(config.model, name)
        if value != wanted:
            raise UsageError(
                f"--start drawn-actions is for {flag(name)} {wanted}. "
                f"Received: {value}. --start random goes with any model."
            )


# The stated size, and tokens of gradients, which drawn and real people share.
_DRAWN = {
    "model": "vit", "stem": "gradients", "attention": "joint",
    "pooling": "mean", "patch_size": 16, "tubelet_frames": 2,
    "hidden_dim": 48, "num_layers": 4, "num_heads": 4, "mlp_dim": 192,
}  # fmt: skip
_AT_LEAST_ONE = (
    "num_frames", "crop_size", "patch_size", "tubelet_frames", "hidden_dim",
    "num_layers", "num_heads", "mlp_dim", "batch_size", "epochs", "num_clips",
    "num_temporal_layers", "repeats", "decoder_layers", "join_seconds",
)  # fmt: skip
_FRACTIONS = (
    "dropout_rate", "attention_dropout_rate", "drop_path_rate",
    "label_smoothing", "speed_jitter", "mask_ratio",
    "val_fraction", "test_fraction",
)  # fmt: skip
_POSITIVE = ("fps", "learning_rate", "timeout_seconds")
_NOT_NEGATIVE = (
    "weight_decay", "warmup_epochs", "clips_per_video", "seed", "split_seed",
    "mixup", "cutmix", "workers", "checkpoint_minutes", "decoder_dim",
    "decoder_heads", "hosts",
)  # fmt: skip


def flag(name: str) -> str:
    """Returns the flag of an option: `crop_size` is `--crop-size`."""
    return "--" + name.replace("_", "-")


def _require(name: str, config: Config, holds: Any, wanted: str) -> None:
    value = config.flat()[name]
    if not holds(value):
        raise UsageError(f"{flag(name)} must be {wanted}. Received: {value}.")


def _require_multiple(name: str, value: int, unit: str, divisor: int) -> None:
    if value % divisor:
        near = max(divisor, round(value / divisor) * divisor)
        raise UsageError(
            f"{flag(name)} must be a multiple of {flag(unit)}. Received: "
            f"{value} and {divisor}; {near} would do."
        )
