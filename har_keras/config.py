"""Every option of the project: one line each, with its range, default and help.

A flag, a key in a `--config` file and an entry in a run's `config.toml` follow
from the field's name; the text below a field is its `--help`. Sections group
related fields, and no name occurs in two of them, so flags are flat.
"""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from har_keras.errors import UsageError
from har_keras.ranges import (
    AT_LEAST_ONE,
    CLIP_RATE,
    FRACTION,
    LAYERS,
    MICRO_BATCH,
    NOT_NEGATIVE,
    POSITIVE,
    RATE,
    RATIO,
    SEED,
    SHARE,
    SIZE,
    WIDTH,
    Metavar,
    require_agreement,
    require_ranges,
)
from har_keras.recipes import PRESETS, RECIPES, Preset, RecipeName

Form = Literal["jpeg", "raw"]
"""Format of stored frames."""

FRAME_STRIDE = 2
"""Stored frames per clip frame: the second one is for speed jitter."""

STRETCHED_FPS = 8.0
"""Stored frames per second, at least, where short videos are stretched."""


@dataclass(frozen=True)
class ClipConfig:
    """The clip: what the model sees of a video."""

    num_frames: Annotated[int, SIZE] = 16
    """Frames in a clip."""
    fps: Annotated[float, CLIP_RATE] = 8.0
    """Frame rate of a clip in frames per second, whatever the video's own."""
    crop_size: Annotated[int, SIZE] = 112
    """Height and width of a clip in pixels; a multiple of --patch-size."""
    fit: Literal["crop", "squeeze"] = "crop"
    """How a frame fits the square of a clip: crop (in proportion, its long
    side cut) or squeeze (the whole frame, out of proportion)."""
    short_videos: Literal["repeat", "stretch"] = "repeat"
    """What fills a clip of a video that is shorter: repeat (its last frame) or
    stretch (frames that are closer together)."""

    @property
    def squeeze(self) -> bool:
        """Whether frames are squeezed to a square."""
        return self.fit == "squeeze"

    @property
    def short_side(self) -> int:
        """Short side of stored frames in pixels, 8/7 of the crop: 128."""
        return self.crop_size if self.squeeze else round(self.crop_size * 8 / 7)

    @property
    def store_fps(self) -> float:
        """Stored frames per second: two for each clip frame, for jitter."""
        least = STRETCHED_FPS if self.short_videos == "stretch" else 0.0
        return max(FRAME_STRIDE * self.fps, least)

    @property
    def stored_frames(self) -> int:
        """Stored frames from a clip's first frame to its last: 31."""
        return int(self.store_fps / self.fps * (self.num_frames - 1)) + 1

    def frame_stride(self, num_video_frames: int) -> float:
        """Returns the stored frames from one clip frame to the next: 2.

        Args:
            num_video_frames: int. Stored frames of the video.

        Returns:
            float. Less for a short video that is stretched.
        """
        stride = self.store_fps / self.fps
        if self.short_videos == "repeat":
            return stride
        steps = max(1, self.num_frames - 1)
        return min(stride, max(1, num_video_frames - 1) / steps)

    @property
    def span_seconds(self) -> float:
        """Duration of a clip in seconds: 2.0."""
        return self.num_frames / self.fps


@dataclass(frozen=True)
class StoreConfig:
    """The frame store, in which every video is decoded once."""

    cache: Literal["auto", "jpeg", "raw", "off"] = "auto"
    """Format of the frame store: jpeg (small), raw (fastest), auto (raw if it
    fits a quarter of free memory and disk, else jpeg), off (keep nothing)."""
    store_dir: Path | None = None
    """Folder of the frame store. Default: har_keras in the user's cache."""
    workers: Annotated[int, NOT_NEGATIVE] = 0
    """Videos decoded in parallel; 0 is one per processor core."""
    timeout_seconds: Annotated[float, POSITIVE] = 600.0
    """Time limit for decoding one video, in seconds."""
    images_fps: Annotated[float, RATE] = 25.0
    """Images per second of a video that is a folder of images."""


