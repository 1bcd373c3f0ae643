"""The flags of each part of `har-keras benchmark`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from har_keras.cli import Flags
from har_keras.config import Config
from har_keras.ranges import Metavar

_STEP = Flags(
    ("clip", "model", "recipe", "batch_size", "micro_batch_size", "backend"),
    without=("weights",),
    common=("crop_size", "batch_size", "micro_batch_size", "backend"),
)
_FEATURES = Flags(
    ("clip", "features", "backend"),
    common=("backbone", "crop_size", "num_frames", "backend"),
)
_INPUT = Flags(
    (
        "clip", "store", "model", "recipe", "batch_size", "micro_batch_size",
        "augment", "flip", "speed_jitter", "repeats", "mixup", "cutmix",
        "backend",
    ),
    without=("weights",),
    common=("crop_size", "batch_size", "augment", "backend"),
)  # fmt: skip
_JOB = Flags(
    (
        "clip", "store", "split", "model", "features", "training",
        "evaluation",
    ),
    common=("recipe", "epochs", "batch_size", "backbone", "backend"),
)  # fmt: skip
_RECIPES = Flags(
    ("clip", "store", "split", "model", "training", "evaluation"),
    common=("epochs", "batch_size", "learning_rate", "weights", "backend"),
)


@dataclass(frozen=True)
class StepOptions:
    """Measures the training step on random clips, through `fit`."""

    rounds: int = 5
    """Measurements per candidate."""
    peers: bool = False
    """Also measure the model built from Keras layers, in PyTorch and as Hugging
    Face's ViViT, and on TensorFlow the step without `fit`. Needs a checkout of
    the repository and the extra peers."""
    settings: Annotated[Config, _STEP] = field(default_factory=Config)


def _transfer() -> Config:
    return Config().replace(recipe="transfer")


@dataclass(frozen=True)
class FeaturesOptions:
    """Measures a pretrained backbone on frames of noise.

    As recipe transfer runs it, without decoding and the store.
    """

    rounds: int = 5
    """Measurements."""
    settings: Annotated[Config, _FEATURES] = field(default_factory=_transfer)


@dataclass(frozen=True)
class InputOptions:
    """Measures the input pipeline, from video files to training clips.

    Rates are clips per second of CPU time, the medians over interleaved
    rounds.
    """

    videos: Annotated[
        Path | None, tyro.conf.Positional, Metavar("[VIDEOS]")
    ] = None
    """Folder of videos. Default: generated videos of ten seconds."""
    rounds: int = 3
    """Measurements of each pipeline."""
    settings: Annotated[Config, _INPUT] = field(default_factory=Config)


@dataclass(frozen=True)
class ServerOptions:
    """Measures latency and throughput of a model on TensorFlow Serving.

    Concurrent clients send requests of one clip each. Every prediction is
    compared with that of the same clip sent alone.
    """

    server: Annotated[str, tyro.conf.Positional, Metavar("ADDRESS")]
    """Address of the model: http://HOST:8501/v1/models/har or
    grpc://HOST:8500/har."""
    videos: Annotated[
        tuple[str, ...], tyro.conf.Positional, Metavar("VIDEO ...")
    ]
    """Videos to take clips from: files, folders or globs."""
    requests: int = 1000
    """Total number of requests."""
    clients: int = 8
    """Concurrent requests."""
    format: Literal["table", "json", "csv"] = "table"
    """Output format."""


@dataclass(frozen=True)
class JobOptions:
    """Measures a whole training, phase by phase, from a folder to a report.

    It runs in a process of its own, on a frame store that is empty at first.
    """

    videos: Annotated[Path, tyro.conf.Positional, Metavar("VIDEOS")]
    """Folder of videos, laid out as for train."""
    rounds: int = 1
    """Measurements; figures are medians."""
    again: bool = False
    """Train twice each time, and measure the second, which finds the frames,
    the features and the compiled programs of the first."""
    beside: Annotated[str, Metavar("COMMAND")] = ""
    """Command line to measure in turns with it, such as a training script of
    your own."""
    settings: Annotated[Config, _JOB] = field(default_factory=Config)


@dataclass(frozen=True)
class RecipesOptions:
    """Compares recipes by cross-validation on a folder of videos.

    For each recipe and seed, every video is tested once, by a model that was
    not trained on its group. Videos of a test split are not used, unless
    --test is given: it trains on the others and tests on these.
    """

    videos: Annotated[Path, tyro.conf.Positional, Metavar("[VIDEOS]")] = Path(
        "data"
    )
    """Folder of videos, laid out as for train."""
    recipes: Annotated[str, Metavar("RECIPE,...")] = "plain"
    """Comma-separated recipes, each a name or a TOML file."""
    folds: int = 5
    """Number of folds."""
    seeds: int = 3
    """Runs per recipe and fold, with seeds 0, 1, ..."""
    test: bool = False
    """Test on the test split instead of folds; use once, at the end."""
    videos_per_class: Annotated[str, Metavar("N,...")] = ""
    """With --test, a learning curve: train on N videos of each class, drawn by
    group, others for each seed."""
    jobs: int = 1
    """Parallel runs; they share the CPU cores."""
    output: Path = Path("study")
    """Folder of the results; an interrupted study resumes in it."""
    settings: Annotated[Config, _RECIPES] = field(default_factory=Config)


@dataclass(frozen=True)
class LabelingOptions:
    """Simulates labeling with suggestions, on videos whose labels are known.

    Prints the accuracy by the number of answers, with help and at random, the
    answers needed for the same accuracy, and how many of some labels that were
    changed are found. The network is that of recipe transfer, frozen.
    """

    videos: Annotated[Path, tyro.conf.Positional, Metavar("[VIDEOS]")] = Path(
        "data"
    )
    """Folder of videos, laid out as for train."""
    strategies: Annotated[str, Metavar("NAME,...")] = "random,suggested"
    """Comma-separated: random, suggested, typical, core-set, margin, badge. The
    first is what the others are compared with."""
    answers: int = 100
    """Labels that are asked for."""
    at_once: int = 5
    """Answers between two suggestions."""
    starts: int = 20
    """Simulated people, each with other held-out groups and another first
    video."""
    first_start: int = 0
    """Seed of the first."""
    wrong: float = 0.1
    """Share of the labels that are changed, to be found."""
    test: bool = False
    """Measure on the test split instead of on held-out groups; use once, at
    the end."""
    backbone: str = "efficientnet-lite0"
    """Pretrained network that sees the videos."""
    store_dir: Path | None = None
    """Folder of the frame store. Default: har_keras in the user's cache
    folder."""
    output: Path = Path("labeling")
    """Folder of the results: labeling.csv and labeling.png."""
