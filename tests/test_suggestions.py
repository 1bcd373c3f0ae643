"""Help while labelling: likely classes, what comes next, labels in doubt."""

import shutil
import time

import numpy as np
import pytest
from support.tiny_run import untrained_run
from support.videos import draw_video

from har_keras.backbones.classifier import build_classifier
from har_keras.backbones.extractor import FeatureExtractor
from har_keras.benchmark import labeling
from har_keras.benchmark.__main__ import main
from har_keras.benchmark.labeling_results import (
    DoubtRow,
    LabelingStudy,
    answers_needed,
    labeling_tables,
)
from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.inference.load import load
from har_keras.manifest.manifest import Manifest
from har_keras.prepare import prepare
from har_keras.run import Run
from har_keras.suggestions.answers import run_answers, with_run
from har_keras.suggestions.copies import copies, scene_groups
from har_keras.suggestions.doubts import doubtful_labels
from har_keras.suggestions.features import read_features, sample_features
from har_keras.suggestions.linear import Components
from har_keras.suggestions.next_samples import most_useful
from har_keras.suggestions.samples import Sample
from har_keras.suggestions.suggest import Suggestions, suggest

NAMES = ("gym", "walk", "work")


def blobs(per_class=30, spread=0.5, num_features=40, seed=0):
    """Three classes around three points: features, classes and groups."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(3, num_features))
    labels = np.repeat(np.arange(3), per_class)
    noise = rng.normal(size=(len(labels), num_features)) * spread
    groups = [f"scene-{i // 3}" for i in range(len(labels))]
    return centers[labels] + noise, [NAMES[k] for k in labels], groups


def some(labels, every):
    """Labels of every n-th sample, None of the others."""
    return [x if i % every == 0 else None for i, x in enumerate(labels)]


def test_likely_classes_are_those_of_the_nearest_labels():
    features, truth, groups = blobs()
    found = suggest(features, some(truth, 10), groups)
    assert [name for name, _ in found.likely] == truth
    assert all(1 / 3 < p <= 1 for _, p in found.likely)
    assert found.look_wrong == []


def test_where_features_say_nothing_no_class_is_sure():
    features = np.random.default_rng(0).normal(size=(120, 40))
    truth = [NAMES[i % 3] for i in range(120)]
    groups = [str(i) for i in range(120)]
    found = suggest(features, some(truth, 2), groups)
    rest = [found.likely[i] for i in range(1, 120, 2)]
    right = np.mean([x[0] == t for x, t in zip(rest, truth[1::2], strict=True)])
    sure = np.mean([p for _, p in rest])
    assert abs(sure - right) < 0.25


@pytest.mark.parametrize("labels", [[None] * 9, ["gym", "gym"] + [""] * 7])
def test_less_than_two_classes_say_no_class_but_what_is_next(labels):
    features, _, groups = blobs(per_class=3)
    found = suggest(features, labels, groups)
    assert found.likely == [None] * 9
    assert found.look_wrong == []
    assert sorted(found.label_next) == [i for i in range(9) if not labels[i]]


def test_samples_without_features_are_marked_and_never_asked_for():
    features, truth, groups = blobs(per_class=6)
    features[[1, 7]] = np.nan
    features[9, 3] = np.inf
    labels = some(truth, 2)
    labels[7] = "walk"
    found = suggest(features, labels, groups)
    assert [i for i, x in enumerate(found.likely) if x is None] == [1, 7, 9]
    assert not {1, 7, 9} & set(found.label_next)
    assert len(found.label_next) == 18 - 10 - 2
    assert not {1, 7, 9} & {i for i, _, _ in found.look_wrong}
    nothing = suggest(np.full((2, 4), np.nan), ["a", "b"], ["", ""])
    assert nothing == Suggestions([None, None])


def test_no_samples_and_equal_samples():
    assert suggest(np.zeros((0, 5)), [], []) == Suggestions([], [], [])
    found = suggest(np.ones((4, 5)), ["a", "b", None, None], list("wxyz"))
    assert sorted(found.label_next) == [2, 3]
    assert all(abs(p - 0.5) < 0.01 for _, p in found.likely)


def test_lengths_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\), 2 labels and 3 groups"):
        suggest(np.zeros((3, 2)), ["a", "b"], ["", "", ""])


def test_the_same_labels_give_the_same_suggestions():
    features, truth, groups = blobs()
    labels = some(truth, 7)
    assert suggest(features, labels, groups) == suggest(
        features, labels, groups
    )


def test_the_first_to_label_are_typical_of_every_cluster():
    features, truth, groups = blobs()
    found = suggest(features, [None] * len(truth), groups)
    assert {truth[i] for i in found.label_next[:6]} == set(NAMES)
    # The outlier is no good start.
    features[4] += 50
    found = suggest(features, [None] * len(truth), groups)
    assert found.label_next[0] != 4


def test_what_is_like_the_labelled_comes_last():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 8))
    x[30:] = x[:10] + 1e-3  # as good as labelled
    order = most_useful(x, np.arange(20), [str(i) for i in range(40)], None)
    assert sorted(order) == list(range(20, 40))
    assert set(order[-10:]) == set(range(30, 40))


def line(*places):
    """20 labelled samples at 0, and others on a line."""
    return np.array([[0.0]] * 20 + [[place] for place in places])


def each(x):
    return [str(i) for i in range(len(x))]


def test_of_two_alike_the_uncertain_one_is_first():
    x = line(3.0, -3.0)
    rows = np.full((22, 2), 0.5)
    rows[20] = 0.9, 0.1
    assert most_useful(x, np.arange(20), each(x), rows) == [21, 20]
    # A classifier that is no better than guessing is not asked.
    x[20] = 3.1
    assert most_useful(x, np.arange(20), each(x), rows, skill=1.0)[0] == 21
    assert most_useful(x, np.arange(20), each(x), rows, skill=0.0)[0] == 20


def test_other_scenes_come_before_a_second_of_one():
    x = line(10.0, -10.5, 9.0)
    groups = [*each(x)[:20], "hall", "hall", "yard"]
    # The first is of the hall, then the nearer one of the yard.
    x[22] = (0.0,)
    x = np.concatenate([x, np.zeros((23, 1))], axis=1)
    x[22, 1] = 9.0
    assert most_useful(x, np.arange(20), groups, None)[:2] == [21, 22]
    assert most_useful(x, np.arange(20), each(x), None)[:2] == [21, 20]


def test_labels_that_were_changed_look_wrong():
    features, truth, groups = blobs()
    labels = list(truth)
    for i in (5, 40, 77):
        labels[i] = NAMES[(NAMES.index(truth[i]) + 1) % 3]
    found = suggest(features, labels, groups)
    assert {i for i, _, _ in found.look_wrong} == {5, 40, 77}
    assert all(name == truth[i] for i, name, _ in found.look_wrong)
    assert all(0.5 < p <= 1 for _, _, p in found.look_wrong)


def test_the_most_doubtful_label_is_first():
    rows = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7]] * 2)
    labels = np.array([0, 0, 1, 1, 1, 1, 0, 0])
    found = doubtful_labels(rows, labels, np.ones(8, bool))
    assert [i for i, _, _ in found] == [4, 6, 5, 7]
    assert doubtful_labels(rows, labels, np.zeros(8, bool)) == []


def test_a_class_of_one_scene_is_not_called_wrong():
    """Its folds can't know it: nobody has seen it elsewhere."""
    features, truth, groups = blobs()
    groups[60:] = ["the only workshop"] * 30
    assert suggest(features, truth, groups).look_wrong == []


