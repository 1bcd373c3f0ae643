"""`python -m har_keras.benchmark`: how fast this machine is, and at what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from har_keras import cli
from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.toml import read_toml

if TYPE_CHECKING:
    from har_keras.benchmark.cross_validation import Trial
    from har_keras.benchmark.step import Cost

USAGE = """usage: python -m har_keras.benchmark PART [options]

Parts:
  step    training steps: clips/s, processor time, memory, share of the
          machine's arithmetic
  input   decoding, the frame store and augmentation: clips per cpu-second,
          and what they take beside a training step
  recipes recipes on a folder of videos, cross-validated by group over seeds

-h after a part shows its options.
"""


@dataclass(frozen=True)
class StepOptions:
    """Measures training steps on clips of noise, through `fit`."""

    rounds: int = 5
    """Turns of each contestant."""
    peers: bool = False
    """Race Keras's own layers, a PyTorch twin and Hugging Face's ViViT too,
    and on TensorFlow our step without `fit` (extra peers)."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=Config
    )
    """Everything else."""


def benchmark_step(
    config: Config | None = None, *, rounds: int = 5, peers: bool = False
) -> list[Cost]:
    """Measures training steps and prints a table.

    Args:
        config: Config or None. Model, clip and batch. Defaults to `Config()`.
        rounds: int. Turns of each contestant, at least 1.
        peers: bool. Whether others race too.

    Returns:
        What a step costs each contestant, ours first.

    Raises:
        UsageError: If `rounds` is below 1.
        EnvironmentFault: If a peer is not installed.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1. Received: {rounds}.")
    import keras

    from har_keras.benchmark.flops import step_flops
    from har_keras.benchmark.step import matmul_flops, race
    from har_keras.model.vit import VideoViT
    from har_keras.progress import ProgressBar

    config = config or Config()
    names = ["ours"]
    if peers:
        bare = ["bare"] if keras.config.backend() == "tensorflow" else []
        names += [*bare, "naive", "torch", "vivit"]
    rate = matmul_flops()
    with ProgressBar("Racing", rounds * len(names)) as bar:
        costs = race(names, config, rounds=rounds, progress=bar.advance)
    print(_table(costs))
    if config.model.model == "vit":
        from har_keras.model.build import transformer_options

        clip = config.clip
        options = transformer_options(config.model)
        model = VideoViT(3, clip.num_frames, clip.crop_size, **options)
        flops = step_flops(model)
        share = flops / costs[0].cpu_seconds / rate
        print(
            f"A step is {flops / 1e6:.1f} MFLOP a clip. A core of this machine "
            f"multiplies matrices at {rate / 1e9:.0f} GFLOP/s; ours reaches "
            f"{share:.0%} of that."
        )
    return costs


def _table(costs: list[Cost]) -> str:
    lines = ["           clips/s  cpu ms/clip  cpu/ours  peak MiB"]
    lines += [
        f"{cost.name:9} {1 / cost.seconds:8.1f} {1e3 * cost.cpu_seconds:12.2f} "
        f"{cost.cpu_ratio:9.2f} {cost.peak_bytes / 2**20:9.0f}"
        for cost in costs
    ]
    return "\n".join(lines)


def _step(argv: Sequence[str]) -> None:
    options = cli.parse(StepOptions, argv, verb="benchmark step")
    cli.start_backend(options.settings.training.backend)
    benchmark_step(options.settings, rounds=options.rounds, peers=options.peers)


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


def _input(argv: Sequence[str]) -> None:
    options = cli.parse(InputOptions, argv, verb="benchmark input")
    if options.rounds < 1:
        raise UsageError(
            f"--rounds must be at least 1. Received: {options.rounds}."
        )
    cli.start_backend(options.settings.training.backend)
    from har_keras.benchmark.input import input_table, measure_input

    found = measure_input(options.videos, options.settings, options.rounds)
    print(input_table(found))


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


def benchmark_recipes(
    videos: Path, recipes: Mapping[str, Config], options: RecipesOptions
) -> list[dict[str, Any]]:
    """Trains every recipe on every fold with every seed, and compares them.

    Args:
        videos: Path. The folder of videos.
        recipes: Mapping from names to configs.
        options: RecipesOptions. Folds, seeds, jobs and where results go.

    Returns:
        A row for each recipe and seed, and one for all its seeds.

    Raises:
        UsageError: If a number is out of its range.
        DataError: If the folder has too few groups.
    """
    from har_keras.benchmark.cross_validation import run_trials
    from har_keras.benchmark.study import (
        plot_study,
        study_rows,
        study_table,
        write_study,
    )
    from har_keras.inference.views import predict_videos
    from har_keras.progress import ProgressBar

    trials = _trials(videos, recipes, options)
    with ProgressBar("Training", len(trials)) as bar:
        results = []
        for result in run_trials(trials, predict_videos, jobs=options.jobs):
            results.append(result)
            bar.advance()
    order = list(recipes)
    results.sort(key=lambda r: (order.index(r["recipe"]), r["seed"], r["fold"]))
    rows = study_rows(results, len(trials[0].manifest.class_names))
    labels = [video["label"] for r in results for video in r["videos"]]
    majority = max(map(labels.count, set(labels))) / len(labels)
    name = "test" if options.test else "study"
    write_study(rows, options.output / f"{name}.csv")
    plot_study(rows, majority, options.output / f"{name}.png")
    print(study_table(rows))
    return rows


def _trials(
    videos: Path, recipes: Mapping[str, Config], options: RecipesOptions
) -> list[Trial]:
    """Returns what is to be trained; decodes the videos for it."""
    from har_keras.benchmark.cross_validation import Trial
    from har_keras.manifest.folds import folds
    from har_keras.manifest.manifest import Manifest
    from har_keras.prepare import prepare

    trials = []
    for name, config in recipes.items():
        share = config.split.val_fraction
        manifest = Manifest.from_folder(
            videos,
            val_fraction=share if options.test else 0.0,
            test_fraction=0.0,
            seed=config.split.split_seed,
        )
        store, manifest = prepare(manifest, config.clip, config.store)
        same = {"cache": store.spec.form, "wandb": "off"}
        parts = {"test": manifest}
        if not options.test:
            parts = {
                str(number): part
                for number, part in enumerate(
                    folds(
                        manifest,
                        options.folds,
                        val_fraction=share,
                        seed=config.split.split_seed,
                    )
                )
            }
        elif not manifest.usable("test"):
            raise DataError(f"'{videos}' has no test videos of its own.")
        for seed in range(options.seeds):
            for fold, part in parts.items():
                folder = options.output / "trials" / f"{name}-{seed}-{fold}"
                chosen = config.replace(seed=seed, **same)
                trials.append(Trial(name, fold, chosen, part, folder))
    return trials


def _recipes(argv: Sequence[str]) -> None:
    options = cli.parse(RecipesOptions, argv, verb="benchmark recipes")
    for name in ("seeds", "jobs"):
        if getattr(options, name) < 1:
            raise UsageError(
                f"--{name} must be at least 1. Received: "
                f"{getattr(options, name)}."
            )
    given = {
        name: value
        for name, value in options.settings.flat().items()
        if value != Config().flat()[name]
    }
    recipes = {}
    for text in options.recipes.split(","):
        path = Path(text)
        chosen = read_toml(path) if path.suffix == ".toml" else {"recipe": text}
        recipes[path.stem] = Config().replace(**chosen | given)
    benchmark_recipes(options.videos, recipes, options)


PARTS: dict[str, Callable[[Sequence[str]], None]] = {
    "step": _step,
    "input": _input,
    "recipes": _recipes,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the part that the first argument names."""

    def verb() -> None:
        arguments = sys.argv[1:] if argv is None else list(argv)
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return
        part, *rest = arguments
        if part not in PARTS:
            raise UsageError(
                f"There is no benchmark '{part}'. Choose {', '.join(PARTS)}."
            )
        PARTS[part](rest)

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
