import os
import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from har_keras.doctor import __main__ as doctor
from har_keras.doctor import backends, health, packages
from har_keras.environment import has_wandb_key


@pytest.fixture
def versions(monkeypatch):
    """Pretends that some packages are installed, or are not (None)."""
    pretended = {}
    real = metadata.version

    def version(name):
        if name not in pretended:
            return real(name)
        if pretended[name] is None:
            raise metadata.PackageNotFoundError(name)
        return pretended[name]

    monkeypatch.setattr(metadata, "version", version)
    return pretended


@pytest.fixture
def requires(monkeypatch):
    """Pretends what each package asks for."""
    asked = {}
    monkeypatch.setattr(metadata, "requires", lambda name: asked.get(name, []))
    return asked


def states(findings):
    return {finding.topic: finding.state for finding in findings}


def test_this_machine_is_ready(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert doctor.main(["--no-backends", "--run-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ok    ffmpeg") for line in lines)
    assert any(line.startswith("ok    har_keras") for line in lines)
    assert not [line for line in lines if line.startswith("bad")]


def test_the_backend_of_these_tests_computes(monkeypatch):
    monkeypatch.setattr(backends, "BACKENDS", ("tensorflow",))
    calls = []
    (found,) = backends.backends(lambda: calls.append(1))
    assert (found.topic, found.state) == ("tensorflow", "ok")
    assert "works, on" in found.text
    assert calls == [1]


def test_a_backend_that_breaks_is_bad_if_training_stands_on_it(monkeypatch):
    program = "raise ImportError('no libcudart')"
    monkeypatch.setattr(backends, "_PROGRAM", program)
    monkeypatch.setattr(backends, "installed", lambda name: "1.0")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    found = list(backends.backends(lambda: None))
    assert states(found) == {
        "tensorflow": "bad",
        "jax": "look",
        "torch": "look",
    }
    assert all("no libcudart" in finding.text for finding in found)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    found = list(backends.backends(lambda: None))
    assert states(found)["jax"] == "bad"


def test_a_gpu_that_a_backend_does_not_see_is_said(monkeypatch):
    monkeypatch.setattr(backends, "nvidia_gpus", lambda: ("NVIDIA L4",))
    found = backends._devices("jax", "0.7", ["TFRT_CPU_0"])
    assert found.state == "look"
    assert "NVIDIA L4" in found.text
    assert backends._devices("jax", "0.7", ["CudaDevice(id=0)"]).state == "ok"


def test_two_tensorflows_are_bad(versions, requires):
    versions |= {"tensorflow": "2.21.0", "tensorflow-cpu": "2.21.0"}
    found = {f.topic: f for f in health.software()}
    assert found["tensorflow"].state == "bad"
    assert "pip uninstall tensorflow" in found["tensorflow"].mend


def test_a_version_that_another_refuses_is_looked_at(versions, requires):
    # What installing TensorFlow 2.21 over Colab's packages leaves.
    versions |= {
        "tensorflow": "2.21.0", "tensorflow-cpu": None, "protobuf": "5.29.6",
    }  # fmt: skip
    requires["tensorflow"] = ["protobuf<8.0.0,>=6.31.1"]
    (need,) = packages.unmet_requirements()
    assert need.found == "protobuf 5.29.6"
    assert not need.missing
    assert states(health.software())["tensorflow"] == "look"


def test_an_old_keras_is_not_fit(versions, requires):
    versions |= {"keras": "3.12.0"}
    requires[packages.PACKAGE] = ["keras>=3.13.2"]
    assert [n.wanted for n in packages.unmet_requirements()] == [
        "keras>=3.13.2"
    ]


def test_any_tensorflow_will_do(versions, requires):
    for name in packages._TENSORFLOWS:
        versions[name] = None
    requires[packages.PACKAGE] = ["tensorflow>=2.20"]
    (need,) = packages.unmet_requirements()
    assert need.missing
    versions["tensorflow-macos"] = "2.20.0"
    assert list(packages.unmet_requirements()) == []


def test_a_missing_extra_is_named_and_no_fault(versions):
    versions |= {"openvino": None}
    found = {f.topic: f for f in health.software()}
    if "[export]" not in found:
        pytest.skip("har_keras is not installed here")
    assert found["[export]"].state == "ok"
    assert "openvino" in found["[export]"].text
    assert 'pip install "har_keras[export]"' in found["[export]"].mend


def test_an_ffmpeg_that_does_not_run_is_bad(monkeypatch, tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    code = (
        "from har_keras.report import health\n"
        "(found,) = health.ffmpeg()\n"
        "print(found.state, found.mend)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"IMAGEIO_FFMPEG_EXE": str(program)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("bad "), done.stderr
    assert "IMAGEIO_FFMPEG_EXE" in done.stdout


@pytest.mark.parametrize(
    ("free", "state"), [(2**40, "ok"), (3 * 2**30, "look"), (2**20, "bad")]
)
def test_the_disk(free, state, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found = states(health.room(tmp_path / "new" / "runs", tmp_path))
    assert found["runs"] == found["frame store"] == state


def test_a_bad_finding_ends_with_code_4(monkeypatch, capsys, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    arguments = ["--no-backends", "--run-dir", str(tmp_path)]
    assert doctor.main([*arguments, "--store-dir", str(tmp_path)]) == 4
    captured = capsys.readouterr()
    assert "bad   runs" in captured.out
    assert "Traceback" not in captured.err


def test_the_key_of_wandb_is_seen_and_never_shown(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not has_wandb_key()
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password sesame\n")
    netrc.chmod(0o600)
    (found,) = health.wandb()
    assert found.text.startswith("online")
    assert "sesame" not in repr(found)


def test_lines_fit_a_terminal():
    long = "a word " * 40
    text = doctor._line(health.Finding("look", "topic", long, long))
    assert max(map(len, text.splitlines())) <= 79
    path = "/a/very-long-path/" + "x" * 80
    assert path in doctor._line(health.Finding("ok", "ffmpeg", path))
