"""The signatures that take pictures: JPEG frames and animated GIFs."""

import dataclasses
import io
import struct

import cv2
import imageio.v3 as imageio
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from support.tiny_serving import (
    CONFIG,
    INFO,
    NAMES,
    gif,
    huge_gif,
    huge_png,
    jpegs,
    pngs,
    smooth_clips,
    tiny_model,
)

from har_keras.clips.sampling import crop_clip
from har_keras.serving import preprocessing
from har_keras.serving.orientation import jpeg_orientation, png_orientation
from har_keras.serving.preprocessing import (
    clips_from_frames,
    clips_from_images,
    gif_dimensions,
)
from har_keras.serving.signatures import serving_module
from har_keras.video.images import read_images


@pytest.fixture(scope="module")
def served():
    module, signatures = serving_module(tiny_model(), NAMES, INFO)
    signatures["kept"] = module  # Holds the weights as long as it is used.
    return signatures


def ask_jpeg(served, clips):
    return served["serving_jpeg"](frames_bytes=tf.constant(clips))


def ask_gif(served, gifs):
    return served["serving_gif"](gif_bytes=tf.constant(gifs))


def test_jpeg_frames_are_nearly_the_raw_ones(served):
    clips = smooth_clips(5)
    found = ask_jpeg(served, [jpegs(clip) for clip in clips])
    raw = served["serving_default"](clips=tf.constant(clips))
    np.testing.assert_allclose(
        found["probabilities"], raw["probabilities"], atol=0.02
    )
    assert found["top_labels"].numpy().tolist() == (
        raw["top_labels"].numpy().tolist()
    )


def test_png_frames_are_the_raw_ones_also_beside_jpegs(served):
    clips = smooth_clips(3)
    found = ask_jpeg(served, [pngs(clip) for clip in clips])
    raw = served["serving_default"](clips=tf.constant(clips))
    np.testing.assert_array_equal(found["probabilities"], raw["probabilities"])
    mixed = [pngs(clip)[:2] + jpegs(clip)[2:] for clip in clips]
    np.testing.assert_allclose(
        ask_jpeg(served, mixed)["probabilities"],
        raw["probabilities"],
        atol=0.02,
    )


def test_a_png_may_be_grey_deep_or_have_holes(served):
    rng = np.random.default_rng(0)
    forms = [
        rng.integers(0, 256, (32, 32), "uint8"),
        rng.integers(0, 256, (32, 32, 4), "uint8"),
        rng.integers(0, 2**16, (32, 32, 3), "uint16"),
    ]
    clip = [cv2.imencode(".png", form)[1].tobytes() for form in forms]
    assert ask_jpeg(served, [clip])["probabilities"].shape == (1, 3)