def test_components_of_many_samples_are_those_of_some():
    features, _, _ = blobs(per_class=400)
    x = Components.of(features).apply(features)
    assert x.shape == (1200, 40)
    assert (x**2).sum(1).mean() == pytest.approx(1, rel=0.1)
    deviations = x.std(0)
    assert (deviations[:2] > 3 * deviations[5]).all()  # stressed


@pytest.mark.slow  # measures time, which other tests beside it would take
def test_a_thousand_samples_take_a_second():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1000, 3896)).astype(np.float32)
    truth = [NAMES[i % 3] for i in range(1000)]
    groups = [str(i // 3) for i in range(1000)]
    began = time.process_time()
    suggest(features, some(truth, 2), groups)
    assert time.process_time() - began < 5  # 0.5 alone


# From videos.


@pytest.fixture(scope="module")
def folder(make_once, few_videos):
    """Eight videos, one of them twice, and one that is none."""

    def fill(folder):
        shutil.copytree(few_videos, folder / "videos")
        shutil.copy(
            folder / "videos/up/up-00.mp4", folder / "videos/up/again.mp4"
        )
        (folder / "videos/up/broken.mp4").write_bytes(b"no video" * 100)

    return make_once("suggestions", fill)


@pytest.fixture(scope="module")
def samples(folder):
    """Every file of the folder, and two parts of one."""
    first, *others = sorted((folder / "videos").rglob("*.mp4"))
    parts = [Sample(first, 0.0, 1.5), Sample(first, 1.5, None)]
    return [*parts, *map(Sample, others)]


@pytest.fixture(scope="module")
def read(folder, samples):
    said = []
    found = read_features(
        samples, folder / "store", progress=lambda *args: said.append(args)
    )
    return found, said


def place_of(samples, name):
    return [sample.path.name for sample in samples].index(name)


def test_each_sample_has_a_row(read, samples):
    found, said = read
    broken = place_of(samples, "broken.mp4")
    assert len(found.rows) == len(samples)
    assert np.isnan(found.rows[broken]).all()
    assert found.reasons[broken]
    readable = np.delete(found.rows, broken, axis=0)
    assert np.isfinite(readable).all()
    assert not any(np.delete(found.reasons, broken))
    assert not (found.rows[0] == found.rows[1]).all()  # parts of one video
    one, again = (place_of(samples, x) for x in ("up-00.mp4", "again.mp4"))
    np.testing.assert_array_equal(found.rows[one], found.rows[again])
    # Broken or not: nine contents are decoded; parts are read apart.
    assert ("Decoding videos", 9, 9) in said
    assert ("Reading features", 9, 9) in said


def test_nothing_is_read_twice(read, folder, samples, monkeypatch):
    never(monkeypatch)
    said = []
    again = sample_features(
        samples, folder / "store", progress=lambda *args: said.append(args)
    )
    np.testing.assert_array_equal(again, read[0].rows)
    assert said == []


def never(monkeypatch):
    def maps(*_):
        raise AssertionError("the network ran")

    monkeypatch.setattr(FeatureExtractor, "maps", maps)


def test_a_training_finds_the_features(read, folder, tmp_path, monkeypatch):
    never(monkeypatch)
    videos = tmp_path / "videos"
    shutil.copytree(folder / "videos", videos)
    rows = ["file,class,start,end", "down/down-00.mp4,down,0,1.5"]
    rows += ["down/down-00.mp4,up,1.5,"]
    rows += [f"down/down-0{i}.mp4,down,," for i in (1, 2, 3)]
    rows += [f"up/up-0{i}.mp4,up,," for i in (0, 1, 2, 3)]
    (videos / "manifest.csv").write_text("\n".join(rows))
    config = Config().replace(recipe="transfer", store_dir=folder / "store")
    prepare(videos, config)


def test_an_interrupted_call_is_resumed(samples, folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "store", tmp_path / "store")
    features = sorted((tmp_path / "store/features").rglob("*.npy"))
    for file in features[:2]:
        file.unlink()
    said = []
    sample_features(
        samples,
        tmp_path / "store",
        progress=lambda *args: said.append(args),
    )
    assert said == [("Reading features", i, 2) for i in (1, 2)]


def test_only_unreadable_samples_are_refused(folder, tmp_path):
    broken = Sample(folder / "videos/up/broken.mp4")
    gone = Sample(tmp_path / "gone.mp4")
    with pytest.raises(DataError, match="None of the 2 samples can be used"):
        sample_features([broken, gone], tmp_path / "store")


def test_a_file_that_changed_is_read_anew(folder, tmp_path):
    file = tmp_path / "video.mp4"
    draw_video(file, num_frames=32, seed=1)
    assert copies([Sample(file)], tmp_path / "store") == []
    draw_video(file, num_frames=32, seed=2)
    copies([Sample(file)], tmp_path / "store")
    stored = list((tmp_path / "store").glob("*px*/*.npz"))
    assert len(stored) == 2


def test_copies_are_of_other_files(read, folder, samples):
    found = copies(samples, folder / "store")
    one, again = (place_of(samples, x) for x in ("up-00.mp4", "again.mp4"))
    assert found[0] == (min(one, again), max(one, again), 1.0)
    assert (0, 1) not in {(i, j) for i, j, _ in found}  # parts of one file
    assert [x for _, _, x in found] == sorted(
        (x for _, _, x in found), reverse=True
    )


def test_parts_and_scenes_are_of_one_group(read, folder, samples):
    one, again = (place_of(samples, x) for x in ("up-00.mp4", "again.mp4"))
    groups = [""] * len(samples)
    found = scene_groups(samples, groups, folder / "store")
    assert found[0] == found[1]
    assert found[one] == found[again]
    assert len(set(found)) > 2
    groups[0], groups[one], groups[again] = "hall", "yard", "roof"
    found = scene_groups(samples, groups, folder / "store")
    assert found[:2] == ["hall", "hall"]
    assert (found[one], found[again]) == ("yard", "roof")  # as was chosen


def test_a_run_of_pixels_says_what_predict_says(video_folder, tmp_path):
    run = untrained_run(tmp_path, video_folder)
    files = sorted(video_folder.rglob("*.mp4"))[::4]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 100)
    samples = [*map(Sample, files), Sample(broken)]
    found = run_answers(samples, tmp_path / "other", run.path)
    classifier = load(run.path)
    said = [classifier.predict(file).probabilities for file in files]
    expected = [[x[name] for name in found.class_names] for x in said]
    rows = classifier.calibration.calibrated(np.array(expected))
    np.testing.assert_allclose(found.probabilities[:-1], rows, atol=1e-5)
    assert found.likely[-1] is None
    assert found.reasons[-1]
    plain = Suggestions([None] * len(samples), [1], [(0, "up", 0.9)])
    told = with_run(plain, found)
    assert told.likely == found.likely
    assert (told.label_next, told.look_wrong) == ([1], [(0, "up", 0.9)])


def test_a_run_with_a_backbone_reads_its_own_features(few_videos, tmp_path):
    config = Config().replace(
        recipe="transfer", crop_size=64, num_frames=4, fps=2.0, num_layers=1,
        num_clips=2, store_dir=tmp_path / "elsewhere",
    )  # fmt: skip
    run = Run(tmp_path / "run")
    run.create(config)
    Manifest.from_folder(few_videos).write(run.manifest_file)
    build_classifier(config, 2).save(run.model_file)
    samples = [Sample(file) for file in sorted(few_videos.rglob("*.mp4"))[::3]]
    store = tmp_path / "store"
    rows = sample_features(samples, store, run=run.path)
    answers = run_answers(samples, store, run.path)
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(answers.probabilities.sum(1), 1, atol=1e-5)
    rate = f"{config.clip.store_fps:g}"
    names = [folder.name for folder in store.glob("*px*")]
    assert names == [f"64px-square-{rate}fps-jpeg90-v2"]
    assert not config.store.store_dir.exists()


@pytest.mark.slow
def test_on_real_videos(real_videos, tmp_path):
    files = [
        file
        for name in NAMES
        for file in sorted((real_videos / "train" / name).iterdir())[::12][:4]
    ]
    truth = [file.parent.name for file in files]
    features = sample_features([*map(Sample, files)], tmp_path)
    labels = some(truth, 2)
    found = suggest(features, labels, [""] * len(files))
    assert sorted(found.label_next) == list(range(1, len(files), 2))
    right = [found.likely[i][0] == truth[i] for i in found.label_next]
    assert np.mean(right) > 0.5


# The simulation.


def known_videos(on_test=False):
    features, truth, groups = blobs(spread=1.5)
    rng = np.random.default_rng(1)
    features = features[rng.permutation(90)] if on_test else features
    return labeling.LabelledVideos(
        features, np.array([NAMES.index(x) for x in truth]), groups, NAMES,
        np.arange(90) % 9 < 3 if on_test else np.zeros(90, bool),
    )  # fmt: skip


@pytest.mark.parametrize("name", labeling.STRATEGIES)
def test_every_strategy_asks_for_each_video_once(name):
    found = known_videos()
    desk = labeling.Desk(
        Components.of(found.features).apply(found.features),
        found.labels, found.groups, 3,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for answered in (np.array([3]), np.arange(0, 90, 4)):
        judgement = desk.judged(answered, 0)
        order = labeling.STRATEGIES[name](desk, answered, judgement, rng)
        rest = sorted(set(range(90)) - set(answered.tolist()))
        assert sorted(map(int, order)) == rest


def test_the_simulation_is_printed_and_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        labeling, "labelled_videos", lambda *_, **__: known_videos()
    )
    arguments = ["--answers", "40", "--starts", "4", "--output", str(tmp_path)]
    assert main(["labeling", str(tmp_path), *arguments]) == 0
    printed = capsys.readouterr().out
    assert "answers  " in printed
    assert "precision" in printed
    assert max(map(len, printed.splitlines())) <= 80
    lines = (tmp_path / "labeling.csv").read_text().splitlines()
    assert lines[0] == "strategy,start,answers,accuracy"
    assert len(lines) == 1 + 2 * 4 * 8
    assert (tmp_path / "labeling.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--strategies", "random,luck"), "There is no strategy 'luck'"),
        (("--at-once", "0"), "--at-once must be at least 1. Received: 0"),
        (("--starts", "1"), "--starts must be at least 2. Received: 1"),
        (("--answers", "3"), "--answers must be at least 5. Received: 3"),
        (("--wrong", "0.9"), "--wrong must be a share"),
        (("--first-start", "-1"), "--first-start must be at least 0"),
    ],
)
def test_wrong_options_are_refused(arguments, sentence, tmp_path, capsys):
    assert main(["labeling", str(tmp_path), *arguments]) == UsageError.exit_code
    assert sentence in capsys.readouterr().err


def test_help_that_asks_for_the_right_videos_is_seen_to_save_answers():
    slow, fast = ([0.5, 0.6, 0.7, 0.8], [0.6, 0.7, 0.8, 0.8])
    study = LabelingStudy(
        {"random": np.array([slow] * 3), "suggested": np.array([fast] * 3)},
        [5, 10, 15, 20], [DoubtRow(10, 8, 6, 6)] * 3, 0.1,
    )  # fmt: skip
    printed = labeling_tables(study)
    assert "+0.100 (+0.100 to +0.100)" in printed
    assert "0.800        20         15  25% (25% to 25%)" in printed
    assert "precision              0.75" in printed
    assert "recall                 0.60" in printed
    assert answers_needed(np.array([slow]), [5, 10, 15, 20], 0.9) == np.inf
