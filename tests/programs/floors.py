"""Prints the oldest version that each dependency may have, as constraints.

python tests/programs/floors.py > floors.txt
pip install -c floors.txt -e .
"""

import tomllib
from pathlib import Path

project = tomllib.loads(
    (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
)["project"]
for dependency in project["dependencies"]:
    # Of 4.11 there may be only a 4.11.0.86.
    print(f"{dependency.replace('>=', '==')}.*")
