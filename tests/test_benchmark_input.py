import numpy as np
import pytest

from har_keras.benchmark import input as input_benchmark
from har_keras.benchmark import reading
from har_keras.benchmark.__main__ import main
from har_keras.config import ClipConfig, Config
from har_keras.manifest.manifest import Manifest

SMALL = Config().replace(
    num_frames=4, crop_size=32, num_layers=1, hidden_dim=8, num_heads=2
)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(reading, "_CLIPS_A_ROUND", 8)
    monkeypatch.setattr(reading, "_DIRECT_CLIPS_A_ROUND", 2)
    monkeypatch.setattr(reading, "_SETTLING_SECONDS", 0.05)


def test_every_way_gives_a_rate_each_round(quick, video_folder):
    rates = reading.measure_reading(video_folder, SMALL, rounds=2)
    assert len(rates) == 11
    for name, found in rates.items():
        assert len(found) == 2, name
        assert min(found) > 0, name


def test_preparing_is_measured_against_ffmpeg_alone(video_folder):
    costs = dict(reading.measure_preparing(video_folder, SMALL, rounds=1))
    assert list(costs)[:2] == ["ffmpeg alone", "prepare, 1 worker"]
    for (cost,) in costs.values():
        # Child processes count: ffmpeg does nearly all of the work.
        assert cost.cpu_seconds > 0.05
        assert cost.cores < 64


def test_the_direct_way_gives_a_clip_of_the_same_shape(video_folder):
    manifest = Manifest.from_folder(video_folder)
    rng = np.random.default_rng(0)
    clip = ClipConfig(num_frames=8, crop_size=56)
    path = manifest.path(manifest.videos[0])
    frames = reading.direct_clip(path, clip, rng)
    assert frames.shape == (8, 64, 85, 3)
    assert frames.std() > 5


@pytest.mark.slow
@pytest.mark.usefixtures("without_xla")
def test_the_figures_are_printed(quick, video_folder, capsys):
    arguments = ["input", str(video_folder), "--rounds", "1"]
    arguments += ["--num-frames", "4", "--crop-size", "32"]
    arguments += ["--batch-size", "8"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "jpeg store, augmented, in batches" in said
    assert "prepare, 1 worker" in said
    assert "is the bottleneck" in said
    assert "While training from a raw store" in said
    assert "strong" in said


def test_the_share_of_input_follows_from_the_rates(monkeypatch, video_folder):
    ways = ("direct decode, augmented", "decode of JPEG alone",
            "jpeg store, augmented, in batches",
            "raw store, augmented, in batches")  # fmt: skip
    rates = dict(
        zip(ways, ([10, 20], [500, 400], [300, 300], [900, 900]), strict=True)
    )
    costs = {"ffmpeg alone": [reading.ReadCost(2.0, 1.0)]}
    costs["prepare, 1 worker"] = [reading.ReadCost(3.0, 2.0)]
    monkeypatch.setattr(reading, "measure_reading", lambda *a, **k: rates)
    monkeypatch.setattr(reading, "measure_preparing", lambda *a, **k: costs)
    for level, rate in (("none", 400), ("light", 360), ("strong", 200)):
        rates[f"jpeg store, {level}, in batches"] = [rate, rate]
    monkeypatch.setattr(
        input_benchmark, "step_cpu_seconds", lambda config: 0.01
    )
    monkeypatch.setattr(
        input_benchmark, "share_during_training", lambda *a, **k: 0.125
    )
    found = input_benchmark.measure_input(video_folder)
    assert found["input_share"]["jpeg"] == pytest.approx(1 / 4)
    assert found["input_share"]["raw"] == pytest.approx(1 / 10)
    shares = {"light": 0.1, "strong": 0.5, "basic": 0.25}
    assert found["augmentation_share"] == pytest.approx(shares)
    assert found["over_direct"]["decode of JPEG alone"] == 35
    assert found["preparing"]["prepare, 1 worker"]["over_ffmpeg"] == 1.5
    assert found["preparing"]["prepare, 1 worker"]["cores"] == 1.5
    assert "25% of a training step from a jpeg" in input_benchmark.input_table(
        found
    )


@pytest.mark.usefixtures("without_xla")
def test_reading_is_timed_while_training(video_folder):
    config = SMALL.replace(**SMALL.flat() | {"batch_size": 4})
    share = input_benchmark.share_during_training(
        video_folder, config, "jpeg", steps=2
    )
    assert 0 < share < 0.9


def test_drawn_videos_last_ten_seconds(tmp_path):
    from har_keras.video.ffmpeg import probe

    reading.draw_benchmark_videos(tmp_path, per_class=1)
    info = probe(tmp_path / "a/a0.mp4")
    assert (info.width, info.height, info.fps) == (320, 240, 25.0)
    assert info.duration_seconds == pytest.approx(10.0)
