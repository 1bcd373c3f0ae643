"""The pages tell the truth: commands, code, links and figures of README, docs.

What is parsed here is run in `test_docs_run.py`.
"""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.pages import (
    DOCS,
    ROOT,
    TEXTS,
    anchors,
    blocks,
    links,
    prose,
    shell_commands,
    verb_of,
)
from test_readme import options_of

from har_keras import cli
from har_keras.__main__ import VERBS
from har_keras.benchmark import __main__ as benchmark
from har_keras.config import Config
from har_keras.run import Run
from har_keras.toml import read_toml

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = {
    name.removeprefix("docs/"): text
    for name, text in TEXTS.items()
    if name.startswith("docs/")
}
# Programs of others that the pages call.
OTHERS = {
    ".", "cd", "conda", "curl", "docker", "echo", "git", "openssl",
    "pip", "pre-commit", "pytest", "python", "python3", "saved_model_cli", "uv",
}  # fmt: skip


def make_runs():
    """Makes the runs that commands name, in the folder they are run in."""
    Run(Path("runs/first")).create(Config())  # for --resume
    pretrained = Config().replace(recipe="pretrain")
    Run(Path("runs/pretrained")).create(pretrained)  # for --weights


def own_commands():
    unique = {}
    for name, words in shell_commands():
        if found := verb_of(words):
            unique.setdefault(" ".join([found[0], *found[1]]), (name, found))
    for text, (name, found) in unique.items():
        yield pytest.param(*found, id=f"{name}: {text}")


@pytest.mark.parametrize(("verb", "flags"), list(own_commands()))
def test_a_command_has_flags_that_exist(verb, flags, tmp_path, monkeypatch):
    if verb in ("", "VERB") or "RUN" in flags:
        return
    assert verb in VERBS
    if verb == "completion":
        assert flags in (["bash"], ["zsh"])
        return
    monkeypatch.chdir(tmp_path)
    make_runs()
    monkeypatch.setattr("har_keras.run.hub_options", lambda name: {})
    options, flags = options_of(verb, flags)
    cli.parse(options, flags, verb=verb)


def test_commands_of_others_are_known():
    for name, words in shell_commands():
        assert verb_of(words) or words[0] in OTHERS, (name, words)


def requirements():
    """Yields what pip is told to install, in blocks and in the text."""
    for name, words in shell_commands():
        words = words[1:] if words[0] == "uv" else words
        if words[:2] == ["pip", "install"]:
            yield from ((name, word) for word in words[2:])
    for name, text in TEXTS.items():
        for found in re.findall(r'`pip\s+install\s+"?([^`"]+)"?`', prose(text)):
            yield name, found


def test_what_is_installed_exists():
    own = set(PROJECT["optional-dependencies"])
    others = {"tensorflow", "jax", "torch"}
    for name, text in requirements():
        package, extras = re.fullmatch(r"([^\[]+)(?:\[(.+)\])?", text).groups()
        extras = set(extras.split(",")) if extras else set()
        if package in (".", "har_keras"):
            assert extras <= own, (name, text)
            assert extras or package == ".", "it is on no index"
        elif not package.startswith("-"):
            assert package in others, (name, text)
            assert extras <= extras_of(package, extras), (name, text)


def extras_of(package, otherwise):
    """Returns the extras of a package; what is given if it is not here."""
    try:
        known = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return otherwise
    return set(known.get_all("Provides-Extra") or ())


def test_every_extra_is_on_the_page_of_the_installation():
    rows = re.findall(r"^\| (`.+?) \|", TEXTS["docs/install.md"], re.MULTILINE)
    shown = re.findall(r"`(\w+)`", " ".join(rows))
    assert sorted(shown) == sorted(PROJECT["optional-dependencies"])


def test_addresses_of_the_server_exist():
    source = "".join(
        path.read_text() for path in (ROOT / "har_keras/serve").glob("*.py")
    )
    found = [
        address
        for _, words in shell_commands()
        for word in words
        if words[0] == "curl"
        for address in re.findall(r"127\.0\.0\.1:8501(/[\w/]+)", word)
    ]
    assert found
    for address in found:
        assert f'"{address}"' in source, address


def test_there_is_one_spelling_of_commands():
    once = {
        "README.md": 2,  # the first command, and what the short form is
        "docs/index.md": 1,
        "docs/install.md": 1,
    }
    for name, text in TEXTS.items():
        long = re.findall(r"python3? -m har_keras", text)
        assert len(long) == once.get(name, 0), name


def test_every_verb_is_on_some_page():
    text = "".join(PAGES.values())
    for verb in VERBS:
        assert re.search(rf"har-keras {verb}\b|`{verb}`", text), verb


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for link in links(TEXTS[name]):
        target, _, anchor = link.partition("#")
        if ":" in target:
            continue
        file = (ROOT / name).parent.joinpath(target) if target else ROOT / name
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), link


def test_paths_in_the_text_exist():
    for name in ("README.md", "CONTRIBUTING.md"):
        for path in re.findall(r"`(\w+/(?:\w+\.py)?)`", prose(TEXTS[name])):
            assert any(
                (root / path).exists() for root in (ROOT, ROOT / "har_keras")
            ) or path in ("saved_model/", "checkpoint/"), path


