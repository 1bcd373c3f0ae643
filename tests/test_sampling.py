import numpy as np
import pytest

from har_keras.clips.sampling import (
    clip_frame_indices,
    clips_per_video,
    crop_box,
    crop_clip,
    last_start,
    view_starts,
)


@pytest.mark.parametrize(
    ("num_video_frames", "num_frames", "frame_stride", "start", "expected"),
    [
        (10, 4, 3, 0, [0, 3, 6, 9]),
        (10, 4, 3, 2, [2, 5, 8, 9]),
        (5, 4, 2, 1, [1, 3, 4, 4]),
        (1, 3, 2, 0, [0, 0, 0]),
        (9, 4, 1.5, 0, [0, 1, 3, 4]),
        (9, 4, 0.8, 0, [0, 0, 1, 2]),
        (9, 3, 2, 0.5, [0, 2, 4]),
        # 0.1 + 0.2 style: five steps of 0.2 are one whole frame.
        (9, 6, 0.2, 0, [0, 0, 0, 0, 0, 1]),
    ],
)
def test_clip_frame_indices(
    num_video_frames, num_frames, frame_stride, start, expected
):
    indices = clip_frame_indices(
        num_video_frames,
        num_frames=num_frames,
        frame_stride=frame_stride,
        start=start,
    )
    assert indices.tolist() == expected
    assert indices.dtype == np.int64


def test_every_start_gives_indices_in_the_video_that_never_go_back():
    for num_video_frames in range(1, 40):
        for start in range(num_video_frames):
            indices = clip_frame_indices(
                num_video_frames, num_frames=8, frame_stride=2.5, start=start
            )
            assert indices[0] == start
            assert (np.diff(indices) >= 0).all()
            assert indices[-1] < num_video_frames


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_video_frames": 0},
        {"num_frames": 0},
        {"frame_stride": 0},
        {"start": 10},
        {"start": -1},
    ],
)
def test_values_that_fit_no_video_are_refused(wrong):
    options = {"num_video_frames": 10, "num_frames": 4, "frame_stride": 2}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        clip_frame_indices(**options | wrong)


@pytest.mark.parametrize(
    ("num_video_frames", "num_clips", "expected"),
    [(31, 4, [0] * 4), (20, 2, [0, 0]), (131, 3, [0, 50, 100]), (61, 1, [15])],
)
def test_views_are_spread_from_the_first_frame_to_the_last(
    num_video_frames, num_clips, expected
):
    options = {"num_frames": 16, "frame_stride": 2}
    starts = view_starts(num_video_frames, num_clips=num_clips, **options)
    assert starts == expected


def test_the_last_start_ends_on_the_last_frame():
    start = last_start(50, num_frames=16, frame_stride=2)
    indices = clip_frame_indices(50, num_frames=16, frame_stride=2, start=start)
    assert indices[-1] == 49
    assert len(set(indices)) == 16


@pytest.mark.parametrize(
    ("num_video_frames", "expected"), [(1, 1), (32, 1), (63, 2), (160, 5)]
)
def test_clips_cover_a_video(num_video_frames, expected):
    found = clips_per_video(num_video_frames, num_frames=16, frame_stride=2)
    assert found == expected


@pytest.mark.parametrize(
    ("shape", "position", "expected"),
    [
        ((4, 6), 0.0, (1, 0)),
        ((4, 6), 0.5, (1, 2)),
        ((4, 6), 1.0, (1, 4)),
        ((6, 4), 0.0, (0, 1)),
        ((6, 4), 1.0, (4, 1)),
        ((2, 2), 0.5, (0, 0)),
    ],
)
def test_crops_move_along_the_long_side(shape, position, expected):
    assert crop_box(*shape, crop_size=2, position=position) == expected


def test_a_crop_is_the_same_square_of_every_frame():
    frames = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    crop = crop_clip(frames, 2, position=1.0)
    np.testing.assert_array_equal(crop, frames[:, 1:3, 4:6])
    assert crop.flags.c_contiguous


def test_a_frame_smaller_than_the_crop_is_refused():
    with pytest.raises(ValueError, match="must fit"):
        crop_box(111, 200, crop_size=112)
