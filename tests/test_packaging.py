"""What is handed out: wheel, sdist, extras, and what `--help` imports."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import har_keras
from har_keras.__main__ import VERBS
from har_keras.errors import EnvironmentFault

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = {"cv2", "jax", "keras", "numpy", "tensorflow", "torch", "wandb"}
"""What takes long to import."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with a wheel and an sdist of this checkout."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_is_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "har_keras").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    package.remove("har_keras/benchmark/step_peers.py")  # for a checkout
    assert "har_keras/py.typed" in package
    info = {name for name in names if ".dist-info/" in name}
    assert names - info == package
    assert any(name.endswith("licenses/LICENSE") for name in info)


def test_the_wheel_says_version_licence_and_program(wheel):
    archive = zipfile.ZipFile(wheel)
    (info,) = {name.split("/")[0] for name in archive.namelist()} - {
        "har_keras"
    }
    metadata = archive.read(f"{info}/METADATA").decode()
    assert f"Version: {har_keras.__version__}\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    entry = archive.read(f"{info}/entry_points.txt").decode()
    assert "har-keras = har_keras.__main__:main" in entry


def test_the_sdist_can_be_tested(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        assert name in names
    for folder in ("har_keras", "tests", "docs", "notebooks"):
        for file in (ROOT / folder).glob("*.*"):
            assert file.relative_to(ROOT).as_posix() in names


def test_there_is_one_version():
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT


def test_no_dependency_has_an_upper_pin():
    extras = PROJECT["optional-dependencies"].values()
    for need in [*PROJECT["dependencies"], *(n for e in extras for n in e)]:
        assert "<" not in need, need
        assert "==" not in need, need


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_help_of_what_is_in_the_wheel(verb, wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys, har_keras.__main__ as m; print(m.__file__);"
        "sys.exit(m.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, verb, "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert "usage" in done.stdout


def _grpc():
    from har_keras.serving.client import ServingClient

    ServingClient("grpc://localhost:8500/har")


def _onnx():
    from har_keras.serving.runtimes import package

    package("onnx")


def _keras_cv():
    from har_keras.clips.keras_cv import keras_cv_layers

    keras_cv_layers()


def _fastapi():
    from har_keras.serve.__main__ import require_extra

    require_extra()


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("grpc", "grpc", _grpc),
        ("onnx", "export", _onnx),
        ("keras_cv", "cv", _keras_cv),
        ("fastapi", "serve", _fastapi),
    ],
)
def test_a_missing_extra_is_one_sentence(package, extra, use, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    with pytest.raises(EnvironmentFault) as error:
        use()
    assert f'pip install "har_keras[{extra}]"' in str(error.value)
    assert extra in PROJECT["optional-dependencies"]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_missing_backend_is_one_sentence(backend):
    code = (
        "import sys; sys.modules[sys.argv[1]] = None\n"
        "from har_keras import cli\n"
        "from har_keras.environment import start_backend\n"
        "sys.exit(cli.run_verb(lambda: start_backend(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, backend], capture_output=True, text=True
    )
    assert done.returncode == 4
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert f'pip install "har_keras[{backend}]"' in last
    assert "Traceback" not in done.stderr


def backend_started(environment):
    """Starts the backend in a program, and returns how that ended."""
    code = (
        "from har_keras import cli\n"
        "from har_keras.environment import start_backend\n"
        "raise SystemExit(cli.run_verb(start_backend))"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def test_settings_of_keras_that_are_none_are_one_sentence(tmp_path):
    (tmp_path / "keras.json").write_text("[]")
    done = backend_started({"KERAS_HOME": str(tmp_path)})
    assert done.returncode == 4
    assert done.stderr.startswith("Error: Keras can't start")
    assert "keras.json" in done.stderr


def test_a_backend_that_does_not_exist_is_one_sentence():
    done = backend_started({"KERAS_BACKEND": "theano"})
    assert (done.returncode, done.stderr) == (
        2,
        "Error: KERAS_BACKEND must be one of tensorflow, jax, torch. Received: "
        "'theano'.\n",
    )


def modules_after(code):
    """Returns the top-level modules that some code has imported."""
    show = (
        "import contextlib, io, sys\n"
        "with contextlib.redirect_stdout(io.StringIO()), "
        "contextlib.suppress(SystemExit):\n"
        f"    {code}\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", show], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_importing_imports_nothing_heavy():
    found = modules_after("import har_keras")
    assert "har_keras" in found
    assert not found & {*HEAVY, "tyro"}


@pytest.mark.parametrize("verb", VERBS)
def test_help_imports_nothing_heavy(verb):
    found = modules_after(
        f"from har_keras.__main__ import main; main(['{verb}', '--help'])"
    )
    assert "har_keras" in found
    assert not found & HEAVY
