"""Segments in time against labels: F1, average precision, frames, edits.

The definitions are those of the literature on temporal action segmentation and
detection. What is none of the actions, such as the background, is no segment;
it counts for the accuracy of frames alone.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from har_keras.evaluation.metrics import resampled_interval
from har_keras.inference.timeline import NONE, Segment
from har_keras.manifest.parts import BACKGROUND, TOUCHING_SECONDS

F1_OVERLAPS = (0.1, 0.25, 0.5)
"""Intersections over union from which a segment counts as found."""

# Means of average precision over these are what challenges rank by.
_RANGES = {
    "0.3:0.7": (0.3, 0.4, 0.5, 0.6, 0.7),
    "0.5:0.95": tuple(round(0.5 + 0.05 * i, 2) for i in range(10)),
}
_NO_ACTION = -1


# Labels and predicted segments of a video, by class.
_Pairs = dict[str, tuple[list[Segment], list[Segment]]]


@dataclass(frozen=True)
class VideoSegments:
    """The labels of a whole video, and what was predicted.

    Args:
        file: str. The video.
        group: str. Its group.
        num_frames: int. Its stored frames.
        fps: float. Stored frames per second.
        truth: tuple of Segment. Its labels, each with score 1.
        predicted: tuple of Segment. Those of its timeline.
        is_group_known: bool. Whether anything tells its group; else it is the
            file itself.
    """

    file: str
    group: str
    num_frames: int
    fps: float
    truth: tuple[Segment, ...]
    predicted: tuple[Segment, ...]
    is_group_known: bool = True


def evaluate_segments(
    videos: Sequence[VideoSegments], class_names: Sequence[str]
) -> dict[str, Any]:
    """Computes all metrics of segments, as stored in `evaluation.json`.

    Args:
        videos: Sequence of VideoSegments. At least one.
        class_names: Sequence of str. Class names in label order.

    Returns:
        A dict of numbers, strings, lists and dicts, ready for JSON.

    Example:

    >>> truth = (Segment(0.0, 4.0, "walk", 1.0), Segment(4.0, 8.0, "gym", 1.0))
    >>> found = (Segment(0.0, 5.0, "walk", 0.9), Segment(5.0, 8.0, "gym", 0.8))
    >>> video = VideoSegments("a.mp4", "a", 80, 10.0, truth, found)
    >>> figures = evaluate_segments([video], ("gym", "walk"))
    >>> figures["f1"]["0.5"], figures["frame_accuracy"], figures["edit_score"]
    (1.0, 0.875, 1.0)

    Reference:
        - [Lea et al., 2017](https://arxiv.org/abs/1611.05267), section 4.1
          (segmental F1 and edit score).
        - [Heilbron et al., 2015](https://doi.org/10.1109/CVPR.2015.7298698)
          (average precision of detections in time).
    """
    no_action = tuple(x for x in class_names if x in (BACKGROUND, NONE))
    actions = [name for name in class_names if name not in no_action]
    pairs = [_by_class(video, actions) for video in videos]
    counts = {k: _counts(pairs, actions, k) for k in F1_OVERLAPS}
    of_videos = {k: rows.sum(1) for k, rows in counts.items()}
    overlaps = {*F1_OVERLAPS, *(x for part in _RANGES.values() for x in part)}
    precisions = {
        overlap: [_average_precision(pairs, x, overlap) for x in actions]
        for overlap in sorted(overlaps)
    }
    means = {overlap: _mean(rows) for overlap, rows in precisions.items()}
    groups = [video.group for video in videos]
    unknown = sum(not video.is_group_known for video in videos)
    known = 2 * unknown <= len(videos)
    return {
        "num_videos": len(videos),
        "num_groups": len(set(groups)),
        "num_unknown_groups": unknown,
        "num_segments": _number(pairs, actions, 0),
        "num_predicted": _number(pairs, actions, 1),
        "no_action": sorted({NONE, *no_action}),
        "f1": {str(k): f1(*rows.sum(0)) for k, rows in of_videos.items()},
        # As of the accuracy: none where nothing tells what belongs together.
        "f1_interval": {
            str(k): f1_interval(rows, groups) if known else None
            for k, rows in of_videos.items()
        },
        "num_matched": {
            str(k): int(rows[:, 0].sum()) for k, rows in of_videos.items()
        },
        "mean_average_precision": {
            **{str(k): means[k] for k in F1_OVERLAPS},
            **{
                name: _mean([means[k] for k in part])
                for name, part in _RANGES.items()
            },
        },
        "edit_score": _mean([_edit(video, actions) for video in videos]),
        **_frame_accuracy(videos, actions),
        "per_class": [
            _class_row(
                name,
                pairs,
                {k: rows[:, place] for k, rows in counts.items()},
                {k: rows[place] for k, rows in precisions.items()},
            )
            for place, name in enumerate(actions)
        ],
    }


def _class_row(
    name: str,
    pairs: Sequence[_Pairs],
    counts: Mapping[float, np.ndarray],
    precisions: Mapping[float, float | None],
) -> dict[str, Any]:
    """Returns the figures of one class; None where it has no label."""
    support = _number(pairs, [name], 0)
    found = {str(k): f1(*rows.sum(0)) for k, rows in counts.items()}
    return {
        "class": name,
        "num_segments": support,
        "num_predicted": _number(pairs, [name], 1),
        "f1": found if support else None,
        "average_precision": {str(k): precisions[k] for k in F1_OVERLAPS},
    }


def _by_class(video: VideoSegments, actions: Collection[str]) -> _Pairs:
    """Returns the labels and the predicted segments of a video, by class."""
    found: _Pairs = defaultdict(lambda: ([], []))
    for side, items in enumerate((video.truth, video.predicted)):
        for item in joined(items):
            if item.label in actions:
                found[item.label][side].append(item)
    return dict(found)


def _counts(
    pairs: Sequence[_Pairs], actions: Sequence[str], overlap: float
) -> np.ndarray:
    """Returns what `matches` counts, `int64` `(num_videos, K, 3)`."""
    counts = np.zeros((len(pairs), len(actions), 3), np.int64)
    places = {name: place for place, name in enumerate(actions)}
    for row, by_class in enumerate(pairs):
        for name, (truth, predicted) in by_class.items():
            counts[row, places[name]] = matches(truth, predicted, overlap)
    return counts


def _number(pairs: Sequence[_Pairs], actions: Sequence[str], side: int) -> int:
    """Returns how many labels (side 0) or predicted segments (1) there are."""
    return sum(
        len(by_class[name][side])
        for by_class in pairs
        for name in actions
        if name in by_class
    )


def joined(segments: Sequence[Segment]) -> list[Segment]:
    """Returns segments in order, those of one class that touch as one.

    Labels of frames, on which the metrics are defined, can't tell them apart.

    Example:

    >>> joined([Segment(0, 2, "gym", 1.0), Segment(2.05, 5, "gym", 1.0)])
    [Segment(start_seconds=0, end_seconds=5, label='gym', score=1.0)]
    """
    found: list[Segment] = []
    for item in sorted(segments, key=lambda x: x.start_seconds):
        last = found[-1] if found else None
        if (
            last
            and last.label == item.label
            and item.start_seconds - last.end_seconds <= TOUCHING_SECONDS
        ):
            end = max(last.end_seconds, item.end_seconds)
            found[-1] = Segment(
                last.start_seconds,
                end,
                last.label,
                (last.score + item.score) / 2,
            )
        else:
            found.append(item)
    return found


def overlap_of(first: Segment, second: Segment) -> float:
    """Returns the intersection over union of two intervals.

    Example:

    >>> overlap_of(Segment(0, 4, "gym", 1), Segment(2, 6, "gym", 1))
    0.3333333333333333
    """
    begin = max(first.start_seconds, second.start_seconds)
    end = min(first.end_seconds, second.end_seconds)
    shared = max(0.0, end - begin)
    lengths = (x.end_seconds - x.start_seconds for x in (first, second))
    union = sum(lengths) - shared
    return shared / union if union > 0 else 0.0


def matches(
    truth: Sequence[Segment], predicted: Sequence[Segment], overlap: float
) -> tuple[int, int, int]:
    """Counts segments that are found, wrong and missed.

    A predicted segment is found if the label of its class that it overlaps
    most does so by the threshold and was not found before.

    Args:
        truth: Sequence of Segment. Labels, without those of no action.
        predicted: Sequence of Segment. In order of time, without those of no
            action.
        overlap: float. Smallest intersection over union.

    Returns:
        True positives, false positives and false negatives.

    Example:

    >>> matches([Segment(0, 4, "gym", 1)], [Segment(0, 1, "gym", 1)], 0.25)
    (1, 0, 0)
    >>> matches([Segment(0, 4, "gym", 1)], [Segment(0, 4, "walk", 1)], 0.1)
    (0, 1, 1)
    """
    taken: set[int] = set()
    for item in predicted:
        overlaps = [
            overlap_of(item, label) if label.label == item.label else 0.0
            for label in truth
        ]
        best = int(np.argmax(overlaps)) if overlaps else _NO_ACTION
        if overlaps and overlaps[best] >= overlap and best not in taken:
            taken.add(best)
    found = len(taken)
    return found, len(predicted) - found, len(truth) - found


def f1(found: int, wrong: int, missed: int) -> float:
    """Returns the harmonic mean of precision and recall; 1 if all is empty.

    Example:

    >>> f1(3, 1, 1), f1(0, 0, 0)
    (0.75, 1.0)
    """
    total = 2 * found + wrong + missed
    return float(2 * found / total) if total else 1.0


def f1_interval(
    counts: np.ndarray, groups: Sequence[str], *, seed: int = 0
) -> list[float] | None:
    """Returns the 95 % interval of F1, by a bootstrap over groups.

    Args:
        counts: int array of shape `(num_videos, 3)`. True positives, false
            positives and false negatives.
        groups: Sequence of str, one per video.
        seed: int. Seed of the resampling. Defaults to `0`.

    Returns:
        `[low, high]`, or None with fewer than two groups.
    """
    return resampled_interval(
        counts, groups, lambda sums: [f1(*row) for row in sums], seed=seed
    )


def edit_score(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Returns how well the order of segments is found, whatever their times.

    Args:
        truth: Sequence of str. The classes of the labels, in order.
        predicted: Sequence of str. Those of the predicted segments.

    Returns:
        float. 1 minus the Levenshtein distance over the longer length.

    Example:

    >>> edit_score(["gym", "walk", "gym"], ["gym", "walk"])
    0.6666666666666667
    """
    longest = max(len(truth), len(predicted))
    if not longest:
        return 1.0
    row = list(range(len(predicted) + 1))
    for i, name in enumerate(truth, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(predicted, 1):
            changed = before + (name != other)
            before = row[j]
            row[j] = min(changed, row[j] + 1, row[j - 1] + 1)
    return 1 - row[-1] / longest


def average_precision(
    videos: Sequence[VideoSegments], name: str, overlap: float
) -> float | None:
    """Returns the interpolated average precision of a class.

    Predicted segments are taken from the highest score down; each finds the
    label that it overlaps most of those that are left.

    Args:
        videos: Sequence of VideoSegments.
        name: str. The class.
        overlap: float. Smallest intersection over union.

    Returns:
        float, or None if no video has a label of the class.
    """
    pairs = [_by_class(video, [name]) for video in videos]
    return _average_precision(pairs, name, overlap)


def _average_precision(
    pairs: Sequence[_Pairs], name: str, overlap: float
) -> float | None:
    mine = [by_class[name] for by_class in pairs if name in by_class]
    left = [list(truth) for truth, _ in mine]
    total = sum(map(len, left))
    if not total:
        return None
    ranked = sorted(
        ((i, x) for i, (_, predicted) in enumerate(mine) for x in predicted),
        key=lambda pair: -pair[1].score,
    )
    hits = np.zeros(len(ranked))
    for rank, (i, item) in enumerate(ranked):
        overlaps = [overlap_of(item, label) for label in left[i]]
        if overlaps and max(overlaps) >= overlap:
            del left[i][int(np.argmax(overlaps))]
            hits[rank] = 1
    precision = hits.cumsum() / np.arange(1, len(ranked) + 1)
    # The best precision at this recall or a higher one.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((hits * best).sum() / total)


def _actions(
    segments: Sequence[Segment], actions: Collection[str]
) -> list[Segment]:
    return [x for x in joined(segments) if x.label in actions]


def _edit(video: VideoSegments, actions: Collection[str]) -> float:
    return edit_score(
        [x.label for x in _actions(video.truth, actions)],
        [x.label for x in _actions(video.predicted, actions)],
    )


def frame_labels(
    segments: Sequence[Segment], video: VideoSegments, actions: Sequence[str]
) -> np.ndarray:
    """Returns the label of each frame, `int64` `(num_frames,)`; -1 is none."""
    labels = np.full(video.num_frames, _NO_ACTION)
    times = np.arange(video.num_frames) / video.fps + 1e-6
    for item in segments:
        if item.label in actions:
            first, end = np.searchsorted(
                times, [item.start_seconds, item.end_seconds]
            )
            labels[first:end] = actions.index(item.label)
    return labels


def _frame_accuracy(
    videos: Sequence[VideoSegments], actions: Sequence[str]
) -> dict[str, Any]:
    """Returns the accuracy of all frames, and of those with an action."""
    sums: dict[str, int] = defaultdict(int)
    for video in videos:
        truth = frame_labels(video.truth, video, actions)
        right = truth == frame_labels(video.predicted, video, actions)
        labelled = truth != _NO_ACTION
        sums["num_frames"] += len(truth)
        sums["num_correct_frames"] += int(right.sum())
        sums["num_labelled_frames"] += int(labelled.sum())
        sums["num_correct_labelled_frames"] += int((right & labelled).sum())
    return {
        "frame_accuracy": sums["num_correct_frames"] / sums["num_frames"],
        "labelled_frame_accuracy": sums["num_correct_labelled_frames"]
        / max(1, sums["num_labelled_frames"]),
        **sums,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Returns the mean of what is known; None if nothing is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
