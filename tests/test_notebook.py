"""Results in a notebook: tables instead of long texts, in a notebook that is executed."""

import re
import tarfile
from pathlib import Path

import pytest
from conftest import needs

import reszoo
from reszoo.arch.cost import Cost
from reszoo.arch.ops import Plan
from reszoo.arch.spec import NetSpec
from reszoo.tuning.results import Trial

BEFORE = Path(__file__).parent / "before"
LINES, CHARACTERS = 2, 320
"""Most of a `repr`: one or two lines of about 160 characters."""
SHOWN = {
    "Data": (reszoo.Data, "data = reszoo.open_data('digits')", "data"),
    "Audit": (reszoo.Audit, "", "data.audit()"),
    "Recipe": (reszoo.Recipe, "", "reszoo.recipe('fast')"),
    "NetSpec": (NetSpec, "", "reszoo.spec('resnet50')"),
    "Cost": (Cost, "", "reszoo.cost('resnet50')"),
    "Plan": (Plan, "", "reszoo.plan(reszoo.spec('resnet50'))"),
    "Report": (reszoo.Report, "model, report = reszoo.from_checkpoint('resnet20_cifar.fashion_mnist')", "report"),
    "Study": (reszoo.Study, "study = reszoo.open_study('study')", "study"),
    "Trial": (Trial, "", "study.best()"),
    "Evaluation": (reszoo.Evaluation, "", "reszoo.evaluate('run/best.keras', 'digits')"),
    "Diagnosis": (
        reszoo.Diagnosis,
        "x, y = data.arrays('validation')\n"
        "net = reszoo.resnet20_cifar(depths=1, width_multiplier=0.25, input_shape=data.shape, classes=10)",
        "reszoo.diagnose(net, x[:16], y[:16])",
    ),
    "Comparison": (
        reszoo.Comparison,
        "small = {'depths': 2, 'width_multiplier': 0.0625, 'shallow': 1, 'steps': 2, 'seeds': (0,), 'rates': (0.01,)}",
        "reszoo.compare('residual_mlp18', 'digits', against=['plain twin'], measure=(), **small)",
    ),
    "Evidence": (
        reszoo.Evidence,
        "",
        "reszoo.evidence('digits', depths=(4,), seeds=(0,), steps=2, claims=['gradient flow'])",
    ),
}
"""Class by name; what a cell runs before, and the expression that it ends with."""


@pytest.mark.parametrize("name", SHOWN)
def test_a_result_has_a_table_for_notebooks(name):
    assert callable(getattr(SHOWN[name][0], "_repr_html_", None))


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """What the cells of a notebook show, by the name of the class."""
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("notebook")
    for name in ("run", "study"):
        with tarfile.open(BEFORE / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    cells = [f"{before}\n{shown}" for _, before, shown in SHOWN.values()]
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(code) for code in ("import reszoo", *cells)]
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    found = {}
    for name, cell in zip(SHOWN, notebook.cells[1:], strict=True):
        found[name] = next(output.data for output in cell.outputs if output.output_type == "execute_result")
    return found


@pytest.mark.slow
@needs("nbclient", "nbformat", "ipykernel")
@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_shows_a_table_or_a_picture(executed, name):
    page = executed[name].get("text/html", "")
    assert re.search(r"<(table|svg|img)\b", page), f"{name} shows {page[:200]!r}"
    assert "<script" not in page


@pytest.mark.slow
@needs("nbclient", "nbformat", "ipykernel")
@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_prints_a_result_in_one_or_two_lines(executed, name):
    text = executed[name]["text/plain"]
    assert len(text.splitlines()) <= LINES and len(text) <= CHARACTERS, text[:500]
