"""Preprocessing in NumPy against that of the exported graph."""

import io
import json
import random

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from support.tiny_serving import (
    CONFIG,
    gif,
    huge_gif,
    huge_png,
    jpegs,
    pngs,
    random_clips,
    smooth_clips,
)

from har_keras.config import ClipConfig
from har_keras.errors import DataError
from har_keras.serving import frames, preprocessing

CLIP = CONFIG.clip
SQUEEZED = ClipConfig(num_frames=4, crop_size=32, fit="squeeze")


def in_graph(function, sent, clip=CLIP):
    return function(tf.constant(sent)[None], clip)[0].numpy()


@pytest.mark.parametrize("clip", [CLIP, SQUEEZED], ids=["crop", "squeeze"])
@pytest.mark.parametrize(
    ("height", "width"),
    [(32, 32), (48, 64), (240, 320), (320, 180), (17, 23), (500, 37), (1, 9)],
)
def test_frames_of_any_size_are_resized_as_in_graph(height, width, clip):
    sent = smooth_clips(1, 4, height, width)[0]
    found = frames.clip_from_frames(sent, clip).astype(int)
    expected = in_graph(preprocessing.clips_from_frames, sent, clip)
    assert found.shape == expected.shape
    # Sums in another order, so a half may be rounded the other way.
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.005


@pytest.mark.parametrize("num_frames", [1, 3, 4, 9, 70])
def test_as_many_frames_are_chosen(num_frames):
    sent = random_clips(num_frames, 32, 32, 3)
    np.testing.assert_array_equal(
        frames.clip_from_frames(sent, CLIP),
        in_graph(preprocessing.clips_from_frames, sent),
    )


@pytest.mark.parametrize("encode", [jpegs, pngs])
@pytest.mark.parametrize("size", [(32, 32), (48, 64)])
def test_images_are_decoded_as_in_graph(encode, size):
    sent = encode(smooth_clips(1, 6, *size)[0])
    found = frames.clip_from_images(sent, CLIP).astype(int)
    expected = in_graph(preprocessing.clips_from_images, sent)
    assert np.abs(found - expected).max() <= 1


def oriented(frame, orientation, kind):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {}
    Image.fromarray(frame).save(file, kind, exif=exif, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(orientation, kind):
    frame = smooth_clips(1, 1, 40, 64)[0, 0]
    sent = [oriented(frame, orientation, kind)]
    found = frames.clip_from_images(sent, CLIP).astype(int)
    expected = in_graph(preprocessing.clips_from_images, sent)
    assert np.abs(found - expected).max() <= 1


def test_pictures_of_other_kinds_are_decoded_as_in_graph():
    frame = smooth_clips(1, 1, 48, 64)[0, 0]
    gray = cv2.imencode(".jpg", frame[..., 0])[1].tobytes()
    clear = cv2.imencode(".png", np.dstack([frame, frame[..., 0]]))[1].tobytes()
    for sent in ([gray], [clear]):
        found = frames.clip_from_images(sent, CLIP).astype(int)
        expected = in_graph(preprocessing.clips_from_images, sent)
        assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("size", [(32, 32), (48, 64)])
def test_gifs_are_decoded_as_in_graph(size):
    sent = gif(smooth_clips(1, 6, *size)[0])
    found = frames.clip_from_gif(sent, CLIP).astype(int)
    expected = in_graph(preprocessing.clips_from_gifs, sent)
    assert np.abs(found - expected).max() <= 1


WHOLE = jpegs(smooth_clips(1, 1, 48, 64)[0])[0]


@pytest.mark.parametrize(
    ("make", "sent", "words"),
    [
        ("frames_bytes", [], "at least one frame"),
        ("frames_bytes", [b""], "must be a JPEG or PNG"),
        ("frames_bytes", [b"GIF89a"], "must be a JPEG or PNG"),
        ("frames_bytes", [WHOLE[: len(WHOLE) // 2]], "damaged"),
        ("frames_bytes", [WHOLE[:5]], "damaged"),
        ("frames_bytes", [WHOLE[:3] + b"\0" * 99], "damaged"),
        ("frames_bytes", [pngs(smooth_clips(1, 1)[0])[0][:60]], "damaged"),
        ("frames_bytes", [huge_png()], "at most 16777216 pixels"),
        ("frames_bytes", [b"x"] * 1025, "at most 1024 frames"),
        ("gif_bytes", b"", "must be a GIF"),
        ("gif_bytes", b"GIF89a", "at least one pixel"),
        ("gif_bytes", WHOLE, "must be a GIF"),
        ("gif_bytes", huge_gif(65535, 65535), "at most 16777216 pixels"),
        ("gif_bytes", b"GIF89a" + b"\x10\0" * 4, "must be a GIF"),
        ("clips", np.zeros((0, 8, 8, 3), "uint8"), "at least one frame"),
        ("clips", np.zeros((1, 0, 8, 3), "uint8"), "at least one pixel"),
        ("clips", np.zeros((1025, 1, 1, 3), "uint8"), "at most 1024 frames"),
    ],
)
def test_what_is_no_picture_is_one_sentence(make, sent, words):
    with pytest.raises(DataError, match=words):
        frames.CLIP_FROM[make](sent, CLIP)


def test_a_gif_of_too_many_pixels_is_not_decoded():
    # They would take 1.4 GB.
    sent = gif(random_clips(30, 32, 32, 3))
    screen = (4000).to_bytes(2, "little") * 2
    with pytest.raises(DataError, match="in all frames"):
        frames.clip_from_gif(sent[:6] + screen + sent[10:], CLIP)


def written(array, **options):
    return json.dumps(array.tolist(), **options).encode()


@pytest.mark.parametrize(
    "separators", [(", ", ": "), (",", ":"), (" ,\n", ":")]
)
@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 3, 4, 5, 3), (1, 1, 1, 3)])
def test_pixels_in_json_are_read_as_a_parser_reads_them(shape, separators):
    pixels = random_clips(*shape)
    text = written(pixels, separators=separators)
    found = frames.pixels_from_json(text)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"5", b"[]", b"[[]]", b"[1,]", b"[,1]", b"[1,,2]", b"[1 2]",
        b"[1, 2 3]", b"[[1],2]", b"[[1],[2,3]]", b"[[1,2],[3]]", b"[1]]",
        b"[[1]", b"[[1][2]]", b"[[1]5]", b"5[1]", b"[01]", b"[256]", b"[-1]",
        b"[1.0]", b"[1e1]", b"[true]", b"[null]", b'["1"]',
        b"[" + b"9" * 20 + b"]", b"[1],[2]", b"[[1]],[2]", b"[" * 10_000,
        b"[" * 9 + b"1" + b"]" * 9,
    ],
)  # fmt: skip
def test_what_is_no_array_of_pixels_is_left_to_the_parser(text):
    assert frames.pixels_from_json(text) is None


def test_damaged_pixels_are_read_as_a_parser_reads_them_or_not_at_all():
    rng = random.Random(0)
    text = written(random_clips(2, 2, 2, 3))
    read = 0
    for _ in range(3000):
        data = bytearray(text)
        place = rng.randrange(len(data))
        if rng.random() < 0.5:
            data[place] = rng.choice(b"[],0159 -.")
        else:
            del data[place : place + rng.randint(1, 3)]
        found = frames.pixels_from_json(bytes(data))
        if found is not None:
            assert found.tolist() == json.loads(data)
            read += 1
    assert read > 100
