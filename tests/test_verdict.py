"""The report's first screen: how good, how sure, what next."""

import pytest

from har_keras.report.verdict import verdict

VIDEOS = {
    "gym": {"train": 100, "val": 10, "test": 28},
    "walk": {"train": 20, "val": 10, "test": 20},
    "work": {"train": 90, "val": 10, "test": 15},
}
TRANSFER = {"backbone": "efficientnet-lite0", "weights": "random"}


def figures(confusion, **changes):
    names = list(VIDEOS)
    rows = [sum(row) for row in confusion]
    number = sum(rows)
    correct = sum(confusion[i][i] for i in range(3))
    return {
        "accuracy": correct / number,
        "accuracy_interval": [0.87, 0.985],
        "num_videos": number,
        "num_correct": correct,
        "num_groups": 36,
        "num_unknown_groups": 0,
        "num_failed": 0,
        "majority_accuracy": max(rows) / number,
        "class_names": names,
        "confusion": confusion,
        "per_class": [
            {
                "class": name,
                "support": rows[i],
                "recall": confusion[i][i] / rows[i] if rows[i] else None,
            }
            for i, name in enumerate(names)
        ],
    } | changes


GOOD = [[28, 0, 0], [0, 18, 2], [0, 2, 13]]


def test_a_good_model_is_said_to_be_good():
    said = verdict(figures(GOOD), VIDEOS, TRANSFER)
    assert said.good == (
        "59 of 63 test videos were classified correctly. That is 49 points "
        "better than always answering the most frequent class (44 %)."
    )
    assert "expect 87 % to 98 % (95 % confidence, over 36" in said.sure
    assert said.mixed == (
        "'work' was taken for 'walk' in 2 of 15; "
        "'walk' was taken for 'work' in 2 of 20."
    )
    assert said.steps == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy_interval": [0.4, 0.98]}, "not shown to be better"),
        ({"majority_accuracy": 0.95}, "it learned nothing"),
    ],
)
def test_what_is_no_better_than_guessing_is_said(changes, words):
    assert words in verdict(figures(GOOD, **changes), VIDEOS, TRANSFER).good


def test_a_weak_class_with_few_videos_needs_more():
    weak = [[28, 0, 0], [10, 8, 2], [0, 2, 13]]
    said = verdict(figures(weak), VIDEOS, TRANSFER)
    assert said.mixed.startswith("'walk' was taken for 'gym' in 10 of 20")
    assert said.steps == (
        "Add training videos of 'walk': it has 20, and 40 % of its test "
        "videos were found.",
    )


def test_a_weak_class_with_many_videos_needs_a_look():
    weak = [[28, 0, 0], [0, 18, 2], [0, 8, 7]]
    (step,) = verdict(figures(weak), VIDEOS, TRANSFER).steps
    assert step.startswith("Look at the mistakes of 'work'")


def test_unknown_groups_few_videos_and_no_backbone_are_next():
    found = figures(
        [[3, 0, 0], [0, 2, 0], [0, 0, 0]],
        accuracy_interval=None,
        interval_if_independent=[0.5, 1.0],
        num_unknown_groups=5,
        num_failed=1,
    )
    said = verdict(found, VIDEOS, {"backbone": "none", "weights": "random"})
    assert "at best: nothing tells which videos are of one person" in said.sure
    starts = ["Add test videos of 'work'", "Test on more", "Name the person"]
    starts += ["Try --recipe transfer", "Repair"]
    assert len(said.steps) == len(starts)
    for step, start in zip(said.steps, starts, strict=True):
        assert step.startswith(start)


def test_without_any_interval_nothing_is_promised():
    found = figures(GOOD, accuracy_interval=None)
    assert "can't be told" in verdict(found, VIDEOS, TRANSFER).sure
