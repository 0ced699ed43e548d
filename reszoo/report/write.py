"""Writing a page, its pictures and its numbers; what every result with a page has in common."""

from __future__ import annotations

from abc import abstractmethod
from importlib import import_module
from pathlib import Path

from reszoo.files import strict_json, write_file
from reszoo.report.page import Image, Page, write_page


def write(page: Page, path: str | Path) -> Path:
    """Returns the path of a page after writing it.

    Args:
        page: the page.
        path: a folder, created if it does not exist, for the page, a PNG of each picture, and its numbers as JSON; or
            an .html file, for the page alone.
    """
    path = Path(path)
    file = path if path.suffix.lower() in (".html", ".htm") else path / page.file
    if file != path:
        _write_companions(page, path)
    return write_page(file, title=page.title, lead=page.lead, sections=page.sections, facts=page.facts, foot=page.foot)


def _write_companions(page: Page, folder: Path) -> None:
    for picture in page.pictures:
        file = folder / f"{picture.name}.png"
        if isinstance(picture, Image):
            write_file(file, picture.png)
        else:
            picture.save(file)
    if page.numbers is not None:
        write_file(folder / page.numbers_file, strict_json(page.numbers, indent=2))


class Presentable:
    """A result that has a page."""

    @abstractmethod
    def page(self) -> Page:
        """Returns the result as a page."""

    def write(self, path: str | Path) -> Path:
        """Returns the path of the page after writing it.

        Args:
            path: a folder for the page, its pictures and its numbers; or an .html file for the page alone.
        """
        return write(self.page(), path)


def versions() -> str:
    """Returns the versions that results depend on, as one line."""
    return ", ".join(f"{name} {version}" for name, version in library_versions().items())


def library_versions(*further: str) -> dict[str, str]:
    """Returns the versions of reszoo, Keras, its backend and further libraries, all of which it imports."""
    import keras

    # Of the modules: TensorFlow also comes in distributions of other names, such as tensorflow-cpu.
    names = ("reszoo", "keras", keras.backend.backend(), *further)
    return {name: str(import_module(name).__version__) for name in names}
