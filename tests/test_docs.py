"""The pages tell the truth: their commands parse, their links lead somewhere.

`test_readme.py` does the same for the README.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import commands, make_runs, options_of

from har_keras import cli
from har_keras.__main__ import VERBS
from har_keras.benchmark import __main__ as benchmark
from har_keras.config import Config
from har_keras.toml import read_toml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = {page.relative_to(DOCS).as_posix(): page.read_text() for page in PAGES}


def blocks(language):
    for name, text in TEXTS.items():
        for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL):
            yield name, block


def shell_commands():
    for name, block in blocks("bash"):
        for words in commands([block]):
            yield pytest.param(words, id=f"{name}: {' '.join(words)}")


@pytest.mark.parametrize("words", list(shell_commands()))
def test_a_command_has_flags_that_exist(words, tmp_path, monkeypatch):
    module, *flags = words
    verb = module.removeprefix("har_keras").removeprefix(".")
    if not verb and flags:
        verb, *flags = flags
    if not verb:
        return
    assert verb in VERBS
    monkeypatch.chdir(tmp_path)
    make_runs()
    monkeypatch.setattr("har_keras.run.hub_options", lambda name: {})
    options, flags = options_of(verb, flags)
    cli.parse(options, flags, verb=verb)


def test_every_verb_is_on_some_page():
    text = "".join(TEXTS.values())
    for verb in VERBS:
        assert re.search(rf"har[-_]keras[. ]{verb}\b|`{verb}`", text), verb


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", TEXTS[name]):
        assert (DOCS / name).parent.joinpath(link).is_file(), link


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


def test_every_page_is_in_the_contents():
    contents = (ROOT / "mkdocs.yml").read_text()
    assert all(f": {name}\n" in contents for name in TEXTS)


def test_names_in_the_reference_exist():
    import importlib

    names = re.findall(r"^::: (\S+)$", "".join(TEXTS.values()), re.MULTILINE)
    assert names
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith("har_keras"):
                continue  # its extra is not installed
            module, _, function = name.rpartition(".")
            assert hasattr(importlib.import_module(module), function), name


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
