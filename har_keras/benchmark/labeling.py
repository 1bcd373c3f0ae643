"""The labeling benchmark: people who label, simulated on labelled videos."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from har_keras.backbones.catalog import require_backbone
from har_keras.benchmark.labeling_results import (
    DoubtRow,
    LabelingStudy,
    labeling_tables,
    plot_labeling,
    write_labeling,
)
from har_keras.errors import DataError, UsageError
from har_keras.manifest.groups import split_groups
from har_keras.manifest.manifest import Manifest
from har_keras.progress import ProgressBar
from har_keras.store.preparation import decode_usable
from har_keras.store.scenes import group_by_scenes
from har_keras.suggestions.features import features_config, sample_features
from har_keras.suggestions.linear import Components, Floats, Ints
from har_keras.suggestions.next_samples import typical
from har_keras.suggestions.samples import Sample
from har_keras.suggestions.suggest import Judgement, judge

# Of the videos, in groups that are held out to measure the accuracy.
_HELD_OUT = 0.3


@dataclass(frozen=True)
class LabelledVideos:
    """Videos whose labels are known, to be asked for.

    Args:
        features: float array of shape `(N, D)`.
        labels: int array of shape `(N,)`.
        groups: Sequence of str.
        class_names: Sequence of str.
        is_test: bool array of shape `(N,)`. The test split of the folder.
    """

    features: Floats
    labels: Ints
    groups: Sequence[str]
    class_names: Sequence[str]
    is_test: np.ndarray


@dataclass(frozen=True)
class Desk:
    """What a simulated person has before them.

    Args:
        x: float array of shape `(N, C)`. The components of the videos.
        labels: int array of shape `(N,)`. What the person will answer.
        groups: Sequence of str. The groups of the videos.
        num_classes: int. Classes, K.
    """

    x: Floats
    labels: Ints
    groups: Sequence[str]
    num_classes: int

    def judged(self, answered: Ints, seed: int) -> Judgement:
        """Returns what is known after some answers."""
        labels = self.labels[answered]
        return judge(
            self.x, answered, labels, self.groups, self.num_classes, seed=seed
        )


Strategy = Callable[[Desk, Ints, Judgement, np.random.Generator], list[int]]


def _suggested(
    desk: Desk, answered: Ints, found: Judgement, rng: np.random.Generator
) -> list[int]:
    """What `suggest` says: typical ones, then far and uncertain ones."""
    return found.order(desk.x, answered, desk.groups)


def _random(
    desk: Desk, answered: Ints, found: Judgement, rng: np.random.Generator
) -> list[int]:
    return _open(desk, answered, rng).tolist()


def _core_set(
    desk: Desk, answered: Ints, found: Judgement, rng: np.random.Generator
) -> list[int]:
    """Greedy k-center (Sener and Savarese, 2018)."""
    order: list[int] = []
    nearest = np.full(len(desk.x), np.inf)
    waiting = answered.tolist()
    while len(order) < len(desk.x) - len(answered):
        for index in waiting:
            away = np.square(desk.x - desk.x[index]).sum(1)
            nearest = np.minimum(nearest, away)
        nearest[[*answered, *order]] = -1.0
        waiting = [int(nearest.argmax())]
        order += waiting
    return order


def _typical(
    desk: Desk, answered: Ints, found: Judgement, rng: np.random.Generator
) -> list[int]:
    """A typical sample of each cluster (Hacohen et al., 2022), then random."""
    first = typical(desk.x, answered) if len(answered) < 20 else []
    rest = _open(desk, answered, rng)
    return [*first, *rest[~np.isin(rest, first)].tolist()]


def _margin(
    desk: Desk, answered: Ints, found: Judgement, rng: np.random.Generator
) -> list[int]:
    """The smallest margin first (Scheffer et al., 2001)."""
    rest = _open(desk, answered, rng)
    if found.probabilities is None:
        return rest.tolist()
    ranked = np.sort(found.probabilities[rest], axis=1)
    order = np.argsort(ranked[:, -1] - ranked[:, -2], kind="stable")
    return rest[order].tolist()


def _badge(
    desk: Desk, answered: Ints, found: Judgement, rng: np.random.Generator
) -> list[int]:
    """k-means++ on the gradients of the last layer (Ash et al., 2020)."""
    rest = _open(desk, answered, rng)
    if found.probabilities is None:
        return rest.tolist()
    rows = found.probabilities[rest]
    errors = rows - np.eye(desk.num_classes)[rows.argmax(1)]
    gradients = errors[:, :, None] * desk.x[rest][:, None]
    gradients = gradients.reshape(len(rest), -1)
    order = [int(np.square(gradients).sum(1).argmax())]
    nearest = np.full(len(rest), np.inf)
    while len(order) < len(rest):
        away = np.square(gradients - gradients[order[-1]]).sum(1)
        nearest = np.minimum(nearest, away)
        nearest[order] = 0.0
        if not nearest.any():
            order += [i for i in range(len(rest)) if i not in order]
            break
        order.append(int(rng.choice(len(rest), p=nearest / nearest.sum())))
    return rest[order].tolist()


def _open(desk: Desk, answered: Ints, rng: np.random.Generator) -> Ints:
    """Returns the videos without an answer, in random order."""
    return rng.permutation(np.setdiff1d(np.arange(len(desk.x)), answered))


STRATEGIES: dict[str, Strategy] = {
    "random": _random,
    "suggested": _suggested,
    "typical": _typical,
    "core-set": _core_set,
    "margin": _margin,
    "badge": _badge,
}


def benchmark_labeling(
    videos: Path,
    store_dir: Path | None = None,
    *,
    strategies: Sequence[str] = ("random", "suggested"),
    num_answers: int = 100,
    at_once: int = 5,
    num_starts: int = 20,
    wrong_share: float = 0.1,
    on_test: bool = False,
    first_start: int = 0,
    backbone: str = "efficientnet-lite0",
    output: Path = Path("labeling"),
) -> LabelingStudy:
    """Simulates labeling with and without help, and prints what it saves.

    Every start holds out other groups of videos, on which the accuracy is
    measured, and asks for labels of the others. All strategies have the same
    held-out videos, and the same classifier. Then a share of the labels is
    changed at random, to measure which of them `suggest` finds.

    Args:
        videos: Path. The folder of labelled videos.
        store_dir: Path or None. The store of frames and features. Defaults to
            that of the user.
        strategies: Sequence of str. Of `STRATEGIES`; the first is what the
            others are compared with.
        num_answers: int. Labels that are asked for. Defaults to `100`.
        at_once: int. Answers between two suggestions. Defaults to `5`.
        num_starts: int. Simulated people. Defaults to `20`.
        wrong_share: float. Share of labels that are changed. Defaults to
            `0.1`.
        on_test: bool. Whether to measure on the test split of the folder
            instead of on groups of the other videos. Defaults to `False`.
        first_start: int. The seed of the first start. Defaults to `0`.
        backbone: str. The network. Defaults to `"efficientnet-lite0"`.
        output: Path. The folder of the results.

    Returns:
        `LabelingStudy`.

    Raises:
        UsageError: If an argument is out of range.
        DataError: If the folder has too few videos, or no test split.
    """
    _require(strategies, num_answers, at_once, num_starts, wrong_share)
    if first_start < 0:
        raise UsageError(
            f"--first-start must be at least 0. Received: {first_start}."
        )
    found = labelled_videos(videos, store_dir, backbone, on_test=on_test)
    study = simulated(
        found,
        strategies,
        range(first_start, first_start + num_starts),
        num_answers=num_answers,
        at_once=at_once,
        wrong_share=wrong_share,
        on_test=on_test,
    )
    write_labeling(study, output / "labeling.csv")
    plot_labeling(study, output / "labeling.png")
    print(labeling_tables(study))
    return study


def simulated(
    found: LabelledVideos,
    strategies: Sequence[str],
    seeds: Sequence[int],
    *,
    num_answers: int,
    at_once: int,
    wrong_share: float,
    on_test: bool = False,
) -> LabelingStudy:
    """Simulates labeling of videos whose features are known.

    Args:
        found: LabelledVideos.
        strategies: Sequence of str. As of `benchmark_labeling`.
        seeds: Sequence of int. One for each start.
        num_answers: int. Labels that are asked for.
        at_once: int. Answers between two suggestions.
        wrong_share: float. Share of labels that are changed.
        on_test: bool. Whether to measure on the test videos.
    """
    rows: dict[str, list[list[float]]] = {name: [] for name in strategies}
    with ProgressBar("Labeling", len(seeds) * len(strategies)) as bar:
        for seed in seeds:
            held = found.is_test if on_test else _held_out(found, seed)
            for name in strategies:
                curve = _answering(found, held, name, seed, at_once)
                steps = -(-num_answers // at_once)
                rows[name].append(list(itertools.islice(curve, steps)))
                bar.advance()
    shortest = min(len(row) for name in rows for row in rows[name])
    if not shortest:
        raise DataError(
            f"{len(found.labels)} videos are too few to ask for {at_once} "
            "labels and hold others out. Add videos, or lower --at-once."
        )
    return LabelingStudy(
        {name: np.array([r[:shortest] for r in rows[name]]) for name in rows},
        [at_once * (place + 1) for place in range(shortest)],
        [doubts_found(found, wrong_share, seed) for seed in seeds],
        wrong_share,
    )


def _require(
    strategies: Sequence[str],
    num_answers: int,
    at_once: int,
    num_starts: int,
    wrong_share: float,
) -> None:
    for name in strategies:
        if name not in STRATEGIES:
            raise UsageError(
                f"There is no strategy '{name}'. Choose "
                f"{', '.join(STRATEGIES)}."
            )
    for flag, number, least in (
        ("at-once", at_once, 1),
        ("answers", num_answers, at_once),
        ("starts", num_starts, 2),
    ):
        if number < least:
            raise UsageError(
                f"--{flag} must be at least {least}. Received: {number}."
            )
    if not 0 < wrong_share < 0.5:
        raise UsageError(
            "--wrong must be a share between 0 and 0.5. Received: "
            f"{wrong_share}."
        )


def labelled_videos(
    videos: Path,
    store_dir: Path | None,
    backbone: str = "efficientnet-lite0",
    *,
    on_test: bool = False,
) -> LabelledVideos:
    """Reads the features of a folder of labelled videos.

    Args:
        videos: Path. The folder.
        store_dir: Path or None. The store. Defaults to that of the user.
        backbone: str. The network.
        on_test: bool. Whether its test videos are needed; else they are not
            read.

    Raises:
        DataError: If it has too few videos, or no test split.
    """
    manifest = Manifest.from_folder(videos, val_fraction=0.0, test_fraction=0.0)
    if not on_test:
        manifest = manifest.with_videos(
            video for video in manifest.videos if video.split != "test"
        )
    elif not manifest.split("test"):
        raise DataError(f"'{videos}' has no test split. Leave out --test.")
    config = features_config(store_dir, backbone=backbone)
    require_backbone(config.features, config.clip)
    store, manifest = decode_usable(manifest, config.clip, config.decoding)
    manifest = group_by_scenes(store, manifest)
    listed = [video for video in manifest.videos if video.kept_frames]
    samples = [Sample(manifest.path(v), v.start, v.end) for v in listed]
    return LabelledVideos(
        sample_features(samples, store_dir, backbone=backbone),
        np.array([manifest.label(video) for video in listed]),
        [video.group for video in listed],
        manifest.class_names,
        np.array([video.split == "test" for video in listed]),
    )


def _answering(
    found: LabelledVideos,
    held: np.ndarray,
    name: str,
    seed: int,
    at_once: int,
) -> Iterator[float]:
    """Yields the accuracy after every few answers of a simulated person."""
    components = Components.of(found.features[~held])
    (asked,) = np.nonzero(~held)
    desk = Desk(
        components.apply(found.features[asked]),
        found.labels[asked],
        [found.groups[i] for i in asked.tolist()],
        len(found.class_names),
    )
    tested = components.apply(found.features[held])
    rng = np.random.default_rng(seed)
    # The first is one of the person's own choice, the same for all strategies.
    answered, judgement = rng.integers(len(asked), size=1), Judgement()
    number = at_once - 1
    while len(answered) + number <= len(asked):
        order = STRATEGIES[name](desk, answered, judgement, rng)
        answered = np.concatenate([answered, order[:number]]).astype(int)
        judgement, number = desk.judged(answered, seed), at_once
        yield _accuracy(judgement, desk, answered, tested, found.labels[held])


def _held_out(found: LabelledVideos, seed: int) -> np.ndarray:
    """Returns which videos are held out; groups stay whole."""
    names = [found.class_names[label] for label in found.labels]
    splits = split_groups(
        list(found.groups), names, {"test": _HELD_OUT}, seed=seed
    )
    held = np.array([split == "test" for split in splits])
    if held.all() or not held.any():
        raise DataError("The videos are of one group: none can be held out.")
    return held


def _accuracy(
    found: Judgement,
    desk: Desk,
    answered: Ints,
    tested: Floats,
    labels: Ints,
) -> float:
    if found.model is None:  # of one class
        return float((labels == desk.labels[answered[0]]).mean())
    likely = found.model.probabilities(tested).argmax(1)
    return float((likely == labels).mean())


def doubts_found(found: LabelledVideos, share: float, seed: int) -> DoubtRow:
    """Changes some labels at random, and looks which are found.

    Args:
        found: LabelledVideos. Test videos are left out.
        share: float. Share of the labels that are changed.
        seed: int. Which, and to what.
    """
    (mine,) = np.nonzero(~found.is_test)
    rng = np.random.default_rng(seed)
    labels, number = found.labels[mine].copy(), round(share * len(mine))
    changed = rng.choice(len(mine), number, replace=False)
    others = rng.integers(1, len(found.class_names), number)
    labels[changed] = (labels[changed] + others) % len(found.class_names)
    x = Components.of(found.features[mine]).apply(found.features[mine])
    groups = [found.groups[i] for i in mine.tolist()]
    desk = Desk(x, labels, groups, len(found.class_names))
    doubts = [i for i, _, _ in desk.judged(np.arange(len(mine)), seed).doubts]
    right = np.isin(doubts, changed)
    return DoubtRow(
        number, len(doubts), int(right.sum()), int(right[:number].sum())
    )