def test_a_gif_gives_what_its_pictures_give(served):
    gifs = [gif(clip) for clip in smooth_clips(2, num_frames=9, width=50)]
    found = ask_gif(served, gifs)
    for row, encoded in zip(found["probabilities"], gifs, strict=True):
        pictures = imageio.imread(encoded, index=None, mode="RGB")
        raw = served["serving_default"](clips=tf.constant(pictures[None]))
        np.testing.assert_allclose(row, raw["probabilities"][0], atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("fit", ["crop", "squeeze"])
def test_large_jpegs_are_as_if_decoded_in_full(scale, fit):
    clip = dataclasses.replace(INFO.clip, fit=fit)
    height, width = scale * 2 * clip.short_side, scale * 3 * clip.short_side
    small = smooth_clips(1)[0]
    large = [cv2.resize(frame, (width, height)) for frame in small]
    sent = jpegs(large)
    found = clips_from_images(tf.constant([sent]), clip).numpy()
    whole = np.stack([imageio.imread(x) for x in sent])
    expected = clips_from_frames(tf.constant(whole[None]), clip).numpy()
    differences = np.abs(found.astype(int) - expected)
    assert differences.mean() < 0.5
    assert differences.max() <= 3


def test_only_the_crop_is_computed_and_is_that_of_the_whole_frame():
    clip = INFO.clip
    frames = smooth_clips(1)[:, :, :20]
    found = clips_from_frames(tf.constant(frames), clip)[0].numpy()
    side = clip.short_side
    whole = tf.image.resize(frames[0], (side, round(32 * side / 20)))
    expected = crop_clip(np.round(whole).astype("uint8"), clip.crop_size)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_frames_of_one_request_may_differ_in_size(served):
    small, large = smooth_clips(1)[0], smooth_clips(1, height=90, width=70)[0]
    clip = jpegs(small)[:2] + jpegs(large)[:2]
    assert ask_jpeg(served, [clip])["probabilities"].shape == (1, 3)


def test_only_frames_that_the_clip_shows_are_decoded(served):
    clip = jpegs(smooth_clips(1, num_frames=7)[0])
    whole = ask_jpeg(served, [clip])["probabilities"]
    clip[1] = b"\xff\xd8\xff no picture"  # 0, 2, 4 and 6 are shown.
    np.testing.assert_array_equal(
        ask_jpeg(served, [clip])["probabilities"], whole
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_gifs_size_is_read_without_decoding(seed):
    encoded = gif(
        smooth_clips(1, num_frames=3 + seed, height=40, width=60, seed=seed)[0]
    )
    found = [int(number) for number in gif_dimensions(tf.constant(encoded))]
    assert found == [3 + seed, 40, 60]


def test_a_gif_that_was_cut_is_read_as_far_as_it_goes():
    encoded = gif(smooth_clips(1, num_frames=6)[0])
    for length in range(13, len(encoded), 97):
        frames = gif_dimensions(tf.constant(encoded[:length]))[0]
        assert 0 <= int(frames) <= 6


JPEG = jpegs(smooth_clips(1)[0])[0]
PNG = pngs(smooth_clips(1)[0])[0]


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        ([], "at least one frame"),
        ([b""], "must be a JPEG"),
        ([b"no picture"], "must be a JPEG or PNG"),
        ([gif(smooth_clips(1)[0])], "must be a JPEG or PNG"),
        ([PNG[: len(PNG) // 2]], "PNG"),
        ([PNG[:8]], "at least one pixel"),
        ([huge_png()], "at most 16777216 pixels"),
        ([JPEG[: len(JPEG) // 2]], "JPEG"),
        ([JPEG[:3]], "JPEG"),
        ([JPEG] * 1025, "at most 1024 frames"),
    ],
    ids=[
        "none", "empty", "text", "gif", "cut png", "start of png",
        "65535 png", "cut", "start", "many",
    ],
)  # fmt: skip
def test_bad_frames_are_refused_in_words(served, clip, sentence):
    sent = tf.constant([clip], tf.string)
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        served["serving_jpeg"](frames_bytes=sent)


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (b"", "must be a GIF"),
        (JPEG, "must be a GIF"),
        (b"GIF89a", "at least one frame"),
        (huge_gif(0, 0), "at least one pixel"),
        (huge_gif(65535, 65535), "at most 16777216 pixels"),
        (huge_gif(4096, 4096, 5), "pixels in all frames"),
        (huge_gif(1, 1, 1025), "at most 1024 frames"),
        (b"GIF89a" + bytes(2**24), "at most 16777216 bytes"),
    ],
    ids=["empty", "jpeg", "cut", "0x0", "65535", "all", "many", "long"],
)
def test_bad_gifs_are_refused_in_words(served, sent, sentence):
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        ask_gif(served, [sent])


def test_a_gif_that_was_cut_is_an_error_of_its_own(served):
    encoded = gif(smooth_clips(1, num_frames=6)[0])
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask_gif(served, [encoded[: len(encoded) // 9]])


def test_the_fit_of_gifs_is_that_of_raw_frames():
    frames = smooth_clips(1, num_frames=4, height=37, width=64)
    found = clips_from_frames(tf.constant(frames), CONFIG.clip)
    np.testing.assert_array_equal(found[0], frames[0, :, 2:34, 16:48])


def tagged(frame, orientation, kind="JPEG", order="<", before=b""):
    """Returns a picture as a phone stores it, and as viewers show it."""
    tags = Image.Exif()
    tags.endian = order
    tags[0x010F], tags[0x0112], tags[0x0131] = "maker", orientation, "software"
    file = io.BytesIO()
    options = {"quality": 95} if kind == "JPEG" else {}
    Image.fromarray(frame).save(file, kind, exif=tags.tobytes(), **options)
    data = file.getvalue()
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return data[:2] + before + data[2:], np.asarray(shown)


in_graph = tf.function(
    lambda image: preprocessing._decoded(image, INFO.clip),
    input_signature=[tf.TensorSpec((), tf.string)],
)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_as_viewers_turn_them(kind, order, orientation):
    frame = smooth_clips(1, num_frames=1, height=48, width=80)[0, 0]
    data, shown = tagged(frame, orientation, kind, order)
    found = in_graph(data).numpy()
    assert found.shape == shown.shape
    assert np.abs(found.astype(int) - shown).mean() < 1


def test_the_tag_is_found_behind_other_segments():
    frame = smooth_clips(1, num_frames=1, height=48, width=80)[0, 0]
    profile = b"\xff\xe2" + struct.pack(">H", 30002) + bytes(30000)
    comment = b"\xff\xff\xff\xfe" + struct.pack(">H", 6) + b"Exif"
    data, shown = tagged(frame, 6, before=profile + comment)
    assert in_graph(data).shape == shown.shape == (80, 48, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_tags_neither_fail_nor_take_memory(kind):
    rng = np.random.default_rng(0)
    frame = smooth_clips(1, num_frames=1)[0, 0]
    data, _ = tagged(frame, 6, kind)
    read = tf.function(
        jpeg_orientation if kind == "JPEG" else png_orientation,
        input_signature=[tf.TensorSpec((), tf.string)],
    )
    assert int(read(tf.constant(data))) == 6
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(2, 140, 4):
            damaged[place] = rng.choice([0, 1, 0x7F, 0xFF, rng.integers(256)])
        assert 1 <= int(read(tf.constant(bytes(damaged)))) <= 8
    for length in range(0, 140, 3):
        assert 1 <= int(read(tf.constant(data[:length]))) <= 8


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_a_server_turns_pictures_as_predict_does(served, tmp_path, orientation):
    frames = smooth_clips(1, num_frames=4, height=64, width=96)[0]
    sent = [tagged(frame, orientation)[0] for frame in frames]
    for number, data in enumerate(sent):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    clip = CONFIG.clip
    shown = read_images(
        tmp_path, images_fps=clip.fps, fps=clip.fps,
        short_side=clip.short_side, timeout_seconds=60,
    )  # fmt: skip
    views = crop_clip(np.stack(list(shown)), clip.crop_size)
    raw = served["serving_default"](clips=tf.constant(views[None]))
    found = ask_jpeg(served, [sent])
    np.testing.assert_allclose(
        found["probabilities"], raw["probabilities"], atol=0.03
    )
    turned = orientation != 1
    plain = ask_jpeg(served, [[tagged(frame, 1)[0] for frame in frames]])
    apart = np.abs(found["probabilities"] - plain["probabilities"]).max()
    assert (apart > 0.03) == turned
