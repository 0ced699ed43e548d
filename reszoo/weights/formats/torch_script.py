"""Settings of TorchScript modules, from the text of their code; the code is read with patterns and never executed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from reszoo.weights.formats.archives import read_member
from reszoo.weights.formats.torch_content import Modules

_LIMIT = 1 << 18
"""Longest source file, in bytes."""

_CLASSES = 1 << 12
"""Most classes whose settings are looked up."""

_CONVOLUTION = re.compile(
    r"torch\.(?:_convolution|conv2d)\([^\[\]()]*\[([\d, ]+)\], \[([\d, ]+)\], \[([\d, ]+)\]"
    r"(?:, (?:False|True), \[[\d, ]+\], (\d+)|, (\d+))?"
)
_BATCH_NORM = re.compile(r"torch\.batch_norm\([^()]*, ([\d.e-]+), ([\d.e-]+), (?:True|False)\)")
_GROUP_NORM = re.compile(r"torch\.group_norm\([^,()]+, (\d+)(?:, \w+){0,2}(?:, ([\d.e-]+))?(?:, (?:True|False))?\)")
_CONSTANT = re.compile(r"  (\w+) : Final\[[^\n]+?\] = ([^\n]+)")


def modules_of(path: Path, archive: zipfile.ZipFile, root: str) -> Modules:
    """Returns a function that returns the settings of a class by its name `__torch__.torch.nn.modules.conv.Conv2d`."""
    members = {*archive.namelist()}

    @cache
    def source(member: str) -> str:
        if member not in members or archive.getinfo(member).file_size > _LIMIT:
            return ""
        return read_member(path, archive, member, limit=_LIMIT).decode("utf-8", "replace")

    @lru_cache(maxsize=_CLASSES)
    def modules(name: str) -> Mapping[str, Any]:
        if modules.cache_info().currsize >= _CLASSES:
            return {}
        module, _, cls = name.rpartition(".")
        text = source(f"{root}code/{module.replace('.', '/')}.py")
        start = text.find(f"class {cls}(Module):")
        end = text.find("\nclass ", start + 1)
        return _settings(text[start : end if end > 0 else len(text)]) if start >= 0 else {}

    return modules


def _settings(text: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if match := _CONVOLUTION.search(text):
        for name, numbers in zip(("stride", "padding", "dilation"), match.groups(), strict=False):
            settings[name] = tuple(map(int, numbers.split(",")))
        settings["groups"] = int(match[4] or match[5] or 1)
    if match := _BATCH_NORM.search(text):
        settings |= {"momentum": _number(match[1]), "eps": _number(match[2])}
    if match := _GROUP_NORM.search(text):
        # The code leaves out what is PyTorch's default.
        settings |= {"num_groups": int(match[1]), "eps": _number(match[2]) if match[2] else 1e-5}
    for name, value in _CONSTANT.findall(text):
        if re.fullmatch(r"\([\d, ]+\)", value):
            settings[name] = tuple(int(number) for number in re.findall(r"\d+", value))
        elif re.fullmatch(r"[\d.]+(e-?\d+)?", value):
            settings[name] = _number(value)
    return settings


def _number(text: str) -> float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        return 0.0
