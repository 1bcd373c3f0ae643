"""What an error tells people to do can be done: flags, verbs, extras exist."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from har_keras import cli
from har_keras.__main__ import VERBS, options_of

ROOT = Path(__file__).parents[1]
# Of other programs, or the package's own that are no field.
OTHERS = {
    "help", "help-all", "tyro-print-completion",
    "force-reinstall", "local-dir", "query-gpu", "upgrade", "user",
}  # fmt: skip

# Where flags are those of TensorFlow Serving, Beam and pip.
FOREIGN = ("/serving/", "/beam.py", "/report/html.py")


def texts():
    """Yields every string of the package, with the file that it is in."""
    for file in sorted((ROOT / "har_keras").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield file.relative_to(ROOT).as_posix(), node.value


def flags():
    """Returns every flag of every verb."""
    found = set(OTHERS)
    for verb in VERBS:
        for options in options_of(verb).values():
            made = cli.command(options, cli.default_settings(options))
            for name, field in made.__dataclass_fields__.items():
                inner = getattr(field.type, "__dataclass_fields__", {})
                found |= {x.replace("_", "-") for x in (name, *inner)}
    return found | {f"no-{name}" for name in found}


@pytest.fixture(scope="module")
def known():
    return flags()


def test_flags_exist(known):
    for file, text in texts():
        if any(part in file for part in FOREIGN):
            continue
        for name in re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)(?!\w)", text):
            assert name.rstrip("-") in known, f"{file}: --{name} in {text!r}"


def test_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for file, text in texts():
        for name in re.findall(r"har_keras\[(\w+)\]", text):
            assert name in extras, f"{file}: [{name}]"


def test_verbs_exist():
    for file, text in texts():
        for name in re.findall(r"har-keras ([a-z]\w+)", text):
            assert name in VERBS, f"{file}: {name}"
