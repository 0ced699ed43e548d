"""How much of the package a reader enters: calls of three ordinary uses, imports, `Any` in signatures, longest modules.

    python benchmarks/walks.py [--walks weights train search] [--no-walks]

Each walk runs in its own process under `sys.setprofile`, in all threads. Counted are the modules and functions of
reszoo that are entered, and the crossings: calls whose direct caller is in another module of reszoo. Module and class
bodies and comprehensions are not counted. A generator counts each time it is entered.

    weights   resnet50(weights=..., classes=5), from a PyTorch file of random weights that reszoo.convert wrote before
    train     one epoch of reszoo.train on scikit-learn's digits
    search    one trial of reszoo.search (digits_small, 2e6 MACs), trained in this process instead of a worker process

The rest reads the sources: which package imports which, imports inside functions included; import cycles; how many
public signatures contain `Any`; and the longest modules.
"""

import argparse
import ast
import inspect
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from machine import describe

import reszoo

PACKAGE = Path(reszoo.__file__).parent
ORDER = (
    *("_version", "types", "errors", "files", "notebook", "config", "report", "data", "arch"),
    *("weights", "models", "applications", "surgery", "training", "tuning", "diagnosis", "experiments", "deployment"),
    *("cli", "__main__"),
)
"""Packages, each of which may import those before it; `reszoo` itself imports lazily by name."""


NOT_CALLED = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "__create_fn__"}
"""Names of code that belongs to the function around it, and of what `dataclass` runs once in a class body."""


# Walks.


class Profile:
    """Counts entered functions and calls between modules while it is active."""

    def __init__(self):
        self.functions = set()
        self.crossings = 0

    def __call__(self, frame, event, argument):
        code = frame.f_code
        # Only functions have optimized locals; bodies of modules and classes do not.
        if event != "call" or not code.co_flags & inspect.CO_OPTIMIZED or code.co_name in NOT_CALLED:
            return
        module = frame.f_globals.get("__name__", "")
        if not _ours(module):
            return
        self.functions.add((module, code.co_qualname, code.co_firstlineno))
        caller = frame.f_back.f_globals.get("__name__", "") if frame.f_back else ""
        self.crossings += caller != module and _ours(caller)

    def __enter__(self):
        threading.setprofile(self)
        sys.setprofile(self)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)
        threading.setprofile(None)

    def counts(self):
        modules = Counter(module for module, *_ in self.functions)
        return {"functions": len(self.functions), "crossings": self.crossings, "modules": dict(modules)}


def _ours(module):
    return module == "reszoo" or module.startswith("reszoo.")


def weights(folder):
    file = folder / "resnet50.pth"
    reszoo.resnet50().save(folder / "resnet50.keras")
    reszoo.convert(folder / "resnet50.keras", file)
    # Counted without what is cached now: plans, dialects and the zoo are read once per process.
    code = f"import walks, reszoo; walks.show(lambda: reszoo.resnet50(weights={str(file)!r}, classes=5))"
    return _fresh(code)


def train(folder):
    settings = {"output": str(folder / "run"), "epochs": 1, "verbose": 0}
    return _fresh(f"import walks, reszoo; walks.show(lambda: reszoo.train('resnet20_cifar', 'digits', **{settings!r}))")


def search(folder):
    return _fresh(f"import walks; walks.show(lambda: walks.search_in_process({str(folder / 'study')!r}))")


WALKS = {"weights": weights, "train": train, "search": search}