@pytest.mark.parametrize("name", TEXTS)
def test_flags_in_the_text_exist(name):
    known = set(Config().flat()) | {"help", "help_all"}
    for verb in VERBS:
        for part in benchmark.OPTIONS if verb == "benchmark" else ("",):
            options, _ = options_of(verb, [part])
            known |= set(options.__dataclass_fields__)
    for found in re.findall(r"`--([a-z-]+)", TEXTS[name]):
        option = found.replace("-", "_")
        bare = option.removeprefix("no_")
        assert {option, bare} & known, f"--{found}"


def test_python_parses_and_names_what_exists():
    for name, block in blocks("python"):
        tree = ast.parse(block, filename=name)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = __import__(node.module, fromlist=["x"])
                assert all(hasattr(module, a.name) for a in node.names)


def test_toml_has_options_that_exist(tmp_path):
    found = list(blocks("toml"))
    assert found
    for _, block in found:
        file = tmp_path / "run.toml"
        file.write_text(block)
        Config().replace(**read_toml(file))


def test_blocks_have_a_language_that_is_looked_at():
    known = {"bash", "python", "toml", "text", "yaml"}
    for name, text in TEXTS.items():
        if name.startswith("docs/") or name == "README.md":
            opened = re.findall(r"^```(.*)$", text, re.MULTILINE)[::2]
            assert set(opened) <= known, name


def test_every_page_is_in_the_contents():
    contents = (ROOT / "mkdocs.yml").read_text()
    assert all(f": {name}\n" in contents for name in PAGES)


def test_every_picture_is_small_and_on_a_page():
    shown = {Path(x).name for text in TEXTS.values() for x in links(text)}
    for picture in DOCS.rglob("*.png"):
        assert picture.name in shown, picture
        assert picture.stat().st_size < 150_000, picture


def rows(text):
    """Yields the cells of every row of every table."""
    for line in re.findall(r"^\|(.+)\|$", text, re.MULTILINE):
        yield [cell.strip() for cell in line.split("|")]


def results(text):
    """Returns the cells of a row of results by test videos and recipe."""
    found, videos = {}, ""
    for cells in rows(text):
        if len(cells) > 4 and cells[1].startswith("`"):
            videos = cells[0] or videos
            found[videos, cells[1]] = cells[2:]
    return found


def test_the_results_of_the_readme_are_those_of_their_page():
    measured = results(TEXTS["docs/results.md"])
    shown = results(TEXTS["README.md"])
    assert len(shown) == 5
    for key, (accuracy, control, time) in shown.items():
        seeds, mean, _, its_control, its_time = measured[key]
        number = len(seeds.split(","))
        assert accuracy == f"{mean}, {number} seeds", key
        assert control == its_control, key
        assert its_time.startswith(time), key


def test_figures_are_on_the_pages_of_figures():
    known = TEXTS["docs/results.md"] + TEXTS["docs/experiments.md"]
    for name in ("README.md", "docs/index.md", "docs/train.md", "docs/gpu.md"):
        text = re.sub(r"## The model\n.*?\n## ", "", TEXTS[name], flags=re.S)
        for figure in re.findall(r"\b0\.\d{3}\b", prose(text)):
            assert figure in known, (name, figure)


def test_every_backbone_is_listed_with_its_cost_and_licence():
    pytest.importorskip("keras")
    from har_keras.models import _number, models

    page = {cells[0]: cells for cells in rows(PAGES["backbones.md"])}
    entries = models()
    for entry in entries:
        info = entry.info
        cells = page[f"`{info.name}`"]
        assert cells[2] == str(info.image_size)
        if info.parameters and entry.macs_of_clip:  # else it is not here
            assert cells[3] == _number(info.parameters)
            assert cells[4] == _number(entry.macs_of_clip)
        stated = info.license.partition(" (")[0]
        assert cells[5] in stated or cells[5].lower() in stated
    listed = [cells for cells in page.values() if len(cells) == 6]
    assert len(listed) == len(entries) + 1  # the head of the table


def test_names_in_the_reference_exist():
    names = re.findall(r"^::: (\S+)$", "".join(PAGES.values()), re.MULTILINE)
    assert names
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("har_keras"):
                continue  # its extra is not installed
            module, _, function = name.rpartition(".")
            assert hasattr(importlib.import_module(module), function), name


def test_every_public_name_is_in_the_reference():
    import har_keras

    page = PAGES["reference/inference.md"]
    for name in har_keras.__all__:
        if name != "__version__":
            assert f"::: har_keras.{name}\n" in page, name


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path):
    if not shutil.which("mkdocs"):
        pytest.skip("the extra [docs] is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    index = json.loads((tmp_path / "search" / "search_index.json").read_text())
    pages = {entry["location"] for entry in index["docs"]}
    assert any("har_keras.train.train" in page for page in pages)
    assert any("har_keras.VideoClassifier" in page for page in pages)
    reference = (tmp_path / "reference/inference/index.html").read_text()
    assert not re.search(r"<p>(Path|str|float|int)\b[^.<]*\. ", reference)
