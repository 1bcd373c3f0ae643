"""What an evaluation means, in sentences: how good, how sure, what next."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from har_keras.progress import plural

# Of fewer, the accuracy on similar videos may be ten points away.
FEW_VIDEOS = 50
_WIDE_INTERVAL = 0.15
_LOW_RECALL = 0.8
_NUM_PAIRS = 3
# With more videos a class, the learning curve in docs/results.md is flat.
_ENOUGH_A_CLASS = 40
_GUESSES = 0.02


@dataclass(frozen=True)
class Verdict:
    """Sentences that answer what a reader asks first.

    Args:
        good: str. How many answers were right, and against guessing.
        sure: str. How far the accuracy on other videos may be from that.
        mixed: str. Which classes are taken for which.
        steps: tuple of str. What to do next, the most useful first.
    """

    good: str
    sure: str
    mixed: str
    steps: tuple[str, ...]


def verdict(
    figures: Mapping[str, Any],
    videos: Mapping[str, Mapping[str, int]],
    options: Mapping[str, Any],
) -> Verdict:
    """Says what an evaluation means.

    Args:
        figures: Mapping. Those of `evaluation.json`.
        videos: Mapping from class to counts of videos by split.
        options: Mapping. Every option of the run by name.

    Returns:
        A `Verdict`.
    """
    return Verdict(
        _good(figures),
        _sure(figures),
        _mixed(figures),
        tuple(_steps(figures, videos, options)),
    )


def interval_of(figures: Mapping[str, Any]) -> tuple[float, float] | None:
    """Returns the interval of the accuracy; at least that over videos.

    Where groups are unknown, it is that of videos which are independent, and
    too narrow if they are not.
    """
    found = figures["accuracy_interval"] or figures.get(
        "interval_if_independent"
    )
    return (float(found[0]), float(found[1])) if found else None


def _good(figures: Mapping[str, Any]) -> str:
    unit = str(figures.get("unit", "videos"))
    right, number = figures["num_correct"], figures["num_videos"]
    guess = figures["majority_accuracy"]
    text = f"{right} of {number} test {unit} were classified correctly. "
    interval = interval_of(figures)
    gain = round(100 * (figures["accuracy"] - guess))
    always = f"always answering the most frequent class ({_share(guess)})"
    if interval and interval[0] > guess + _GUESSES:
        return f"{text}That is {gain} points better than {always}."
    if gain <= 0:
        return f"{text}That is no better than {always}: it learned nothing."
    return f"{text}It is not shown to be better than {always}."


def _sure(figures: Mapping[str, Any]) -> str:
    interval = interval_of(figures)
    if interval is None:
        return "How sure that is can't be told from so few videos."
    low, high = (_share(end) for end in interval)
    text = f"On other videos of this kind, expect {low} to {high}"
    unknown = figures.get("num_unknown_groups", 0)
    if 2 * unknown > figures["num_videos"]:
        return (
            f"{text} at best: nothing tells which videos are of one person, "
            "place or recording, so the test may flatter."
        )
    groups = plural(figures["num_groups"], "independent recording")
    return f"{text} (95 % confidence, over {groups})."


def _mixed(figures: Mapping[str, Any]) -> str:
    names = figures["class_names"]
    pairs = sorted(
        (
            (count, names[row], names[column], sum(counts))
            for row, counts in enumerate(figures["confusion"])
            for column, count in enumerate(counts)
            if row != column and count
        ),
        key=lambda pair: -pair[0] / pair[3],
    )
    if not pairs:
        return "No class was taken for another."
    said = [
        f"'{name}' was taken for '{other}' in {count} of {total}"
        for count, name, other, total in pairs[:_NUM_PAIRS]
    ]
    return "; ".join(said) + "."


def _steps(
    figures: Mapping[str, Any],
    videos: Mapping[str, Mapping[str, int]],
    options: Mapping[str, Any],
) -> Iterator[str]:
    weak = [
        row
        for row in figures["per_class"]
        if row["support"] and row["recall"] < _LOW_RECALL
    ]
    for row in sorted(weak, key=lambda row: row["recall"])[:_NUM_PAIRS]:
        counts = videos.get(row["class"], {})
        number = counts.get("train", 0)
        if number < _ENOUGH_A_CLASS:
            yield (
                f"Add training videos of '{row['class']}': it has {number}, "
                f"and {_share(row['recall'])} of its test videos were found."
            )
        else:
            yield (
                f"Look at the mistakes of '{row['class']}' below: with "
                f"{number} training videos, its labels or its definition may "
                "be the reason."
            )
    for row in figures["per_class"]:
        if not row["support"]:
            yield f"Add test videos of '{row['class']}': it was not tested."
    interval = interval_of(figures)
    if interval is None or interval[1] - interval[0] > _WIDE_INTERVAL:
        yield (
            "Test on more videos, of other people and places than in "
            f"training: {figures['num_videos']} tell the accuracy only "
            "roughly."
        )
    if 2 * figures.get("num_unknown_groups", 0) > figures["num_videos"]:
        yield (
            "Name the person, place or recording of each video, in a column "
            "group of manifest.csv or with --group-by, and train again."
        )
    starts_from_nothing = (
        options.get("backbone", "none") == "none"
        and options.get("weights", "random") == "random"
    )
    few = sum(counts.get("train", 0) for counts in videos.values()) < 500
    if starts_from_nothing and few:
        yield "Try --recipe transfer, which starts from a pretrained network."
    if figures["num_failed"]:
        yield "Repair the videos that could not be scored, named below."


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def headline(evaluation: Mapping[str, Any]) -> str:
    """Summarizes the result in up to three sentences.

    Example:

    >>> headline({"num_correct": 60, "num_videos": 80, "num_failed": 1,
    ...     "accuracy_interval": [0.5, 1.0], "num_groups": 20,
    ...     "balanced_accuracy": 0.75, "majority_accuracy": 0.5})
    '60 of 80 videos correct (95 % confidence interval 50.0 % to 100.0 %, over
    20 groups). Balanced accuracy 75.0 %. Always predicting the largest class
    gives 50.0 %. 1 of 81 videos could not be scored and is not counted.'
    """
    found, unit = evaluation, evaluation.get("unit", "videos")
    interval = ""
    if found["accuracy_interval"]:
        low, high = map(percent, found["accuracy_interval"])
        groups = found["num_groups"]
        interval = (
            f" (95 % confidence interval {low} to {high}, over {groups} groups)"
        )
    text = (
        f"{_caution(found)}{found['num_correct']} of {found['num_videos']} "
        f"{unit} correct"
        f"{interval}. Balanced accuracy "
        f"{percent(found['balanced_accuracy'])}. Always predicting the largest "
        f"class gives {percent(found['majority_accuracy'])}."
    )
    return text + _unscored(found)


def remainder(evaluation: Mapping[str, Any]) -> str:
    """Returns the figures that a `Verdict` leaves out.

    Example:

    >>> remainder({"balanced_accuracy": 0.75, "num_failed": 0})
    'Balanced accuracy 75.0 %.'
    """
    share = percent(evaluation["balanced_accuracy"])
    return f"Balanced accuracy {share}.{_unscored(evaluation)}"


def _unscored(found: Mapping[str, Any]) -> str:
    failed = found["num_failed"]
    if not failed:
        return ""
    unit, verb = found.get("unit", "videos"), "is" if failed == 1 else "are"
    return (
        f" {failed} of {found['num_videos'] + failed} {unit} could not be "
        f"scored and {verb} not counted."
    )


def is_few(found: Mapping[str, Any]) -> bool:
    """Whether there are too few videos for an accuracy to be trusted."""
    return bool(found["num_videos"] < FEW_VIDEOS)


def big_figure(found: Mapping[str, Any]) -> str:
    """Returns the accuracy in large letters; of few videos, its range."""
    interval = found.get("interval_if_independent")
    if not is_few(found) or not interval:
        return f"{percent(found['accuracy'])} accuracy"
    low, high = (f"{100 * end:.0f} %" for end in interval)
    return f"{low} to {high} accuracy"


def _caution(found: Mapping[str, Any]) -> str:
    """Returns what to know before the figures are read."""
    text = ""
    unknown = found.get("num_unknown_groups", 0)
    if 2 * unknown > found["num_videos"]:
        text += (
            "The test may flatter: nothing tells which videos are of one "
            "person, place or recording, so some of them may have been "
            "trained on. "
        )
    if not is_few(found):
        return text
    interval = found.get("interval_if_independent")
    margin = ""
    if interval and not found["accuracy_interval"]:
        low, high = map(percent, interval)
        margin = f": between {low} and {high}, even if all are independent"
    number = plural(found["num_videos"], "test video")
    return f"{text}With only {number} the accuracy is uncertain{margin}. "


def percent(share: float) -> str:
    """Formats a fraction as a percentage.

    Example:

    >>> percent(0.4444)
    '44.4 %'
    """
    return f"{100 * share:.1f} %"