@dataclass(frozen=True)
class SplitConfig:
    """What becomes a sample, and how videos without a split are divided."""

    background: Literal["none", "class"] = "none"
    """Footage without a label in videos that have labels in time: none (left
    out), or class (the class "background", to recognize none of the others)."""
    val_fraction: Annotated[float, FRACTION] = 0.15
    """Fraction of the videos for validation if there is no val split."""
    test_fraction: Annotated[float, FRACTION] = 0.15
    """Fraction of the videos for testing if there is no test split."""
    split_seed: Annotated[int, NOT_NEGATIVE] = 0
    """Random seed of the split; separate from --seed so that runs compare."""
    group_by: Annotated[str, Metavar("auto|PART|REGEX")] = "auto"
    """What keeps videos together in one split: auto (a manifest's groups, else
    names and look), file, folder, day, a part of the names by its number (1,
    -1), or a regular expression whose first group names the source."""
    strict: bool = False
    """Refuse splits that share footage (leakage) instead of warning."""


@dataclass(frozen=True)
class ModelConfig:
    """The network: a small Vision Transformer on tubelets by default."""

    model: Literal["vit", "frame-vit", "cnn3d"] = "vit"
    """Architecture: vit; or as baselines frame-vit (the same transformer on
    single frames) and cnn3d (a small 3-D convolutional network)."""
    preset: Preset = "tiny"
    """Dimensions of a published model; options beside it take precedence."""
    weights: Annotated[str, Metavar("WEIGHTS")] = "random"
    """Initial weights: random; synthetic-actions (pretrained on twelve
    synthetic actions; needs --stem gradients and the default size); the
    folder of a run of pretrain or train, whose dimensions are then the
    default; a .safetensors file of a ViViT, VideoMAE, TimeSformer or image
    ViT from Hugging Face with the same dimensions; or owner/name[@revision],
    such a model on its hub, whose dimensions are then the default."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype; bfloat16 is mixed precision (variables stay float32)."""
    patch_size: Annotated[int, SIZE] = 16
    """Height and width of a tubelet in pixels."""
    tubelet_frames: Annotated[int, SIZE] = 2
    """Depth of a tubelet in frames."""
    hidden_dim: Annotated[int, WIDTH] = 48
    """Embedding dimension of a token."""
    num_layers: Annotated[int, LAYERS] = 4
    """Transformer encoder layers."""
    num_heads: Annotated[int, WIDTH] = 4
    """Attention heads; must divide --hidden-dim."""
    mlp_dim: Annotated[int, WIDTH] = 192
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
    """Token features: pixels, or gradients (HOG3D, for few videos)."""
    attention: Literal["joint", "factorised", "divided"] = "joint"
    """Space-time attention: joint, factorised (ViViT's factorised encoder,
    cheaper for many tokens) or divided (TimeSformer)."""
    num_temporal_layers: Annotated[int, LAYERS] = 2
    """Temporal encoder layers of --attention factorised."""


@dataclass(frozen=True)
class BackboneConfig:
    """A pretrained network in front of the transformer."""

    backbone: Annotated[str, Metavar("NAME")] = "none"
    """Pretrained network whose features the transformer reads instead of
    pixels, such as efficientnet-lite0; `har-keras models` lists all.
    It is frozen, and its features are computed once."""
    backbone_weights: Path | None = None
    """File with its weights. Default: its package's, or its library's cache."""
    backbone_stride: Annotated[int, SIZE] = 1
    """The backbone reads every n-th frame of a clip."""
    optical_flow: bool = False
    """Add statistics of the optical flow, how people move, to the features."""
    feature_pooling: Literal["grid", "motion"] = "grid"
    """What is kept of a frame's features: the means of a grid of cells, or the
    mean where the clip moves most, and its change."""
    feature_grid: Annotated[int, SIZE] = 2
    """Cells of a frame along each side to which features are averaged."""
    linear_path: bool = True
    """Add a linear layer; the transformer then learns at a hundredth."""
    linear_penalty: Annotated[float, NOT_NEGATIVE] = 0.3
    """L2 penalty of the linear layer."""
    feature_dropout_rate: Annotated[float, FRACTION] = 0.0
    """Dropout on the features."""
    token_dropout_rate: Annotated[float, FRACTION] = 0.0
    """Share of the tokens of features that are dropped whole."""
    unfreeze: Annotated[int, NOT_NEGATIVE] = 0
    """Blocks of the backbone trained at a hundredth of the rate; for GPUs."""


