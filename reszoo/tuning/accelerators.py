"""GPUs of this machine, one for each worker; known without importing a backend."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

VISIBLE = "CUDA_VISIBLE_DEVICES"
GROWTH = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Environment of a worker: memory is taken as it is needed (TensorFlow, JAX), so that neighbors have some."""


class Accelerator(NamedTuple):
    """A GPU."""

    id: str
    """As in CUDA_VISIBLE_DEVICES: an index or a UUID."""
    name: str
    memory: str
    """Such as `81559 MiB`."""


@cache
def _installed() -> tuple[tuple[str, str, str, str], ...]:
    """Index, UUID, name and memory of every NVIDIA GPU; none without the driver's program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [tuple(field.strip() for field in line.split(",")) for line in output.splitlines() if line.strip()]
    return tuple((row[0], row[1], row[2], row[3]) for row in rows if len(row) == 4)


def accelerators(environment: Mapping[str, str] = os.environ) -> list[Accelerator]:
    """Returns the GPUs that a process with this environment may use."""
    rows = _installed()
    visible = environment.get(VISIBLE)
    if visible is None:
        return [Accelerator(index, name, memory) for index, _, name, memory in rows]
    devices = []
    for word in filter(None, (word.strip() for word in visible.split(","))):
        # As the driver does: what stands behind an invalid entry is not visible.
        if word == "-1":
            break
        row = next((row for row in rows if word == row[0] or row[1].startswith(word)), None)
        devices.append(Accelerator(word, row[2] if row else "GPU", row[3] if row else "unknown memory"))
    return devices


def environments(jobs: int) -> list[dict[str, str]]:
    """Returns environment variables for every one of several workers: the GPUs in turn."""
    devices = accelerators()
    return [{VISIBLE: devices[number % len(devices)].id} if devices else {} for number in range(jobs)]


def description(environment: Mapping[str, str]) -> str:
    """Returns device and memory of a worker: `NVIDIA H100 (81559 MiB)`, `CPU (16.0 GiB)`."""
    devices = accelerators({**os.environ, **environment})
    if devices:
        return ", ".join(f"{device.name} ({device.memory})" for device in devices)
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return "CPU"
    return f"CPU ({size:.1f} GiB)"
