"""axe-core, which finds what a page keeps from people with disabilities.

It is looked for in AXE_PATH, the path of an axe.min.js (npm install axe-core),
and in the package axe-playwright-python.
"""

import importlib.util
import os
from pathlib import Path

import pytest

_PACKAGES = ("axe_playwright_python", "axe_core_python")


def axe_source():
    """Returns its code; skips where it is not found."""
    named = os.environ.get("AXE_PATH")
    if named:
        return Path(named).read_text("utf-8")
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations if spec else ():
            for file in Path(folder).rglob("axe.min.js"):
                return file.read_text("utf-8")
    pytest.skip(
        "needs axe-core: pip install axe-playwright-python, or npm install "
        "axe-core and AXE_PATH=node_modules/axe-core/axe.min.js"
    )


def serious_faults(tab, source):
    """Returns what axe-core finds on a page, if it is serious or critical."""
    tab.evaluate(source)
    found = tab.evaluate("axe.run(document)")
    return [
        (fault["id"], fault["impact"], node["html"][:200])
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
