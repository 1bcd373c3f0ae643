import cv2
import numpy as np
import pytest

from har_keras.evaluation.metrics import curve, ranking
from har_keras.evaluation.robustness import CORRUPTIONS
from har_keras.report.plots import plot_ranking, plot_reliability


def pairwise_auc(truth, scores):
    """Counts pairs in the right order, the slow way."""
    gaps = scores[truth][:, None] - scores[~truth][None]
    return (gaps > 0).mean() + (gaps == 0).mean() / 2


@pytest.mark.parametrize("seed", range(4))
def test_the_roc_area_is_the_share_of_pairs_in_order(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.3
    scores = (rng.random(60) + 0.4 * truth).round(1)  # with ties
    found = curve(truth, scores)
    assert found.roc_auc == pytest.approx(pairwise_auc(truth, scores))
    assert found.recall[-1] == found.false_positive_rate[-1] == 1
    assert (np.diff(found.recall) >= 0).all()


def test_the_order_of_equal_scores_does_not_matter():
    truth = np.array([True, False, True, False])
    flat = np.full(4, 0.5)
    for order in ([0, 1, 2, 3], [1, 3, 0, 2]):
        found = curve(truth[order], flat)
        assert (found.roc_auc, found.average_precision) == (0.5, 0.5)


def test_a_perfect_and_a_reversed_ranking():
    truth = np.array([True, True, False, False])
    scores = np.array([0.9, 0.8, 0.2, 0.1])
    assert curve(truth, scores).roc_auc == 1
    assert curve(truth, scores).average_precision == 1
    assert curve(truth, -scores).roc_auc == 0


def test_a_class_without_videos_has_no_areas():
    rows = ranking(
        np.array([0, 0]), np.array([[0.9, 0.1], [0.6, 0.4]]), ("gym", "walk")
    )
    assert rows[1] == {
        "class": "walk", "roc_auc": None, "average_precision": None,
    }  # fmt: skip
    assert rows[0]["roc_auc"] is None


def test_curves_are_drawn(tmp_path):
    truth = np.array([True, False, True, False])
    found = curve(truth, np.array([0.9, 0.8, 0.7, 0.1]))
    plot_ranking({"$x$ <b>": found, "none": None}, tmp_path / "a.png")
    bins = [{"confidence": 0.6, "accuracy": 0.5, "count": 3}]
    plot_reliability(bins, [], tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert cv2.imread(str(tmp_path / name)).std() > 5


@pytest.mark.parametrize("damage", CORRUPTIONS, ids=lambda damage: damage.name)
def test_worse_pictures_are_the_same_clip_made_worse(damage):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 8, 10, 3), np.uint8)
    clip = np.stack([cv2.resize(frame, (80, 64)) for frame in coarse])
    before = clip.copy()
    found = damage.change(clip, np.random.default_rng(1))
    assert (found.shape, found.dtype) == (clip.shape, np.uint8)
    assert (found != clip).any()
    np.testing.assert_array_equal(clip, before)
    again = damage.change(clip, np.random.default_rng(1))
    np.testing.assert_array_equal(found, again)
    assert damage.text


def test_compression_keeps_colours_in_their_order():
    clip = np.zeros((1, 64, 64, 3), np.uint8)
    clip[..., 0] = 200
    (compressed,) = [x for x in CORRUPTIONS if x.name == "compressed"]
    found = compressed.change(clip, np.random.default_rng(0))
    assert found[..., 0].mean() > 150
    assert found[..., 2].mean() < 50