@dataclass(frozen=True)
class TrainingConfig:
    """The optimizer, the schedule and the augmentation."""

    recipe: RecipeName = "plain"
    """Set of options that go together: plain (the stated hyperparameters),
    quick (minutes), transfer (own videos: features of a pretrained network),
    small-data (a few hundred videos, nothing pretrained on others') or finetune
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
    """Layer-wise learning rate decay, a factor per layer; for fine-tuning."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or cosine decay to zero."""
    warmup_epochs: Annotated[float, NOT_NEGATIVE] = 0.0
    """Epochs of linear learning rate warm-up."""
    keep: Literal["best", "last"] = "best"
    """Epoch whose weights are kept: the best by validation, or the last."""
    label_smoothing: Annotated[float, FRACTION] = 0.0
    """Label smoothing."""
    clips_per_video: Annotated[int, NOT_NEGATIVE] = 0
    """Clips per video and epoch; 0 covers the whole video."""
    augment: Literal["none", "light", "basic", "strong", "keras-cv"] = "basic"
    """Augmentation: none, light (shift, flip), basic (random resized crop,
    flip, color jitter), strong (basic, RandAugment and random erasing) or
    keras-cv (its RandAugment and RandomCutout; slow, extra cv). On the features
    of a frozen backbone, light and basic are the same: crops and flips."""
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
    """Class imbalance: none, weights (in the loss) or sampling (even draws)."""
    repeats: Annotated[int, AT_LEAST_ONE] = 1
    """Repeated augmentation: augmented clips of the same footage in a batch."""
    seed: Annotated[int, SEED] = 0
    """Random seed of weights, order and augmentation."""
    micro_batch_size: Annotated[int, MICRO_BATCH] = 0
    """Clips per forward and backward pass (gradient accumulation): the
    gradient is of the whole batch. 0 chooses for the device, -1 is all."""
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
    """Index of this host; -1 asks as --hosts 0 does. Host 0 writes the run."""
    coordinator: Annotated[str, Metavar("HOST:PORT")] = ""
    """Address of host 0 with a free port. Default: ask as --hosts 0 does."""
    join_seconds: Annotated[int, AT_LEAST_ONE] = 300
    """How long to wait for the other hosts at the start."""


@dataclass(frozen=True)
class MaskingConfig:
    """The masked autoencoder of `pretrain` (VideoMAE)."""

    mask_ratio: Annotated[float, RATIO] = 0.9
    """Masking ratio of the tubes."""
    decoder_dim: Annotated[int, NOT_NEGATIVE] = 0
    """Embedding dimension of the decoder; 0 is half of --hidden-dim."""
    decoder_layers: Annotated[int, LAYERS] = 2
    """Decoder layers."""
    decoder_heads: Annotated[int, NOT_NEGATIVE] = 0
    """Attention heads of the decoder; 0 is --num-heads."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Views of a video, whose probabilities are averaged; what is accepted."""

    num_clips: Annotated[int, SIZE] = 4
    """Clips per video, evenly spaced in time."""
    num_crops: Annotated[int, SIZE] = 3
    """Crops per clip: 1 is the center; 3 adds both ends of the long side."""
    accept_errors: Annotated[float, RATIO] = 0.05
    """Share of accepted answers that may be wrong, by validation; what is less
    sure than that allows is "none of these"."""


@dataclass(frozen=True)
class LoggingConfig:
    """Where metrics go besides the run directory."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    """Weights & Biases; auto is WANDB_MODE, or online if a key is set."""
    wandb_project: Annotated[str, Metavar("NAME")] = ""
    """Project there. Default: WANDB_PROJECT, or har_keras."""


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
    features: BackboneConfig = field(default_factory=BackboneConfig)
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
        for name in sorted(options.keys() - self.flat()):
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

    @property
    def reads_features(self) -> bool:
        """Whether a frozen backbone's features are trained on, not pixels."""
        return self.features.backbone != "none" and not self.features.unfreeze

    @property
    def decoding(self) -> StoreConfig:
        """How videos are decoded: small where frames are read only once."""
        if self.reads_features and self.store.cache == "auto":
            return dataclasses.replace(self.store, cache="jpeg")
        return self.store

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
            require_ranges(getattr(self, section.name))
        require_agreement(self.flat())
        return self


def _path_or_text(hint: Any, value: Any) -> Any:
    """Returns a path as text, or the other way round, as an option has it."""
    if hint is str and isinstance(value, Path):
        return str(value)
    if hint == Path | None and isinstance(value, str):
        return Path(value)
    return value


def section_of(name: str) -> str:
    """Returns the section that holds an option.

    Raises:
        UsageError: If there is no such option; names the nearest one.
    """
    parts = dataclasses.asdict(Config()).items()
    known = {option: section for section, part in parts for option in part}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"There is no option '{name}'.{hint}")
