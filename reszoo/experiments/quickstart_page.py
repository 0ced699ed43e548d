"""The page of the quickstart: question, method, results and references, to hand in or to start a report from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from typing import NamedTuple

from reszoo.arch import zoo
from reszoo.data.sources import Data
from reszoo.experiments.quickstart import RECIPE, RECIPES, SIZE, QuickstartRun, Transferred, reading
from reszoo.report.lines import Line, draw_lines
from reszoo.report.page import Code, Gallery, Image, Page, Section, Table
from reszoo.report.pictures import Picture
from reszoo.training.recipes import recipe


class Paper(NamedTuple):
    """A publication."""

    key: str
    authors: tuple[str, ...]
    """Each as `Last, First`."""
    title: str
    venue: str
    """Of a conference, its proceedings; else the archive or repository."""
    year: int
    pages: str = ""
    """Of the proceedings; without, the paper is cited as `misc`."""

    def __str__(self) -> str:
        last = [author.partition(",")[0] for author in self.authors]
        names = f"{last[0]} et al." if len(last) > 2 else " and ".join(last)
        return f"{names} ({self.year}). {self.title}. {self.venue}{f', {self.pages}' if self.pages else ''}."

    def __repr__(self) -> str:
        return f"Paper({self.key!r})"

    @property
    def bibtex(self) -> str:
        """The entry for a `.bib` file."""
        kind, place = ("inproceedings", "booktitle") if self.pages else ("misc", "howpublished")
        fields = {"author": " and ".join(self.authors), "title": f"{{{self.title}}}", place: self.venue}
        fields |= {"year": str(self.year)} | ({"pages": self.pages.replace("-", "--")} if self.pages else {})
        return "\n".join(
            [f"@{kind}{{{self.key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"]
        )


_HE = ("He, Kaiming", "Zhang, Xiangyu", "Ren, Shaoqing", "Sun, Jian")
PAPERS = (
    Paper(
        "he2016deep",
        _HE,
        "Deep Residual Learning for Image Recognition",
        "IEEE Conference on Computer Vision and Pattern Recognition (CVPR)",
        2016,
        "770-778",
    ),
    Paper(
        "he2016identity",
        _HE,
        "Identity Mappings in Deep Residual Networks",
        "European Conference on Computer Vision (ECCV)",
        2016,
        "630-645",
    ),
    Paper(
        "ioffe2015batch",
        ("Ioffe, Sergey", "Szegedy, Christian"),
        "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
        "International Conference on Machine Learning (ICML)",
        2015,
        "448-456",
    ),
    Paper(
        "xiao2017fashion",
        ("Xiao, Han", "Rasul, Kashif", "Vollgraf, Roland"),
        "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
        "arXiv:1708.07747",
        2017,
    ),
    Paper(
        "alpaydin1998optical",
        ("Alpaydin, Ethem", "Kaynak, Cenk"),
        "Optical Recognition of Handwritten Digits",
        "UCI Machine Learning Repository, doi:10.24432/C50P49",
        1998,
    ),
)


ACCURACIES = {
    "batch_accuracy": "training accuracy (batch statistics)",
    "train_accuracy": "training accuracy",
    "test_accuracy": "test accuracy",
}
"""Field of a run -> its column."""
PER_CLASS = 3
ZOOM = 5

QUESTION = (
    "A deeper network can represent all that a shallower one can: its further layers need only copy their input. Yet "
    "He et al. (2016) found that deeper plain networks reach a higher training error, and that shortcuts around every "
    "two layers remove this degradation. Overfitting is no explanation, since the training error itself is higher."
)


def quickstart_page(
    results: Sequence[QuickstartRun],
    transfers: Sequence[Transferred],
    digits: Data,
    *,
    command: str,
    seed: int,
    versions: str,
) -> Page:
    """Returns the page of the quickstart.

    Args:
        results: trained networks of both kinds and depths.
        transfers: fine-tuned and freshly trained networks.
        digits: the data; its first images are shown.
        command: that prints the same numbers again.
        seed: of weights and order.
        versions: of the libraries.
    """
    settings = recipe(RECIPE)
    lines = reading(results)
    columns = ("network", "layers", "parameters", "training loss", *ACCURACIES.values())
    rows = [
        (run.name, run.depth, run.params, run.losses[-1], *(getattr(run, name) for name in ACCURACIES))
        for run in results
    ]
    method = (
        f"Data: {len(digits.train):,} images of handwritten digits (8x8 pixels, scikit-learn; Alpaydin, Kaynak 1998) "
        f"to train, {len(digits.test or ()):,} to test. Networks: the CIFAR networks of He et al. at half their width, "
        "and their plain twins: the same layers and parameters without shortcuts. Recipe: "
        f"{settings.epochs} epochs of SGD, batch {settings.batch}, peak learning rate {settings.learning_rate.peak:g}, "
        f"seed {seed}."
    )
    rates = " and ".join(f"{recipe(name).learning_rate.peak:g} {start}" for start, name in RECIPES.items())
    fine = (
        f"The same digits at {SIZE} pixels, by networks pretrained on Fashion-MNIST (Xiao et al. 2017) and by networks "
        f"with random weights; peak learning rates {rates}, as random weights need a higher one. One seed."
    )
    epochs = range(1, len(transfers[0].accuracies) + 1) if transfers else ()
    fine_rows: list[tuple[str | float, ...]] = [(f"{one.name}, {one.start}", *one.accuracies) for one in transfers]
    accuracies = Table(("network", *(f"epoch {epoch}" for epoch in epochs)), fine_rows, "Test accuracy, inference.")
    numbers = {"depth": [asdict(result) for result in results], "transfer": [asdict(item) for item in transfers]}
    return Page(
        title="Do deeper networks train worse? Residual networks beside their plain twins",
        lead=". ".join(f"{line[0].upper()}{line[1:]}" for line in lines[:2]) + ".",
        sections=[
            Section("Question", [QUESTION]),
            Section("Method", [method, _samples(digits)]),
            Section("Result", [_losses(results), Table(columns, rows), *(f"{line}." for line in lines[2:])]),
            Section("Fine-tuning", [fine, Gallery([_accuracies(transfers)], "large"), accuracies] if transfers else []),
            Section("Reproduce", [Code(command), versions]),
            Section("References", [*map(str, PAPERS), Code("\n\n".join(p.bibtex for p in PAPERS), "BibTeX", "closed")]),
        ],
        facts={"data": "digits", "networks": str(len(results)), "epochs": str(settings.epochs), "seed": str(seed)},
        foot=versions,
        numbers=numbers,
        numbers_file="results.json",
    )


def _losses(results: Sequence[QuickstartRun]) -> Picture:
    """The deep networks in bold, below the shallow ones."""
    deepest = max(run.depth for run in results)
    lines = [
        Line(run.name, run.losses, kind=run.kind, weight="bold" if run.depth == deepest else "normal")
        for run in sorted(results, key=lambda run: -run.depth)
    ]
    return draw_lines(
        lines,
        name="curves",
        title="training at two depths",
        caption="Training loss of every epoch; the deeper networks in bold.",
        xlabel="epoch",
        ylabel="training loss (nats)",
        yscale="log",
    )


def _accuracies(transfers: Sequence[Transferred]) -> Picture:
    lines = [
        Line(
            f"{one.name}, {one.start}",
            one.accuracies,
            kind="plain" if zoo.spec(one.name).block.shortcut == "none" else "residual",
            weight="bold" if one.start == "pretrained" else "normal",
        )
        for one in transfers
    ]
    return draw_lines(
        lines,
        name="transfer",
        title="pretrained and from scratch",
        caption="Test accuracy after every epoch; pretrained networks in bold.",
        xlabel="epoch",
        ylabel="test accuracy",
    )


def _samples(digits: Data) -> Image:
    """The first images of every class, a row for each."""
    import numpy as np
    from PIL import Image as PillowImage

    x, y = digits.arrays("train")
    tiles = [[np.pad(x[y == number][index, ..., 0], 1) for number in range(10)] for index in range(PER_CLASS)]
    pixels = np.block(tiles).astype("float64")
    gray = (255 * (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-9)).astype("uint8")
    image = PillowImage.fromarray(gray).resize((gray.shape[1] * ZOOM, gray.shape[0] * ZOOM), 0)
    stream = BytesIO()
    image.save(stream, "PNG")
    return Image("digits", f"The first {PER_CLASS} training images of every class, 0 to 9.", stream.getvalue())
