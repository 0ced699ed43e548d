"""Tutorials: notebooks that run from top to bottom, and show what they print today in shape."""

import ast
import json
import re
from pathlib import Path

import pytest
from conftest import needs

TUTORIALS = sorted((Path(__file__).parents[1] / "docs" / "pages" / "tutorials").glob("*.ipynb"))
IDS = {"ids": lambda file: file.stem}


def cells(file, kind):
    return [cell for cell in json.loads(file.read_text("utf-8"))["cells"] if cell["cell_type"] == kind]


def test_there_are_tutorials():
    assert len(TUTORIALS) >= 6


@pytest.mark.parametrize("file", TUTORIALS, **IDS)
def test_a_tutorial_was_executed_whole(file):
    """In order, without an error, and with nothing of the machine it ran on."""
    counts = [cell["execution_count"] for cell in cells(file, "code")]
    assert counts == [*range(1, len(counts) + 1)]
    outputs = [output for cell in cells(file, "code") for output in cell["outputs"]]
    assert outputs and not [
        output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"
    ]
    assert not re.search(r"/(tmp|home|root|work)/|\\x1b", file.read_text("utf-8"))
    for cell in cells(file, "code"):
        ast.parse("".join(cell["source"]))


@pytest.mark.parametrize("file", TUTORIALS, **IDS)
def test_links_of_a_tutorial_exist(file):
    text = "".join("".join(cell["source"]) for cell in cells(file, "markdown"))
    links = re.findall(r"\]\((?!https?:)([^)\s#]+)", text)
    assert links and not [link for link in links if not (file.parent / link).exists()]


@pytest.mark.slow
@needs("nbclient", "ipykernel")
@pytest.mark.parametrize("file", TUTORIALS, **IDS)
def test_a_tutorial_runs(file, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
