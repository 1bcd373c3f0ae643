import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

from har_keras.config import ClipConfig, EvaluationConfig
from har_keras.evaluation.controls import predict_controls
from har_keras.inference import views
from har_keras.inference.controls import CONTROLS, background_of
from har_keras.manifest.manifest import Manifest, Video

CLIP = ClipConfig(num_frames=4, crop_size=56)  # short side 64
NAMES = ("gym", "walk")


class NumberedFrames:
    """A store whose frames show their number, brighter to the right."""

    width = 96

    def __init__(self):
        self.reads = []

    def frames(self, sha256, indices):
        self.reads.append(list(indices))
        frames = np.zeros((len(indices), 64, self.width, 3), "uint8")
        frames[..., 0] = np.asarray(indices)[:, None, None]
        frames[..., 1] = np.arange(self.width)
        return frames


class MeanModel:
    """Answers with the mean of the first channel, as a share of 200."""

    def __init__(self):
        self.shapes = []

    def predict_on_batch(self, clips):
        self.shapes.append(clips.shape)
        share = clips[..., 0].mean((1, 2, 3)) / 200
        return np.stack([share, 1 - share], 1).astype("float32")


def video(file="a.mp4", kept_frames=100):
    return Video(
        file, "gym", "test", file, sha256=file, kept_frames=kept_frames
    )


def manifest(*videos):
    return Manifest(Path("."), NAMES, tuple(videos))


def clips_of(kept_frames=100, num_clips=1, num_crops=1, control=None):
    options = (CLIP, EvaluationConfig(num_clips, num_crops))
    return controlled(video(kept_frames=kept_frames), options, control)


def controlled(one, options, control):
    return np.stack(
        views.views_of_frames(
            functools.partial(NumberedFrames().frames, one.key),
            one.kept_frames,
            *options,
            control=control,
            seed=views.seed_of(one),
        )
    )


def test_views_are_clips_in_time_by_crops_in_space():
    found = clips_of(num_clips=3, num_crops=3)
    assert found.shape == (9, 4, 56, 56, 3)
    starts = found[:, 0, 0, 0, 0].reshape(3, 3)
    lefts = found[:, 0, 0, 0, 1].reshape(3, 3)
    assert (starts == starts[:, :1]).all()
    assert (np.diff(starts[:, 0].astype(int)) > 0).all()
    assert (lefts == [0, 20, 40]).all()


def test_frames_are_two_stored_ones_apart():
    assert clips_of()[0, :, 0, 0, 0].tolist() == [46, 48, 50, 52]


def test_a_short_video_holds_its_last_frame():
    assert clips_of(kept_frames=4)[0, :, 0, 0, 0].tolist() == [0, 2, 3, 3]


def test_a_frame_that_several_clips_show_is_read_once():
    store = NumberedFrames()
    views.view_clips(store, video(kept_frames=9), CLIP, EvaluationConfig(4, 3))
    assert len(store.reads) == 1
    assert len(set(store.reads[0])) == len(store.reads[0])


def test_equal_views_of_a_short_video_are_one_array():
    found = views.views_of_frames(
        functools.partial(NumberedFrames().frames, "a"),
        2,
        CLIP,
        EvaluationConfig(3, 3),
    )
    assert len(found) == 9
    assert len({id(view) for view in found}) == 3


@pytest.mark.parametrize("num_frames", [*range(1, 10), 16, 31, 32])
def test_the_background_is_the_median_over_time(num_frames):
    rng = np.random.default_rng(num_frames)
    frames = rng.integers(0, 256, (num_frames, 4, 5, 3), dtype=np.uint8)
    before = frames.copy()
    found = background_of(frames)
    expected = np.median(frames, axis=0).astype("uint8")
    assert found.shape == frames.shape
    assert (found == expected).all()
    np.testing.assert_array_equal(frames, before)


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_take_time_out_and_leave_the_frames(control):
    whole = clips_of()[0, :, 0, 0, 0].tolist()
    found = clips_of(control=control)[0, :, 0, 0, 0].tolist()
    if control == "single_frame":
        assert found == [whole[2]] * 4
    elif control == "reversed":
        assert found == whole[::-1]
    elif control == "background":
        assert found == [int(np.median(whole))] * 4
    else:
        assert sorted(found) == whole
        assert found == clips_of(control=control)[0, :, 0, 0, 0].tolist()


