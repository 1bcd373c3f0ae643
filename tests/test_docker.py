"""The image for training: pinned, another user than root, with its volumes.

That of the server is in `test_serve.py`.
"""

import json
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from har_keras import __main__, cli
from har_keras.train import TrainOptions

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
FILE = (DOCKER / "train.Dockerfile").read_text()
LINES = FILE.replace("\\\n", " ").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def arguments(instruction):
    """Returns what follows each instruction of a kind."""
    return [
        line.split(" ", 1)[1]
        for line in LINES
        if line.startswith(f"{instruction} ")
    ]


def pinned():
    text = (DOCKER / "train-requirements.txt").read_text()
    lines = [x for x in text.splitlines() if not x.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", x) for x in lines)
    pairs = (x.split("==") for x in lines)
    return {canonicalize_name(name): version for name, version in pairs}


def test_a_build_argument_chooses_a_base_that_is_pinned():
    assert arguments("ARG") == ["DEVICE=cpu"]
    bases = [x.split(" AS ") for x in arguments("FROM")]
    stages = {base[1]: base[0] for base in bases if len(base) == 2}
    assert stages["build"] == "${DEVICE}"
    assert {"cpu", "gpu"} <= set(stages)
    images = {base[0] for base in bases} - {"${DEVICE}", *stages}
    (image,) = images
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", image)
    assert image in (DOCKER / "Dockerfile").read_text()
    for flag in re.findall(r"--build-arg DEVICE=(\w+)", FILE):
        assert flag in stages


def test_it_has_what_training_needs_in_versions_that_work():
    known = pinned()
    extra = PROJECT["optional-dependencies"]["hub"]
    for need in map(Requirement, [*PROJECT["dependencies"], *extra]):
        version = known[canonicalize_name(need.name)]
        assert need.specifier.contains(version), need
    (on_gpu,) = re.findall(r'"(tensorflow\[and-cuda\]==\S+)"', FILE)
    (specifier,) = Requirement(on_gpu).specifier
    assert specifier.version == known["tensorflow"]


def test_it_runs_as_another_user_and_writes_only_into_volumes():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", arguments("USER")[-1])
    (volumes,) = map(json.loads, arguments("VOLUME"))
    assert volumes == ["/data/videos", "/data/runs", "/data/cache"]
    assert arguments("WORKDIR") == ["/data"]
    environment = " ".join(arguments("ENV"))
    for name in ("HOME", "XDG_CACHE_HOME"):
        assert f"{name}=/data/cache" in environment
    last = FILE.rindex("FROM ")
    assert FILE.index("USER ") > last


def test_its_commands_are_of_the_program():
    (entry,) = map(json.loads, arguments("ENTRYPOINT"))
    assert entry == ["python", "-m", "har_keras"]
    (command,) = map(json.loads, arguments("CMD"))
    verb, *flags = command
    assert verb in __main__.VERBS
    options = cli.parse(TrainOptions, flags, verb=verb)
    assert options.videos == Path("videos")


def test_only_what_it_copies_is_sent_to_the_builder():
    text = (DOCKER / "train.Dockerfile.dockerignore").read_text()
    sent = {x[1:] for x in text.splitlines() if x.startswith("!")}
    copied = {
        name
        for line in arguments("COPY")
        if not line.startswith("--from")
        for name in line.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
