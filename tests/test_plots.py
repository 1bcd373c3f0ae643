import cv2
import numpy as np
import pytest

from har_keras.errors import DataError
from har_keras.evaluation.metrics import curve
from har_keras.report import plots
from har_keras.report.film_strips import Strip

HEADER = "epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds\n"


def picture(path):
    image = cv2.imread(str(path))
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def has_colour(image, colour):
    """Whether some pixel is nearly of a colour written as "#rrggbb"."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(image.astype(int) - wanted).max(-1) < 12).any())


def strip(prediction="walk", **changes):
    frames = np.full((4, 56, 56, 3), 90, "uint8")
    options = {"file": "a.mp4", "frames": frames, "truth": "walk"}
    return Strip(**(options | {"prediction": prediction} | changes))


def draw_curves(tmp_path, lines):
    (tmp_path / "history.csv").write_text(HEADER + "\n".join(lines))
    plots.plot_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    return picture(tmp_path / "curves.png")


def test_curves_show_training_and_validation(tmp_path):
    image = draw_curves(
        tmp_path,
        [
            f"{e},{1 / e},{0.1 * e},{1.2 / e},{0.09 * e},0.1,1"
            for e in (1, 2, 3)
        ],
    )
    assert has_colour(image, plots.BLUE)
    assert has_colour(image, plots.ORANGE)


def test_curves_of_one_epoch_without_validation(tmp_path):
    image = draw_curves(tmp_path, ["1,1.1,0.4,,,0.001,2"])
    assert has_colour(image, plots.BLUE)
    assert not has_colour(image, plots.ORANGE)


def test_confusion_is_darker_where_more_videos_are(tmp_path):
    plots.plot_confusion(
        [[9, 0], [5, 5]], ["gym", "walk"], tmp_path / "confusion.png"
    )
    image = picture(tmp_path / "confusion.png")
    dark = image.sum(-1) < 300
    height, width = dark.shape
    assert dark[: height // 2, : width // 2].mean() > 0.3
    assert dark[: height // 2, width // 2 :].mean() < 0.02


@pytest.mark.parametrize(
    "name", ["$x^$", "<script>", "走る", "x" * 300, "a\nb", "\udcff", "", "%s"]
)
def test_any_class_name_can_be_drawn(tmp_path, name):
    path = tmp_path / "confusion.png"
    plots.plot_confusion([[1, 0], [0, 0]], [name, "walk"], path)
    assert picture(path).std() > 10
    plots.plot_samples([strip(truth=name, file=name)], tmp_path / "s.png")
    assert picture(tmp_path / "s.png").std() > 10


def test_a_hundred_classes_fit(tmp_path):
    names = [f"class {number}" for number in range(100)]
    plots.plot_confusion(np.eye(100, dtype=int), names, tmp_path / "c.png")
    assert max(picture(tmp_path / "c.png").shape) < 2000


def test_samples_are_drawn_pixel_by_pixel(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (4, 56, 56, 3), "uint8")
    plots.plot_samples([strip(frames=frames)], tmp_path / "samples.png")
    image = picture(tmp_path / "samples.png")
    strip_image = strip(frames=frames).image()
    height, width, _ = strip_image.shape
    shown = image[34 : 34 + height, 8 : 8 + width]
    np.testing.assert_array_equal(shown, strip_image)


def test_right_and_wrong_differ_in_colour_and_mark(tmp_path):
    plots.plot_samples([strip("walk")], tmp_path / "right.png")
    plots.plot_samples([strip("gym")], tmp_path / "wrong.png")
    right, wrong = (
        picture(tmp_path / "right.png"),
        picture(tmp_path / "wrong.png"),
    )
    assert has_colour(right, plots.BLUE)
    assert not has_colour(right, plots.ORANGE)
    assert has_colour(wrong, plots.ORANGE)


def test_nothing_half_written_is_left(tmp_path):
    plots.plot_samples([strip()], tmp_path / "samples.png")
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]


def test_curves_are_drawn(tmp_path):
    truth = np.array([True, False, True, False])
    found = curve(truth, np.array([0.9, 0.8, 0.7, 0.1]))
    plots.plot_ranking({"$x$ <b>": found, "none": None}, tmp_path / "a.png")
    bins = [{"confidence": 0.6, "accuracy": 0.5, "count": 3}]
    plots.plot_reliability(bins, [], tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert cv2.imread(str(tmp_path / name)).std() > 5


def test_the_kept_epoch_is_marked(tmp_path):
    figures = ((1.0, 0.5), (0.8, 0.9), (0.7, 0.9), (0.9, 0.9))
    lines = [
        f"{epoch},{1 / epoch},0.5,{loss},{accuracy},0.1,1"
        for epoch, (loss, accuracy) in enumerate(figures, 1)
    ]
    marked = draw_curves(tmp_path, lines)
    file, path = tmp_path / "history.csv", tmp_path / "last.png"
    plots.plot_curves(file, path, keeps_best=False)
    assert has_colour(marked, plots.GRAY)
    assert (picture(path) != marked).any()


def test_many_classes_have_a_scale_of_colors(tmp_path):
    sizes = {}
    for number in (20, 21):
        path = tmp_path / f"{number}.png"
        names = [f"c{x}" for x in range(number)]
        plots.plot_confusion(np.eye(number, dtype=int), names, path)
        sizes[number] = picture(path)
    # At the right edge: nothing, and the label of the scale.
    assert sizes[20][:, -20:].min() == 255
    assert sizes[21][:, -20:].min() < 128


@pytest.mark.parametrize(
    "content", ["", "epoch,loss\n1,much\n", "epoch\n1,2\n"]
)
def test_a_damaged_history_is_named(tmp_path, content):
    file = tmp_path / "history.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=r"history\.csv' is damaged"):
        plots.plot_curves(file, tmp_path / "curves.png")
