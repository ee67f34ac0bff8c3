"""Runs every notebook from a clean kernel, two at a time: `make notebooks`.

With --write, what they put out is kept in the files.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PICTURE = "image/png"


def run(path: Path, write: bool) -> str:
    """Runs one notebook.

    Args:
        path: The notebook.
        write: Whether to keep what it puts out.

    Returns:
        An empty string, or what went wrong.
    """
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return str(error)
    if write:
        keep(notebook, path)
    print(f"{path.name}: ran in {time.perf_counter() - start:.0f} s", flush=True)
    return ""


def keep(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Writes a notebook with its outputs, without what a machine warns of and how long it took."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for out in cell.outputs:
                data = out.get("data", {})
                if PICTURE in data:
                    data[PICTURE] = lean(data[PICTURE])
    notebook.metadata.pop("widgets", None)
    nbformat.write(notebook, path)


def lean(picture: str) -> str:
    """A picture in base64, brought to 256 colours where that makes it smaller."""
    before = base64.b64decode(picture)
    image = Image.open(io.BytesIO(before)).convert("RGB")
    after = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(after, format="png", optimize=True)
    if after.tell() >= len(before):
        return picture
    return base64.b64encode(after.getvalue()).decode()


def main() -> None:
    """Runs all of them; the exit code is 1 if any fails."""
    write = "--write" in sys.argv
    workers = min(2, os.cpu_count() or 1)
    # From the last one on: the first ones are the shortest, and leave no worker idle at the end.
    paths = sorted(NOTEBOOKS.glob("*.ipynb"), reverse=True)
    with ProcessPoolExecutor(workers) as pool:
        started = {path: pool.submit(run, path, write) for path in paths}
    failed = False
    for path, future in started.items():
        if reason := future.result():
            print(f"{path.name} failed:\n{reason}", file=sys.stderr)
            failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
