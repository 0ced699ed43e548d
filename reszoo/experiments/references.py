"""Papers that the experiments repeat or rest on, as text and as BibTeX."""

from __future__ import annotations

from typing import NamedTuple


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
