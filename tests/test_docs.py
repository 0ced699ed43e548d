"""README and docs: their code runs, their links lead somewhere, their numbers name a command, nothing is left out."""

import ast
import configparser
import contextlib
import doctest
import io
import re
import runpy
from pathlib import Path

import pytest
from conftest import python

import reszoo

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "pages"
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(PAGES.rglob("*.md"))]
FENCE = re.compile(r"(?:<!-- skip: (?P<skip>[^>]+) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"reszoo (?!info|list)\w+|python benchmarks/\w+\.py|python examples/\w+\.py")
IDS = {"ids": lambda value: value.relative_to(ROOT).as_posix() if isinstance(value, Path) else None}


def blocks(file, language):
    """The fenced blocks of a page in a language: (text before it, why it is skipped, code)."""
    text = file.read_text("utf-8")
    for match in FENCE.finditer(text):
        if match["language"] == language:
            yield text[: match.start()], match["skip"], match["code"]


PYTHON = [file for file in FILES if file.name != "CONTRIBUTING.md" and [*blocks(file, "python")]]
SKIPPED = [(file, number, why) for file in PYTHON for number, (_, why, _) in enumerate(blocks(file, "python")) if why]


@pytest.mark.parametrize("file", PYTHON, **IDS)
def test_code_of_a_page_runs(file, tmp_path, monkeypatch):
    """The blocks of a page share their names, as when a reader runs them one after another."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for before, why, code in blocks(file, "python"):
        if why:
            continue
        if ">>> " in code:
            test = doctest.DocTestParser().get_doctest(code, names, file.name, str(file), before.count("\n"))
            runner, shown = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE), io.StringIO()
            runner.run(test, out=shown.write, clear_globs=False)
            names.update(test.globs)
            assert runner.failures == 0, shown.getvalue()
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, str(file), "exec"), names)


@pytest.mark.parametrize(("file", "number", "why"), SKIPPED, **IDS)
def test_code_that_is_skipped_is_python(file, number, why):
    code = [*blocks(file, "python")][number][2]
    if ">>> " not in code:
        ast.parse(code)
    pytest.skip(f"block {number + 1} of {file.name}: {why}")


def test_the_docstring_template_runs():
    code = next(code for _, _, code in blocks(ROOT / "CONTRIBUTING.md", "python"))
    names = {"ReszooError": reszoo.ReszooError}
    exec(code, names)
    tests = doctest.DocTestFinder().find(names["halved"], "halved", module=False, globs=names)
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.tries >= 1 and runner.failures == 0


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def test_the_installation_without_tensorflow_names_every_requirement():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    needed = settings["options"]["install_requires"].split()
    page = (PAGES / "guides" / "backends.md").read_text("utf-8")
    assert [name for name in needed if f"'{name}'" not in page] == ["tensorflow>=2.18"]


def test_the_citation_has_the_version():
    assert f"\nversion: {reszoo.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_the_example_of_the_readme_has_at_most_six_lines():
    code = next(code for _, _, code in blocks(ROOT / "README.md", "python"))
    assert len([line for line in code.splitlines() if line.strip()]) <= 6


def anchors(file):
    """The anchors of a page's headings, as the site and the usual hosts make them."""
    text = re.sub(r"^```.*?^```$", "", file.read_text("utf-8"), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("file", FILES, **IDS)
def test_relative_links_exist(file):
    text = re.sub(r"^```.*?^```$", "", file.read_text("utf-8"), flags=re.M | re.S)
    for path, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)", text):
        target = (file.parent / path).resolve() if path else file
        assert target.exists(), f"{file.name}: {path}"
        # The first page of the site is the README.
        page = ROOT / "README.md" if target == PAGES / "index.md" else target
        assert not anchor or anchor in anchors(page), f"{file.name}: {path}#{anchor}"


@pytest.mark.parametrize("file", FILES, **IDS)
def test_output_names_its_command(file):
    for before, _, code in blocks(file, ""):
        if re.search(r"\d", code):
            section = before[before.rfind("\n## ") + 1 :]
            assert COMMAND.search(section), f"{file.name}: no command before\n{code[:200]}"


def test_every_environment_variable_is_documented():
    page = (PAGES / "reference" / "environment.md").read_text("utf-8")
    package = Path(reszoo.__file__).parent
    source = "".join(file.read_text("utf-8") for file in package.rglob("*.py"))
    read = {*re.findall(r"[\"']((?:RESZOO|KERAS|TF|HF|JAX|XLA|CUDA)_[A-Z_]+)[\"']", source)}
    assert len(read) >= 8
    assert sorted(name for name in read if f"`{name}`" not in page) == []


def test_every_public_name_is_in_the_reference():
    """A page of the reference has its module or itself behind `:::`; builders are in the table of the zoo."""
    text = "".join(file.read_text("utf-8") for file in (PAGES / "reference").glob("*.md"))
    shown = {*re.findall(r"^::: (\S+)$", text, re.M)}
    missing = []
    for package in (reszoo, reszoo.diagnosis):
        for name in package.__all__:
            value = getattr(package, name)
            module = getattr(value, "__module__", None)
            if name in reszoo.list_models() or module is None or name == "diagnosis":
                continue
            if not {module, f"{module}.{name}"} & shown:
                missing.append(f"{module}.{name}")
    assert missing == []


def test_every_page_is_in_the_navigation():
    pages = {*re.findall(r"[\w/]+\.md", (ROOT / "docs" / "mkdocs.yml").read_text("utf-8"))}
    assert pages == {file.relative_to(PAGES).as_posix() for file in PAGES.rglob("*.md")}


def test_generated_tables_have_every_name():
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); import tables, reszoo\n"
    code += "zoo, weights = tables.zoo(), tables.weights()\n"
    code += "print([name for name in reszoo.list_models() if f'`{name}`' not in zoo])\n"
    code += "print([name for name in reszoo.list_weights() if f'`{name}`' not in weights])\n"
    code += "print([name for name in reszoo.list_recipes() if f'## {name}' not in tables.recipes()])\n"
    code += "print([name for name in reszoo.list_spaces() if f'## {name}' not in tables.spaces()])\n"
    code += "print('reszoo search report' in tables.commands(), 'UnknownNameError' in tables.errors())\n"
    assert python(code).splitlines() == ["[]", "[]", "[]", "[]", "True True"]


@pytest.mark.parametrize("file", FILES, **IDS)
def test_no_path_of_a_machine_is_left(file):
    assert not re.search(r"/(tmp|home|root|work|farm)/", file.read_text("utf-8"))


def test_the_tests_of_every_case_exist():
    namespace = runpy.run_path(str(ROOT / "benchmarks" / "cases.py"))
    cases = [case for table in namespace["TABLES"] for case in namespace["cases"](table)]
    files = {path.stem: path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py")}
    for name, _, tests in cases:
        for test in tests:
            file, _, function = test.partition("::")
            assert file in files and f"def {function.partition('[')[0]}" in files[file], (name, test)