def test_controls_share_the_frames_of_a_video_and_keep_their_order():
    videos = [video(f"{n}.mp4", kept_frames=n) for n in (30, 60, 90)]
    store, options = NumberedFrames(), (CLIP, EvaluationConfig(2, 1))
    found = predict_controls(MeanModel(), store, videos, *options)
    assert list(found) == list(CONTROLS)
    for control, rows in found.items():
        for row, one in zip(rows, videos, strict=True):
            clips = controlled(one, options, control)
            expected = clips[..., 0].mean() / 200
            np.testing.assert_allclose(row, [expected, 1 - expected], atol=1e-6)
    assert len(store.reads) == len(videos)


def test_controls_see_the_center_crop_of_each_clip():
    class Brightness(MeanModel):
        def predict_on_batch(self, clips):
            return super().predict_on_batch(clips[..., 1:])

    def found(num_videos, num_crops):
        model = Brightness()
        videos = [video(f"{n}.mp4", kept_frames=60) for n in range(num_videos)]
        rows = predict_controls(
            model,
            NumberedFrames(),
            videos,
            CLIP,
            EvaluationConfig(2, num_crops),
        )
        return rows, len(model.shapes)

    three, num_batches = found(12, num_crops=3)
    one, as_many = found(12, num_crops=1)
    assert num_batches == as_many == 4  # of 24, for 12 videos of 2 clips
    for name in CONTROLS:
        np.testing.assert_array_equal(three[name], one[name])


def test_shuffling_differs_between_videos():
    options = (CLIP, EvaluationConfig(4, 1))
    orders = [
        controlled(one, options, "shuffled")
        for one in (video("a.mp4"), video("b.mp4"))
    ]
    assert (orders[0] != orders[1]).any()


def test_equal_clips_of_a_short_video_are_shuffled_alike():
    short, long = video("a.mp4", kept_frames=4), video("a.mp4", kept_frames=90)
    options = (CLIP, EvaluationConfig(4, 1))
    orders = controlled(short, options, "shuffled")[:, :, 0, 0, 0]
    assert (orders == orders[0]).all()
    apart = controlled(long, options, "shuffled")[:, :, 0, 0, 0].astype(int)
    ranks = apart.argsort(1)
    assert (ranks != ranks[0]).any()


def test_a_renamed_file_is_shuffled_as_before():
    one = video("a.mp4")
    renamed = dataclasses.replace(one, file="b.mp4")
    assert views.seed_of(one) == views.seed_of(renamed)


def predict(*videos, **options):
    model = MeanModel()
    found = views.predict_videos(
        model,
        NumberedFrames(),
        manifest(*videos),
        videos,
        CLIP,
        EvaluationConfig(4, 3),
        **options,
    )
    return found, model


def test_probabilities_are_means_over_views_in_the_order_of_the_videos():
    videos = [video(f"{n}.mp4", kept_frames=n) for n in (10, 100, 50, 5, 70)]
    found, model = predict(*videos)
    for row, one in zip(found, videos, strict=True):
        clips = views.view_clips(
            NumberedFrames(), one, CLIP, EvaluationConfig(4, 3)
        )
        expected = clips[..., 0].mean() / 200
        np.testing.assert_allclose(row, [expected, 1 - expected], atol=1e-6)
    assert len({shape for shape in model.shapes}) == 1


def test_a_videos_probabilities_do_not_depend_on_its_company():
    videos = [video(f"{n}.mp4", kept_frames=n) for n in (10, 100, 50)]
    together, _ = predict(*videos)
    for row, one in zip(together, videos, strict=True):
        np.testing.assert_array_equal(predict(one)[0][0], row)


def test_each_video_counts_once_in_the_progress():
    calls = []
    videos = [video(f"{n}.mp4") for n in range(5)]
    predict(*videos, progress=lambda: calls.append(1))
    assert len(calls) == 5


def test_no_video_gives_no_row():
    assert predict()[0].shape == (0, 2)


def test_a_failing_read_is_not_swallowed():
    class Broken(NumberedFrames):
        def frames(self, sha256, indices):
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        views.predict_videos(
            MeanModel(), Broken(), manifest(video()), [video()], CLIP,
            EvaluationConfig(),
        )  # fmt: skip
