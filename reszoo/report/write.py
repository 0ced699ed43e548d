"""Writing a page, its pictures and its numbers into a folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from reszoo.atomic import atomic_write
from reszoo.report.page import Image, Page, write_page
from reszoo.strict_json import strict_json


def write(page: Page, folder: str | Path) -> Path:
    """Returns the path of a page after writing it, a PNG of each picture, and its numbers as JSON into a folder.

    Args:
        page: the page.
        folder: created if it does not exist.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for picture in page.pictures:
        file = folder / f"{picture.name}.png"
        if isinstance(picture, Image):
            with atomic_write(file) as temporary:
                temporary.write_bytes(picture.png)
        else:
            picture.save(file)
    if page.numbers is not None:
        with atomic_write(folder / page.numbers_file) as temporary:
            temporary.write_text(strict_json(page.numbers, indent=2), encoding="utf-8")
    return write_page(
        folder / page.file, title=page.title, lead=page.lead, sections=page.sections, facts=page.facts, foot=page.foot
    )


def versions() -> str:
    """Returns the versions that results depend on."""
    import keras

    names = ("reszoo", "keras", keras.backend.backend())
    # Of the modules: TensorFlow also comes in distributions of other names, such as tensorflow-cpu.
    return ", ".join(f"{name} {import_module(name).__version__}" for name in names)
