import pytest

from har_keras.benchmark.__main__ import main
from har_keras.benchmark.flops import step_flops
from har_keras.benchmark.step import benchmark_step, race
from har_keras.config import Config
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.model.vit import VideoViT

TINY = Config().replace(
    num_frames=2, crop_size=16, num_layers=1, hidden_dim=8, mlp_dim=8,
    batch_size=4, micro_batch_size=-1,
)  # fmt: skip


def test_a_step_is_measured(capsys):
    costs = benchmark_step(TINY, rounds=2)
    assert [cost.name for cost in costs] == ["ours"]
    assert costs[0].cpu_ratio == 1
    assert 0 < costs[0].cpu_seconds < 10
    assert costs[0].peak_bytes > 2**27  # TensorFlow alone is more
    printed = capsys.readouterr().out
    assert "clips/s" in printed
    assert "MFLOP a clip" in printed


def test_twins_race_in_turns(capsys):
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
        race(["nobody"], TINY)


def test_rounds_below_one_are_refused():
    with pytest.raises(UsageError, match="--rounds"):
        benchmark_step(TINY, rounds=0)


def test_the_parts_are_listed(capsys):
    assert main([]) == 0
    assert "step" in capsys.readouterr().out
    assert main(["steps"]) == 2


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
