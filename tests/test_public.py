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
ROOMS["experiments"] = {*ROOMS} - {"tuning"}
ROOMS["deploy"] = {"errors", "atomic", "config", "data", "arch", "weights", "training"}
ROOMS["cli"] = {*ROOMS}
FORMATS = {"errors", "atomic", "weights.formats"}
"""What reads files of strangers knows nothing of networks."""
PARSERS = {"struct", "zipfile", "pickletools"}
KERAS_ROOMS = {
    *("arch/build.py", "arch/layers.py", "weights/preprocessing_layers.py"),
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


def test_the_networks_are_a_package_resource():
    if importlib.util.find_spec("reszoo.zoo_configs") is None:
        pytest.skip("reszoo is not installed: this is a checkout on the path")
    folder = Path(importlib.import_module("reszoo.zoo_configs").__file__).parent
    assert {file.name for file in (folder / "models").iterdir()} >= {"imagenet.yaml", "cifar.yaml", "dense.yaml"}


def test_unknown_public_name():
    with pytest.raises(AttributeError):
        reszoo.resnet51  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[1] / "examples").glob("*.py")), ids=lambda file: file.stem
)
def test_examples_run(tmp_path, file):
    assert len(file.read_text().splitlines()) <= 60
    done = subprocess.run([sys.executable, str(file)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout
