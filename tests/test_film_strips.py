import numpy as np
import pytest
from support.moving_squares import SquaresStore, squares_manifest

from har_keras.config import Config
from har_keras.report.film_strips import training_strips

CONFIG = Config().replace(crop_size=32, num_frames=8)


def strips_of(tmp_path, **options):
    config = CONFIG.replace(**CONFIG.flat() | options)
    manifest = squares_manifest(tmp_path, num_videos=12)
    return training_strips(SquaresStore(config.clip), manifest, config)


def test_strips_show_clips_as_they_are_trained_on(tmp_path):
    plain = strips_of(tmp_path, augment="none")
    changed = strips_of(tmp_path, augment="strong")
    assert len(plain) == len(changed) == 9
    for one, other in zip(plain, changed, strict=True):
        assert one.frames.shape == (8, 32, 32, 3)
        assert one.file == other.file
        assert one.truth == other.truth == one.file.split("/")[1]
    assert any((a.frames != b.frames).any()
               for a, b in zip(plain, changed, strict=True))  # fmt: skip


def test_mixed_clips_say_both_classes(tmp_path):
    mixed = strips_of(tmp_path, augment="none", mixup=0.8)
    words = [strip.truth for strip in mixed]
    both = [word for word in words if "+" in word]
    assert both
    for word in both:
        shares = [float(part.split()[1]) for part in word.split(" + ")]
        assert sum(shares) == pytest.approx(1, abs=0.011)
        assert shares[0] >= shares[1]
    # The clip in the middle of the batch has no partner.
    assert words[4] in ("up", "down")


def test_repeats_fill_the_sheet(tmp_path):
    strips = strips_of(tmp_path, repeats=2)
    assert len(strips) == 9
    assert strips[0].file == strips[1].file
    assert (strips[0].frames != strips[1].frames).any()


def test_without_training_videos_there_is_no_sheet(tmp_path):
    manifest = squares_manifest(tmp_path, num_videos=2, splits=("test",))
    store = SquaresStore(CONFIG.clip)
    assert training_strips(store, manifest, CONFIG) == []
    assert np.size(manifest.usable("train")) == 0
