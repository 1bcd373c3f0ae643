import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.tiny_serving import smooth_clips

from har_keras.benchmark import server
from har_keras.benchmark.__main__ import main
from har_keras.benchmark.features import benchmark_features
from har_keras.benchmark.flops import step_flops
from har_keras.benchmark.job import benchmark_job, measured
from har_keras.benchmark.step import benchmark_step, measure_steps
from har_keras.config import Config
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.model.vit import VideoViT
from har_keras.serving.client import ClientPrediction

TINY = Config().replace(
    num_frames=2, crop_size=16, num_layers=1, num_heads=2, hidden_dim=8,
    mlp_dim=8, batch_size=4, micro_batch_size=-1,
)  # fmt: skip


def test_a_step_is_measured(capsys):
    costs = benchmark_step(TINY, rounds=2)
    assert [cost.name for cost in costs] == ["ours"]
    assert costs[0].cpu_ratio == 1
    assert 0 < costs[0].cpu_seconds < 10
    assert costs[0].peak_bytes > 2**27  # TensorFlow alone is more
    printed = capsys.readouterr().out
    assert "clips/s" in printed
    assert "MFLOP per clip" in printed


def test_peers_are_measured_in_turns(capsys):
    pytest.importorskip("transformers", reason="needs the extra peers")
    costs = benchmark_step(TINY, rounds=1, peers=True)
    names = [cost.name for cost in costs]
    assert names[0] == "ours"
    assert names[-3:] == ["naive", "torch", "vivit"]
    assert all(cost.cpu_seconds > 0 for cost in costs)
    printed = capsys.readouterr().out
    assert all(f"\n{name} " in printed for name in names)


def test_one_that_cannot_run_is_named():
    with pytest.raises(EnvironmentFault, match=r"'nobody' did not run: Key"):
        measure_steps(["nobody"], TINY)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("har_keras.benchmark.step_peers", "in a checkout of the repository"),
        ("transformers", r'pip install "har_keras\[peers\]"'),
    ],
)
def test_peers_that_are_not_here_are_named(missing, sentence, monkeypatch):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name != missing or None
    )
    with pytest.raises(EnvironmentFault, match=sentence):
        benchmark_step(TINY, peers=True)


def test_rounds_below_one_are_refused():
    with pytest.raises(UsageError, match="--rounds"):
        benchmark_step(TINY, rounds=0)


def test_the_parts_are_listed(capsys):
    assert main([]) == 0
    assert "step" in capsys.readouterr().out
    assert main(["steps"]) == 2


SMALL = [
    "--num-frames", "2", "--crop-size", "16", "--num-layers", "1",
    "--hidden-dim", "8", "--mlp-dim", "8", "--batch-size", "4",
]  # fmt: skip
SITE = """
import sys
sys.path.insert(0, {programs!r})
from without_tensorflow import hide
hide()
"""


