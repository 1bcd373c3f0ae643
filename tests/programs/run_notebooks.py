"""`python tests/programs/run_notebooks.py [01 ...]`: runs the notebooks anew.

Each is run from the wheel of this checkout in a folder of its own, and saved
with its outputs. Of a report, half a megabyte each, the first screen is kept as
a picture, which needs Chromium. Pictures are kept with few colors.
"""

import base64
import html
import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.notebooks import install_wheel, run_notebook  # noqa: E402

SIZE = (900, 640)
COLORS = 48


def main(numbers):
    """Runs the notebooks whose names start so; all of them by default."""
    with tempfile.TemporaryDirectory() as temporary:
        installed = install_wheel(Path(temporary))
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            if numbers and not path.name.startswith(tuple(numbers)):
                continue
            folder = Path(temporary) / path.stem
            folder.mkdir()
            notebook = nbformat.read(path, 4)
            run_notebook(notebook, folder, installed)
            notebook.metadata.language_info = {"name": "python"}
            for cell in notebook.cells:
                cell.metadata.pop("execution", None)
                for output in cell.get("outputs", ()):
                    keep_first_screen(output, folder)
                    keep_few_colors(output)
            nbformat.write(notebook, path)
            shutil.rmtree(folder)
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def keep_first_screen(output, folder):
    """Replaces a report in the output of a cell by a picture of it."""
    data = output.get("data", {})
    found = re.search(r'<iframe .*srcdoc="([^"]*)"', data.get("text/html", ""))
    if not found:
        return
    page, shot = folder / "page.html", folder / "page.png"
    page.write_text(html.unescape(found[1]), "utf-8")
    subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--hide-scrollbars"),
            f"--window-size={SIZE[0]},{SIZE[1]}",
            f"--screenshot={shot}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=900,
    )
    del data["text/html"]
    data["image/png"] = base64.b64encode(shot.read_bytes()).decode("ascii")
    output["metadata"] = {"image/png": {"width": SIZE[0], "height": SIZE[1]}}


def keep_few_colors(output):
    """Makes a picture in the output of a cell a third as large."""
    data = output.get("data", {})
    if "image/png" not in data:
        return
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    few, small = picture.convert("RGB").quantize(COLORS), io.BytesIO()
    few.save(small, "png", optimize=True)
    data["image/png"] = base64.b64encode(small.getvalue()).decode("ascii")


if __name__ == "__main__":
    main(sys.argv[1:])
