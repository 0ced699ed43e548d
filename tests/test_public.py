"""The public face: lazy, in step with the zoo, and built of rooms that import only what stands above them."""

import ast
import importlib.util
import inspect
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import python

import reszoo
from reszoo.arch import zoo

PACKAGE = Path(reszoo.__file__).parent

# What each package may import of the others: those above it.
ROOMS = {
    "errors": set(),
    "atomic": set(),
    "config": {"errors"},
    "data": {"errors", "config"},
    "arch": {"errors", "config"},
    "weights": {"errors", "atomic", "config", "arch"},
    "models": {"errors", "config", "arch", "weights"},
    "surgery": {"errors", "arch"},
    "report": {"atomic"},
    "training": {"errors", "atomic", "config", "data", "arch", "weights", "models"},
    "tuning": {"errors", "atomic", "config", "data", "arch", "weights", "models", "training", "report"},
    "diagnosis": {"errors", "config", "data", "arch", "surgery", "report", "training"},
}
# Words for signatures, and tables for notebooks: everyone's.
ROOMS = {"types": set(), "notebook": set()} | {room: above | {"types", "notebook"} for room, above in ROOMS.items()}
ROOMS["experiments"] = {*ROOMS} - {"tuning"}
ROOMS["deploy"] = {"errors", "atomic", "config", "data", "arch", "weights", "training"}
ROOMS["cli"] = {*ROOMS}
FORMATS = {"errors", "atomic", "weights.formats"}
"""What reads files of strangers knows nothing of networks."""
PARSERS = {"struct", "zipfile", "pickletools"}
KERAS_ROOMS = {
    *("arch/build.py", "arch/layers.py", "arch/liveness.py", "weights/preprocessing_layers.py"),
    *(f"training/{name}.py" for name in ("batches", "checkpointing", "devices", "evaluate", "fine_tune", "optimizers")),
    *("training/run.py", "tuning/hypermodel.py", "tuning/worker_main.py"),
    *(f"experiments/{name}.py" for name in ("compare", "comparison", "degradation_gap", "evidence", "findings")),
    *("experiments/looped.py", "experiments/trainer.py"),
}
KERAS_ROOMS |= {str(file.relative_to(PACKAGE)) for file in (PACKAGE / "diagnosis").rglob("[!_]*.py")}


def imports(file):
    """What a module imports: (name, whether at its top level)."""
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
"""Every module by its name within the package."""


@pytest.mark.parametrize("module", MODULES)
def test_rooms_import_only_what_stands_above_them(module):
    place, room = str(MODULES[module].relative_to(PACKAGE)), module.partition(".")[0]
    for name, at_top in imports(MODULES[module]):
        first, *rest = name.split(".")
        if first == "reszoo" and room in ROOMS and rest:
            assert rest[0] in ROOMS[room] | {room, "_version"}, f"{place} imports {name}"
            if module.startswith("weights.formats"):
                assert rest[0] in FORMATS or ".".join(rest[:2]) in FORMATS, f"{place} imports {name}"
        if first in ("keras", "tensorflow", "numpy") and at_top:
            assert place in KERAS_ROOMS, f"{place} imports {name} at its top"
        if first in PARSERS:
            assert module.startswith("weights.formats"), f"{place} imports {name}: files are parsed in weights/formats"


def test_no_module_imports_itself_by_way_of_others():
    """Imports inside functions and under TYPE_CHECKING count: they keep a circle open, and it is one."""
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


@pytest.mark.parametrize("module", ["h5py"])
def test_no_module_imports_what_is_not_required(module):
    """libhdf5 can crash on a damaged file; the package has a reader of its own."""
    files = [file for file in PACKAGE.rglob("*.py") if any(name.split(".")[0] == module for name, _ in imports(file))]
    assert files == []


def test_the_stub_names_every_network():
    stub = (PACKAGE / "__init__.pyi").read_text()
    for name in zoo.builtin().names:
        assert f"    {name} as {name},\n" in stub, f"add `{name} as {name},` to reszoo/__init__.pyi"


def test_every_public_name_exists_and_says_what_it_is():
    assert set(zoo.builtin().names) <= set(dir(reszoo))
    for name in reszoo.__all__:
        assert inspect.getdoc(getattr(reszoo, name)), name


def test_a_module_does_not_hide_the_public_function_of_its_name():
    """Python writes a submodule into its package when it is first imported."""
    modules = ("diagnosis.diagnose", "experiments.compare", "experiments.evidence", "tuning.search", "training.train")
    measures = ("gradient_profile", "signal", "information", "shattering", "loss_surface", "lesion", "path_length")
    modules += tuple(f"diagnosis.measures.{name}" for name in measures)
    code = f"import importlib, reszoo\nfor name in {modules}: importlib.import_module('reszoo.' + name)\n"
    names = ("diagnose", "compare", "evidence", "search", "train", "origin", "preprocessing", "convert", "recipe")
    public = [f"reszoo.{name}" for name in names]
    public += [f"reszoo.diagnosis.{name}" for name in ("gradient_profile", "information", "shattering", "path_length")]
    code += f"print([name for name in {public} if type(eval(name)).__name__ != 'function'])"
    assert python(code).strip() == "[]"


def test_the_builder_stub_has_the_signature_of_create():
    stub = ast.parse((PACKAGE / "models.pyi").read_text())
    create = next(node for node in stub.body if isinstance(node, ast.FunctionDef) and node.name == "create")
    call = next(node for node in ast.walk(stub) if isinstance(node, ast.FunctionDef) and node.name == "__call__")
    real = [*inspect.signature(reszoo.create).parameters]
    for node in (create, call):
        named = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        assert [*named[1:], node.args.kwarg.arg] == real[1:]
    assert [*inspect.signature(reszoo.resnet50).parameters] == real[1:]


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


def test_importing_changes_no_filter_no_verbosity_and_no_log_level():
    assert python(IMPORTS).splitlines()[-1] == "{}"


def test_the_networks_are_a_package_resource():
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


@pytest.mark.parametrize(("name", "meant"), UNKNOWN)
def test_an_unknown_public_name_is_an_error_that_names_the_nearest(name, meant):
    with pytest.raises(AttributeError, match=f"module 'reszoo' has no attribute '{name}'; did you mean '{meant}'"):
        getattr(reszoo, name)
    # Python would swallow the AttributeError: the import statement gets an ImportError of its own.
    with pytest.raises(ImportError, match=f"cannot import name '{name}' from 'reszoo'; did you mean '{meant}'"):
        exec(f"from reszoo import {name}")


def test_other_ways_to_ask_for_a_name():
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
    shown = subprocess.run([sys.executable, "-c", "import reszoo; reszoo.resnet51"], capture_output=True, text=True)
    assert shown.stderr.lower().count("did you mean") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[1] / "examples").glob("*.py")), ids=lambda file: file.stem
)
def test_examples_run(tmp_path, file):
    assert len(file.read_text().splitlines()) <= 60
    done = subprocess.run([sys.executable, str(file)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout
