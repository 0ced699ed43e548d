"""The public API: lazy, in step with the zoo, and built of packages that import only from those above them."""

import ast
import doctest
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest
from conftest import python

import reszoo
from reszoo import models
from reszoo.arch import zoo
from reszoo.files import atomic_write

PACKAGE = Path(reszoo.__file__).parent

# Package -> the packages that it may import from.
PACKAGES = {
    "errors": set(),
    "config": {"errors"},
    "report": set(),
    "data": {"errors", "config", "report"},
    "arch": {"errors", "config"},
    "weights": {"errors", "config", "arch"},
    "models": {"errors", "config", "arch", "weights"},
    "applications": {"errors", "weights", "models"},
    "surgery": {"errors", "arch"},
    "training": {"errors", "config", "report", "data", "arch", "weights", "models"},
    "tuning": {"errors", "config", "data", "arch", "weights", "models", "training", "report"},
    "diagnosis": {"errors", "config", "data", "arch", "surgery", "report", "training"},
    "deployment": {"errors", "config", "report", "data", "arch", "weights", "training"},
}
# Type aliases, notebook tables and file writes may be imported everywhere.
PACKAGES = {"types": set(), "notebook": set(), "files": set()} | {
    package: above | {"types", "notebook", "files"} for package, above in PACKAGES.items()
}
PACKAGES["experiments"] = {*PACKAGES} - {"tuning", "deployment"}
PACKAGES["cli"] = {*PACKAGES}
FORMATS = {"errors", "files", "weights.formats"}
"""Readers of untrusted files import nothing about networks."""
PARSERS = {"struct", "zipfile", "pickletools"}
KERAS_MODULES = {
    *("arch/build.py", "arch/layers.py", "arch/liveness.py", "arch/scan.py"),
    *(f"training/{name}.py" for name in ("batches", "checkpointing", "devices", "fine_tune", "heads", "optimizers")),
    *(f"training/{name}.py" for name in ("callbacks", "losses", "rate_finder", "remarks")),
    *("training/run.py", "tuning/hypermodel.py", "tuning/worker_main.py"),
    # Beside Optuna, which imports NumPy, too.
    "tuning/improvement.py",
    *(f"experiments/{name}.py" for name in ("compare", "comparison", "degradation_gap", "evidence", "findings")),
    *(f"arch/{name}.py" for name in ("loops", "repeated", "stacked_optimizers")),
    "experiments/trainer.py",
    *(f"deployment/{name}.py" for name in ("bench", "check", "examples", "fold", "prepare", "rounding")),
}
KERAS_MODULES |= {str(file.relative_to(PACKAGE)) for file in (PACKAGE / "diagnosis").rglob("[!_]*.py")}


def imports(file):
    """Yields the imports of a module: (name, whether at its top level)."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield name, node in tree.body


MODULES = {".".join(file.relative_to(PACKAGE).with_suffix("").parts): file for file in sorted(PACKAGE.rglob("*.py"))}
"""Module name within the package -> its file."""


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_only_from_those_above_them(module):
    path, package = str(MODULES[module].relative_to(PACKAGE)), module.partition(".")[0]
    for name, at_top in imports(MODULES[module]):
        first, *rest = name.split(".")
        if first == "reszoo" and package in PACKAGES and rest:
            assert rest[0] in PACKAGES[package] | {package, "_version"}, f"{path} imports {name}"
            if module.startswith("weights.formats"):
                assert rest[0] in FORMATS or ".".join(rest[:2]) in FORMATS, f"{path} imports {name}"
        if first in ("keras", "tensorflow", "numpy") and at_top:
            assert path in KERAS_MODULES, f"{path} imports {name} at its top"
        if first in PARSERS:
            assert module.startswith("weights.formats"), f"{path} imports {name}: files are parsed in weights/formats"


def test_imports_have_no_cycle():
    """Imports inside functions and under TYPE_CHECKING count, too."""
    graph = {}
    for module, file in MODULES.items():
        names = {name.removeprefix("reszoo.") for name, _ in imports(file) if name.startswith("reszoo.")}
        graph[module] = {at for name in names for at in (name, name.rpartition(".")[0]) if at in MODULES} - {module}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_long(module):
    assert len(MODULES[module].read_text().splitlines()) <= 300


def test_vocabulary():
    """Results are named after what they are: spec, plan, schedule, attributes, summary, ..."""
    modules = [name for name, file in MODULES.items() if re.search(r"\btold\b", file.read_text(encoding="utf-8"))]
    assert modules == []


EXAMPLES = [name for name, file in MODULES.items() if ">>> " in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("module", EXAMPLES)
def test_docstring_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(importlib.import_module(f"reszoo.{module}"), optionflags=doctest.ELLIPSIS)
    assert results.attempted and not results.failed


def _write_bytes(path):
    path.write_bytes(b"all of it")


def _write_privately(path):
    """As libraries do that write by way of a temporary file of their own."""
    path.touch(mode=0o600)
    path.chmod(0o600)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("write", [_write_bytes, _write_privately])
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)], ids=oct)
def test_written_files_have_the_permissions_of_new_files(tmp_path, write, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as temporary:
            write(temporary)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_written_weights_have_the_permissions_of_new_files(tmp_path, name):
    from reszoo.weights.formats.write import write_safetensors, write_torch

    write = write_safetensors if name.endswith("safetensors") else write_torch
    write({"kernel": np.zeros((2, 3), "float32")}, tmp_path / name)
    (tmp_path / "new").touch()
    assert (tmp_path / name).stat().st_mode == (tmp_path / "new").stat().st_mode


def test_failed_write_leaves_the_file_unchanged(tmp_path):
    file = tmp_path / "file"
    file.write_text("before")
    with pytest.raises(RuntimeError), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(FileNotFoundError), atomic_write(file):
        pass
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("module", ["h5py"])
def test_no_module_imports_an_undeclared_dependency(module):
    """libhdf5 can crash on a damaged file; the package has its own reader."""
    files = [file for file in PACKAGE.rglob("*.py") if any(name.split(".")[0] == module for name, _ in imports(file))]
    assert files == []


def test_stub_lists_every_network():
    stub = (PACKAGE / "__init__.pyi").read_text()
    for name in zoo.builtin().names:
        assert f"    {name} as {name},\n" in stub, f"add `{name} as {name},` to reszoo/__init__.pyi"


def test_every_public_name_exists_and_has_a_docstring():
    assert set(zoo.builtin().names) <= set(dir(reszoo))
    for name in reszoo.__all__:
        assert inspect.getdoc(getattr(reszoo, name)), name


def test_modules_do_not_hide_public_functions_of_the_same_name():
    """Python sets a submodule as an attribute of its package when it is first imported."""
    modules = (
        "deployment.deploy",
        "deployment.bench",
        "diagnosis.diagnose",
        "experiments.compare",
        "experiments.evidence",
        "tuning.search",
        "training.train",
    )
    measures = ("gradient_profile", "signal", "information", "shattering", "loss_surface", "lesion", "path_length")
    modules += tuple(f"diagnosis.measures.{name}" for name in measures)
    code = f"import importlib, reszoo\nfor name in {modules}: importlib.import_module('reszoo.' + name)\n"
    names = (
        "deploy",
        "bench",
        "diagnose",
        "compare",
        "evidence",
        "search",
        "train",
        "origin",
        "preprocessing",
        "convert",
        "recipe",
    )
    public = [f"reszoo.{name}" for name in names]
    public += [f"reszoo.diagnosis.{name}" for name in ("gradient_profile", "information", "shattering", "path_length")]
    code += f"print([name for name in {public} if type(eval(name)).__name__ != 'function'])"
    assert python(code).strip() == "[]"


def test_builders_have_the_signature_of_create():
    arguments = [*inspect.signature(reszoo.create).parameters.values()][1:]
    assert [*inspect.signature(reszoo.resnet50).parameters.values()] == arguments
    assert [*inspect.signature(models.Builder.__call__).parameters.values()][1:] == arguments


def test_import_is_lazy_and_cost_needs_no_keras():
    heavy = "[m for m in ('keras', 'tensorflow', 'numpy', 'jax', 'torch') if m in sys.modules]"
    assert python(f"import sys, reszoo; print({heavy})").strip() == "[]"
    code = f"import sys, reszoo; reszoo.cost('resnet50'); reszoo.list_models(); print({heavy})"
    assert python(code).strip() == "[]"


IMPORTS = """
import importlib, json, locale, logging, os, pkgutil, sys, warnings
import keras, keras_tuner, lazy_loader, matplotlib, numpy, optuna, pydantic, rich, sklearn, tensorboard, typer, yaml
import keras.src.callbacks, rich.console, sklearn.datasets, sqlalchemy, tensorboard.summary

def state():
    loggers = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict if "reszoo" not in name}
    return {
        "warnings": [str(entry) for entry in warnings.filters], "levels": loggers, "root": logging.root.level,
        "handlers": len(logging.root.handlers), "optuna": optuna.logging.get_verbosity(),
        "matplotlib": [matplotlib.rcParams["backend"], len(matplotlib.rcParams)], "numpy": numpy.geterr(),
        "keras": [keras.config.floatx(), keras.config.dtype_policy().name, keras.config.image_data_format(),
                  keras.config.is_traceback_filtering_enabled(), keras.config.is_interactive_logging_enabled()],
        "python": [sys.getrecursionlimit(), str(sys.excepthook), locale.setlocale(locale.LC_ALL)],
        "environment": dict(os.environ), "print": numpy.get_printoptions()["precision"],
    }

before = state()
import reszoo
for module in pkgutil.walk_packages(reszoo.__path__, "reszoo."):
    if module.name != "reszoo.__main__":
        importlib.import_module(module.name)
for name in reszoo.__all__:
    getattr(reszoo, name)
after = state()
after["levels"] = {name: level for name, level in after["levels"].items() if name in before["levels"]}
print(json.dumps({key: [before[key], after[key]] for key in before if before[key] != after[key]}))
"""


def test_importing_changes_no_global_settings():
    assert python(IMPORTS).splitlines()[-1] == "{}"


def test_zoo_configs_are_a_package_resource():
    if importlib.util.find_spec("reszoo.zoo_configs") is None:
        pytest.skip("reszoo is not installed: this is a checkout on the path")
    folder = Path(importlib.import_module("reszoo.zoo_configs").__file__).parent
    assert {file.name for file in (folder / "models").iterdir()} >= {"imagenet.yaml", "cifar.yaml", "dense.yaml"}


UNKNOWN = [
    ("resnet51", "resnet50"),
    ("ResNet50", "resnet50"),
    ("resnet_50", "resnet50"),
    ("Resnet152", "resnet152"),
    ("ResNeXt50", "resnext50_32x4d"),
    ("WideResNet50", "wide_resnet50_2"),
    ("resnet56", "resnet56_cifar"),
    ("hyperresnet", "HyperResNet"),
    ("diagnos", "diagnose"),
    ("lod_weights", "load_weights"),
]


@pytest.mark.parametrize(("name", "nearest"), UNKNOWN)
def test_unknown_public_name_suggests_the_nearest(name, nearest):
    with pytest.raises(AttributeError, match=f"module 'reszoo' has no attribute '{name}'; did you mean '{nearest}'"):
        getattr(reszoo, name)
    # The import statement would replace an AttributeError by its own message.
    with pytest.raises(ImportError, match=f"cannot import name '{name}' from 'reszoo'; did you mean '{nearest}'"):
        exec(f"from reszoo import {name}")


def test_other_ways_to_look_up_a_name():
    assert not hasattr(reszoo, "resnet51") and getattr(reszoo, "resnet51", None) is None
    for name in ("__wrapped__", "_repr_html_", "zzz"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'$"):
            getattr(reszoo, name)
    with pytest.raises(AttributeError, match="did you mean 'resnet50'"):
        reszoo.models.resnet51  # noqa: B018
    with pytest.raises(AttributeError, match="did you mean 'path_length'"):
        reszoo.diagnosis.path_lenght  # noqa: B018
    code = "from reszoo import cli, errors, resnet50; from reszoo import *; print(cli.__name__, Budget.__name__)"
    assert python(code).strip() == "reszoo.cli Budget"
    process = subprocess.run([sys.executable, "-c", "import reszoo; reszoo.resnet51"], capture_output=True, text=True)
    assert process.stderr.lower().count("did you mean") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[1] / "examples").glob("*.py")), ids=lambda file: file.stem
)
def test_examples_run(tmp_path, file):
    assert len(file.read_text().splitlines()) <= 60
    process = subprocess.run([sys.executable, str(file)], cwd=tmp_path, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-2000:]
    assert process.stdout
