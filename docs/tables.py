"""Hooks of mkdocs: pages of the site that are generated from the package, and links that leave the folder of pages.

A page names what is generated in it: `<!-- table: zoo -->` becomes the table that `zoo()` returns,
`<!-- file: CHANGELOG.md -->` the text of a file of the checkout. `python docs/tables.py zoo` prints one.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "pages"
PICTURES = ROOT / "examples" / "pictures"
COPIES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files of the checkout that are pages of the site, too."""
GENERATED = re.compile(r"<!-- (table|file): (\S+) -->")
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s#]*)(#[^)\s]*)?\)")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table in Markdown."""
    lines = [columns, ["--"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def zoo() -> str:
    """Returns all networks: size, cost, twin and source."""
    from reszoo.arch import zoo

    text = []
    for family in dict.fromkeys(zoo.entry(name).family for name in zoo.list_models()):
        rows = []
        for name in zoo.list_models(family=family):
            entry, cost = zoo.entry(name), zoo.cost(name)
            shape = "x".join(map(str, entry.spec.input_shape))
            base = f"`{entry.source.base}`" if entry.source.base else ""
            counts = (_short(cost.params), _short(cost.macs), cost.depth)
            rows.append((f"`{name}`", *counts, shape, base, entry.source.ref))
        text += [f"## {family}", table(("name", "params", "MACs", "layers", "input", "base", "source"), rows)]
    return "\n\n".join(text)


def _short(count: int) -> str:
    unit, scale = next(pair for pair in (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1)) if count >= pair[1])
    return f"{count / scale:.3g} {unit}"


def weights() -> str:
    """Returns all published weights, with accuracies, licences and sources."""
    import reszoo

    rows = []
    for name in sorted(reszoo.list_weights()):
        record = reszoo.record(name)
        best = record.accuracy[0] if record.accuracy else None
        top1 = f"{best.top1:.2f}" if best else ""
        rows.append((f"`{name}`", top1, best.protocol if best else "", record.licence, record.source))
    return table(("name", "top-1 (%)", "protocol", "license", "source"), rows)


def recipes() -> str:
    """Returns all recipes: what they inherit and change."""
    return _entries("recipes/recipes.yaml")


def spaces() -> str:
    """Returns all search spaces: what they inherit and vary."""
    return _entries("spaces/spaces.yaml")


def _entries(file: str) -> str:
    import yaml

    from reszoo.config import configs, read_yaml

    text = []
    for name, fields in read_yaml(configs() / file).items():
        fields = dict(fields)
        source = fields.pop("ref", "")
        body = yaml.safe_dump(fields, sort_keys=False, default_flow_style=None, width=100) if fields else ""
        text += [f"## {name}", source and f"{source[0].upper()}{source[1:]}.", f"```yaml\n{body}```"]
    return "\n\n".join(filter(None, text))


def commands() -> str:
    """Returns all commands with their arguments and options, in the order of `reszoo --help`."""
    from reszoo.cli import command_line

    text = []
    for name, command in _leaves(command_line(), "reszoo"):
        text += [f"## {name}", (command.help or "").strip()]
        rows = [
            (f"`{_names(each)}`", "required" if each.required else _default(each), getattr(each, "help", "") or "")
            for each in command.params
            if each.name != "help"
        ]
        text += [table(("argument", "default", "meaning"), rows)] if rows else []
    return "\n\n".join(text)


def _leaves(group: Any, name: str) -> Iterable[tuple[str, Any]]:
    for key, command in group.commands.items():
        if getattr(command, "invoke_without_command", True):
            yield f"{name} {key}", command
        if getattr(command, "commands", None):
            yield from _leaves(command, f"{name} {key}")


def _names(param: Any) -> str:
    names = (*param.opts, *param.secondary_opts)
    return ", ".join(names) if param.param_type_name == "option" else str(param.name).upper()


def _default(param: Any) -> str:
    value = param.default() if callable(param.default) else param.default
    if value is False or value in ((), []):
        return ""
    return f"`{value}`" if isinstance(value, (str, int, float, Path, tuple, list)) else ""


def errors() -> str:
    """Returns the tree of exceptions, as the module draws it."""
    from reszoo import errors

    return f"```\n{(errors.__doc__ or '').partition(chr(10) * 2)[2].rstrip()}\n```"


TABLES: dict[str, Callable[[], str]] = {
    each.__name__: each for each in (zoo, weights, recipes, spaces, commands, errors)
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Writes generated text into a page, and turns links to files of the checkout into links of the site."""
    here = PAGES / page.file.src_uri

    def fill(match: re.Match[str]) -> str:
        kind, name = match.groups()
        return TABLES[name]() if kind == "table" else linked((ROOT / name).read_text("utf-8"), ROOT / name, here)

    return GENERATED.sub(fill, linked(markdown, here, here))


def linked(text: str, source: Path, page: Path) -> str:
    """Returns a text whose links are seen from a page: of files that the site does not have, the words alone."""

    def link(match: re.Match[str]) -> str:
        mark, words, path, anchor = match.groups(default="")
        target = Path(os.path.normpath(source.parent / path))
        if target.parent == PICTURES:
            target = PAGES / "pictures" / target.name
        elif target.parent == ROOT and target.name in COPIES:
            target = PAGES / COPIES[target.name]
        elif PAGES not in target.parents:
            return f"`{target.relative_to(ROOT).as_posix()}`" if words in (path, target.name) else words
        return f"{mark}[{words}]({Path(os.path.relpath(target, page.parent)).as_posix()}{anchor})"

    return LINK.sub(link, text)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pictures of the examples to the site."""
    from mkdocs.structure.files import File

    for picture in sorted(PICTURES.glob("*.png")):
        files.append(File.generated(config, f"pictures/{picture.name}", abs_src_path=str(picture)))
    return files


if __name__ == "__main__":
    for wanted in sys.argv[1:] or TABLES:
        print(TABLES[wanted]())