def _fresh(code):
    """Returns what `show` prints in a new process."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); {code}"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def show(use):
    """Prints the counts of a use as a line of JSON."""
    with Profile() as profile:
        use()
    print("\n" + json.dumps(profile.counts()))


def search_in_process(folder):
    """Searches one trial, trained in this process."""
    import keras

    from reszoo.training.run import run
    from reszoo.tuning.job import Outcome, Progress

    class InProcess:
        """Does what a worker process does, without messages and without watching memory."""

        def do(self, job, *, ask):
            class Ask(keras.callbacks.Callback):
                history = ()

                def on_epoch_begin(self, epoch, logs=None):
                    ask(Progress([*self.history]))

                def on_epoch_end(self, epoch, logs=None):
                    self.history = (*self.history, logs)

            result = run(
                job.spec, job.source.open(), job.recipe, job.folder, seed=job.seed, callbacks=(Ask(),), verbose=0
            )
            return Outcome("complete", result.history)

        def stop(self):
            pass

        close = stop

    class InProcessSearch(reszoo.Search):
        worker = InProcess

    study = InProcessSearch("digits_small", "digits", folder=folder, budget={"macs": 2e6}, epochs=1)
    study.search(trials=1)
    assert [trial.state for trial in study.trials] == ["complete"]


def print_walks(names):
    print("\nwalk       modules  functions  crossings")
    tables = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            counts = tables[name] = WALKS[name](Path(folder))
        modules, functions, crossings = (len(counts["modules"]), counts["functions"], counts["crossings"])
        print(f"{name:10} {modules:7}  {functions:9}  {crossings:9,}", flush=True)
    for name, counts in tables.items():
        modules = sorted(counts["modules"].items())
        print(f"\n{name}: " + ", ".join(f"{module.removeprefix('reszoo.')} {count}" for module, count in modules))


# Sources.


def _modules():
    names = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def imports():
    """Returns for every module the modules of reszoo it imports, those inside functions and for typing included."""
    modules = _modules()
    edges = defaultdict(set)
    for name, file in modules.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                paths = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [path if path in modules else node.module for path in paths]
            else:
                continue
            edges[name] |= {target for target in targets if target in modules and target not in ("reszoo", name)}
    return edges


def cycles(edges):
    """Returns sets of modules that import each other, directly or through others."""

    def reachable(start):
        seen, stack = set(), [start]
        while stack:
            for target in edges.get(stack.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    stack.append(target)
        return seen

    reach = {name: reachable(name) for name in edges}
    return {frozenset(b for b in reach[a] if a in reach.get(b, ())) for a in reach if a in reach[a]}


def print_imports():
    edges = imports()
    packages = defaultdict(Counter)
    for name, targets in ((name, edges[name]) for name in edges if name != "reszoo"):
        for target in targets:
            source, goal = (module.split(".")[1] for module in (name, target))
            if source != goal:
                packages[source][goal] += 1
    print("\npackage       imports (number of module pairs)")
    present = [name for name in ORDER if any(module.split(".")[1:2] == [name] for module in _modules())]
    for name in present:
        line = ", ".join(f"{goal} {packages[name][goal]}" for goal in present if packages[name][goal])
        print(f"{name:13} {line or '-'}")
    rank = {name: number for number, name in enumerate(ORDER)}
    upward = [(a, b) for a, goals in packages.items() for b in goals if rank.get(b, -1) >= rank.get(a, -1)]
    print(f"imports against the order: {upward or 'none'}; import cycles: {[*map(sorted, cycles(edges))] or 'none'}")


def _public():
    """Yields the definition of every public name: a function or a class, from the stub where there is one."""
    for stub in (PACKAGE / "__init__.pyi", PACKAGE / "diagnosis" / "__init__.pyi"):
        for node in ast.parse(stub.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            file = stub.parent.joinpath(*node.module.split(".")).with_suffix(".pyi")
            file = file if file.exists() else file.with_suffix(".py")
            names = {alias.name for alias in node.names}
            for definition in ast.parse(file.read_text(encoding="utf-8")).body:
                if getattr(definition, "name", None) in names:
                    yield definition


def _signatures(definition):
    """Yields name and function for a function, or for the constructor and the public methods of a class."""
    if isinstance(definition, ast.FunctionDef):
        yield definition.name, definition
    elif isinstance(definition, ast.ClassDef):
        for node in definition.body:
            if isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
                yield f"{definition.name}.{node.name}", node


def print_any():
    results, arguments, total = [], [], 0
    for definition in _public():
        for name, function in _signatures(definition):
            inputs = function.args
            every = [*inputs.posonlyargs, *inputs.args, *inputs.kwonlyargs, inputs.vararg, inputs.kwarg]
            annotations = {one.arg: one.annotation for one in every if one is not None and one.annotation}
            total += len(annotations)
            arguments += [f"{name}({argument})" for argument, node in annotations.items() if _has_any(node)]
            if function.returns is not None and _has_any(function.returns):
                results.append(name)
    print(f"\nAny in public signatures: {len(arguments)} of {total} arguments, {len(results)} results")
    print(f"results: {', '.join(results) or 'none'}\narguments: {', '.join(arguments) or 'none'}")


def _has_any(annotation):
    return any(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(annotation))


def print_lengths(count=12):
    lengths = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in _modules().items()}
    longest = sorted(lengths, key=lengths.get, reverse=True)[:count]
    print(f"\n{len(lengths)} modules, {sum(lengths.values()):,} lines; the longest:")
    print("\n".join(f"{lengths[name]:5}  {name}" for name in longest))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--walks", nargs="+", choices=[*WALKS], default=[*WALKS])
    parser.add_argument("--no-walks", action="store_true", help="read the sources only")
    arguments = parser.parse_args()
    describe("reszoo", "keras", "tensorflow")
    print_imports()
    print_any()
    print_lengths()
    if not arguments.no_walks:
        print_walks(arguments.walks)


if __name__ == "__main__":
    main()
