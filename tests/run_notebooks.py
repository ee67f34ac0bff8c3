"""Runs every notebook from a clean kernel: `make notebooks`; with --write, keeps what they put out."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run(path: Path, write: bool) -> str:
    """An empty string, or what went wrong."""
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    try:
        NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": str(NOTEBOOKS)}},
        ).execute()
    except CellExecutionError as error:
        return str(error)
    if write:
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":  # what a machine warns of is not worth keeping
                cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, path)
    print(f"{path.name}: ran in {time.perf_counter() - start:.0f} s")
    return ""


def main() -> None:
    failures = {
        path.name: said
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))
        if (said := run(path, "--write" in sys.argv))
    }
    for name, said in failures.items():
        print(f"{name} failed:\n{said}", file=sys.stderr)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
