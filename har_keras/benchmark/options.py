"""The flags of each part of `python -m har_keras.benchmark`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from har_keras.config import Config


@dataclass(frozen=True)
class StepOptions:
    """Measures training steps on clips of noise, through `fit`."""

    rounds: int = 5
    """Turns of each candidate."""
    peers: bool = False
    """Race Keras's own layers, a PyTorch twin and Hugging Face's ViViT too,
    and on TensorFlow our step without `fit` (extra peers)."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=Config
    )
    """Everything else."""


@dataclass(frozen=True)
class InputOptions:
    """Measures the way from video files to training clips.

    Rates are clips per second of processor time; ways are taken in turn, and
    figures are medians over rounds.
    """

    videos: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of videos. Default: ten-second videos drawn for the purpose."""
    rounds: int = 3
    """How often each way is taken."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=Config
    )
    """Everything else."""


@dataclass(frozen=True)
class ServerOptions:
    """Measures latency and throughput of a model on TensorFlow Serving.

    Sends requests of one clip from several clients at once, and checks every
    answer against the one that the clip got by itself.
    """

    server: Annotated[str, tyro.conf.Positional]
    """Address of the model: http://HOST:8501/v1/models/har or
    grpc://HOST:8500/har."""
    videos: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Videos whose clips are sent: files, folders, globs."""
    requests: int = 1000
    """Requests in all."""
    clients: int = 8
    """Requests in flight at once."""
    format: Literal["table", "json", "csv"] = "table"
    """Output format: a table for people, JSON, or CSV."""


@dataclass(frozen=True)
class RecipesOptions:
    """Compares recipes on a folder of videos, cross-validated by group.

    Every video is tested once for each recipe and seed, by a model that saw
    nothing of its group. The folder's own test videos are left alone until
    --test, which trains on all the others and tests there instead.
    """

    videos: Annotated[Path, tyro.conf.Positional] = Path("data")
    """Folder of videos, laid out as for train."""
    recipes: str = "plain"
    """Recipes with commas between them, each a name or a TOML file."""
    folds: int = 5
    """Parts of the videos, each tested once."""
    seeds: int = 3
    """Trainings of each recipe and fold, with seeds 0, 1 and so on."""
    test: bool = False
    """Test on the folder's own test videos, once all is chosen."""
    jobs: int = 1
    """Trainings at once; they share the processor cores."""
    output: Path = Path("study")
    """Folder of the results; a study that was stopped goes on in it."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=Config
    )
    """Everything else; what is given here holds for every recipe."""
