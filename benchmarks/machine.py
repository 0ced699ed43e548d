"""The header that every benchmark prints, and interleaved timing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def describe(*packages: str) -> None:
    """Prints the machine and the versions of packages."""
    model, flags = platform.processor() or platform.machine(), set()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
        flags = set(next((line for line in lines if line.startswith("flags")), "").split())
    vector = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    print(f"machine: {model}, {os.cpu_count()} cores, {' '.join(vector)}; Python {platform.python_version()}")
    print("versions:", ", ".join(f"{name} {_version(name)}" for name in packages))


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; without them it is emulated, many times slower than float32."""
    return not Path("/proc/cpuinfo").exists() or any(
        flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_bf16", "amx_bf16")
    )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def interleave(contestants: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Returns the seconds of every call; contestants take turns, so that other load affects all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return seconds