@pytest.mark.parametrize(
    ("part", "flags", "heading"),
    [
        ("step", SMALL, "clips/s  cpu ms/clip"),
        ("features", ["--crop-size", "64", "--num-frames", "8"], "frames/s"),
    ],
)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_is_measured_without_tensorflow(
    backend, part, flags, heading, tmp_path
):
    """Also in the processes that it starts."""
    if not importlib.util.find_spec(backend):
        pytest.skip(f"needs the extra {backend}")
    programs = Path(__file__).parent / "programs"
    site = SITE.format(programs=str(programs))
    (tmp_path / "sitecustomize.py").write_text(site)
    paths = [str(tmp_path), str(programs.parents[1])]
    done = subprocess.run(
        [
            sys.executable, "-m", "har_keras.benchmark", part, *flags,
            "--backend", backend, "--rounds", "1",
        ],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert heading in done.stdout
    assert f"n {backend}, " in done.stdout


def test_what_reads_videos_says_that_it_needs_tensorflow(tmp_path):
    programs = Path(__file__).parent / "programs"
    site = SITE.format(programs=str(programs))
    (tmp_path / "sitecustomize.py").write_text(site)
    paths = [str(tmp_path), str(programs.parents[1])]
    done = subprocess.run(
        [sys.executable, "-m", "har_keras.benchmark", "input"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 4
    assert "(No module named 'tensorflow'). Install" in done.stderr


def test_the_features_of_a_backbone_are_measured(capsys):
    cost = benchmark_features(
        Config().replace(recipe="transfer", crop_size=64, num_frames=8),
        rounds=1,
    )
    assert cost.backbone == "efficientnet-lite0"
    assert (
        cost.num_frames
        == 8 // Config().replace(recipe="transfer").features.backbone_stride
    )
    assert 0 < cost.cpu_seconds < 10
    assert "GFLOP/s; the backbone reaches" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no backbone to measure"):
        benchmark_features(Config())
    with pytest.raises(UsageError, match="--rounds"):
        benchmark_features(rounds=0)


@pytest.mark.parametrize(
    ("size", "attention", "expected"),
    [
        (112, "joint", 729.8),  # worked out by hand beside the roofline
        (224, "joint", 7167.5),
    ],
)
def test_flops(size, attention, expected):
    model = VideoViT(3, crop_size=size, attention=attention)
    assert step_flops(model) / 1e6 == pytest.approx(expected, abs=0.1)


def test_fewer_tokens_read_each_other_where_attention_is_not_joint():
    joint, factorised, divided = (
        step_flops(VideoViT(3, crop_size=224, attention=form))
        for form in ("joint", "factorised", "divided")
    )
    assert factorised < divided < joint


def test_responses_that_are_mixed_up_are_seen():
    class Mixing:
        address = type("Address", (), {"host": "here"})
        number = 0

        def predict(self, clips):
            self.number += 1
            share = clips.mean() / 255 if self.number < 9 else 0.5
            rows = np.array([[share, 1 - share]])
            return ClientPrediction(rows, ("a", "b"))

        def encode(self, clips):
            return clips

        send = predict

    client, clips = Mixing(), smooth_clips(4)
    with pytest.raises(EnvironmentFault, match="mixes up its responses"):
        server.measure_load(
            client, clips, num_requests=16, num_clients=1,
            check=server.prediction_check(client, clips),
        )  # fmt: skip


def test_requests_that_fail_are_counted_and_end_with_an_error(capsys):
    class Failing:
        number = 0

        def encode(self, clips):
            return clips

        def send(self, clips):
            self.number += 1
            if self.number % 2:
                raise EnvironmentFault("No server is there.")
            return ClientPrediction(np.array([[1.0]]), ("a",))

    found = server.measure_load(
        Failing(), smooth_clips(1), num_requests=6, num_clients=1
    )
    assert (found.num_requests, found.num_failed) == (3, 3)
    server.print_result(found, "table")
    assert "3 succeeded, 3 failed, 1 clients" in capsys.readouterr().out
    with pytest.raises(EnvironmentFault, match=r"3 of 6 .* No server is there"):
        found.require_success()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("no-server", "*.mp4"), "needs the address of a server"),
        (("no-server", "*.mp4", "--clients", "0"), "at least 1"),
        (("no-server", "*.mp4", "--requests", "0"), "at least 1"),
    ],
)
def test_the_server_benchmark_is_for_servers(words, sentence, capsys, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"")
    where, pattern, *options = words
    arguments = ["server", where, str(tmp_path / pattern), *options]
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


def test_a_command_is_measured_with_its_children():
    held = "x = bytearray(150_000_000); import time; time.sleep(1)"
    child = [sys.executable, "-c", held]
    outer = f"import subprocess; subprocess.run({child})"
    cost = measured([sys.executable, "-c", outer])
    assert 1 < cost.wall_seconds < 60
    assert 0 < cost.cpu_seconds < cost.wall_seconds * 2
    assert cost.peak_bytes() > 150_000_000
    assert cost.peak_bytes(ended=cost.began - 1) == 0


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["no-such-program"], "'no-such-program' can't be started: No such"),
        ([sys.executable, "-c", "exit('it broke')"], "exit code 1: it broke"),
    ],
)
def test_a_command_that_fails_is_named(command, sentence):
    with pytest.raises(EnvironmentFault, match=sentence):
        measured(command)


@pytest.mark.slow
def test_a_job_is_measured_phase_by_phase(few_videos, capsys):
    config = TINY.replace(epochs=1, num_frames=4)
    rows = benchmark_job(
        few_videos, config, again=True, beside=f"{sys.executable} -c pass"
    )
    names = [row.name for row in rows]
    assert names[0] == "start and the rest"
    assert names[-1] == "in all"
    assert {"decoding", "training", "evaluation", "export"} <= {*names}
    parts, whole = rows[:-1], rows[-1]
    assert sum(row.wall_seconds for row in parts) == pytest.approx(
        whole.wall_seconds
    )
    assert whole.peak_bytes > 2**27
    printed = capsys.readouterr().out
    assert "ffmpeg alone decodes" in printed
    assert "of its processor time" in printed
