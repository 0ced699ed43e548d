"""What a file or folder is that none of the readers opens, and what to do about it."""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from pathlib import Path

from reszoo.weights.formats.checkpoint import REDOWNLOAD

_TEXTS: tuple[tuple[bytes, str, str], ...] = (
    (rb"<!doctype|<html|<\?xml", "a web page, not a checkpoint: the download failed", REDOWNLOAD),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file with `git lfs pull`"),
    (rb"[{\[]\s*[\"{\[\]}0-9]", "JSON text, not a checkpoint: the download went wrong", REDOWNLOAD),
    (rb"[a-z_]\w*:\s", "text, not a checkpoint", ""),
)

_PACKERS: tuple[tuple[bytes, str], ...] = (
    *((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"7z\xbc\xaf\x27\x1c", "7z")),
    *((b"(\xb5/\xfd", "zstd"), (b"Rar!\x1a\x07", "RAR"), (b'\x04"M\x18', "lz4"), (b"\x1f\x9d", "compress")),
)

_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    *((4, b"TFL3", "a TFLite model"), (0, b"GGUF", "a GGUF model"), (0, b"GGML", "a GGML model")),
    *((4, b"ORTM", "an ONNX Runtime model (.ort)"), (0, b"\x89PNG", "an image"), (0, b"\xff\xd8\xff", "an image")),
    *((0, b"%PDF", "a PDF document"), (0, b"7767517", "an ncnn model"), (0, b"MZ", "a program for Windows")),
    *((0, b"\x7fELF", "a program"), (0, b"CAFE", "a Caffe file"), (257, b"ustar", "a tar archive")),
)

_SAVE = "save the weights with the library that made it, as .safetensors, .npz, or a state_dict"


def describe(path: Path, head: bytes) -> tuple[str, str]:
    """Returns what a file that no reader opens appears to be, and a hint."""
    if not head:
        return "an empty file", REDOWNLOAD
    for magic, name in _PACKERS:
        if head.startswith(magic):
            return f"a file packed by {name}{_inside(head, name)}", "unpack it"
    for at, magic, name in _FOREIGN:
        if head[at:].startswith(magic):
            return name, "unpack it" if "archive" in name else ("" if "image" in name else _SAVE)
    if path.name.endswith(".meta") or re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        stem = re.sub(r"\.(meta|data-\d{5}-of-\d{5})$", "", path.name)
        return "a part of a TensorFlow checkpoint", f"put {stem}.index beside it"
    if path.suffix == ".pb":
        return "a TensorFlow graph (SavedModel)", _SAVED_MODEL
    if path.suffix == ".onnx":
        return "a damaged ONNX model", REDOWNLOAD
    if path.suffix in (".caffemodel", ".mlmodel", ".params", ".pdparams", ".tflite", ".engine", ".plan"):
        return f"a model of another library ({path.suffix})", _SAVE
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for pattern, name, hint in _TEXTS:
        if re.match(pattern, text):
            return name, hint
    return ("text, not a checkpoint" if head.isascii() and b"\0" not in head else "not a checkpoint"), ""


def _inside(head: bytes, packer: str) -> str:
    """Returns a clause about what is packed, if its first bytes tell."""
    unpack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda data: zlib.decompressobj(31).decompress(data, 512),
        "bzip2": lambda data: bz2.BZ2Decompressor().decompress(data, 512),
        "xz": lambda data: lzma.LZMADecompressor().decompress(data, 512),
    }
    try:
        data = unpack[packer](head)
    except (KeyError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
        return ""
    return " (a tar archive)" if data[257:262] == b"ustar" else ""


_SAVED_MODEL = "load it with tf.saved_model.load and save its variables with numpy.savez"


def describe_folder(folder: Path) -> tuple[str, str]:
    """Returns what a folder without a checkpoint appears to be, and a hint."""
    if (folder / "saved_model.pb").is_file():
        return "a SavedModel of TensorFlow", _SAVED_MODEL
    if (
        (folder / "_CHECKPOINT_METADATA").exists()
        or (folder / "_METADATA").exists()
        or (folder / "manifest.ocdbt").exists()
    ):
        return "an Orbax checkpoint", "restore it with orbax and save its arrays with numpy.savez"
    if indices := sorted(file.name for file in folder.glob("*.index")):
        return f"a folder with the TensorFlow checkpoints {', '.join(indices[:4])}", "name one of them"
    if (folder / "data.pkl").is_file() and (folder / "data").is_dir():
        return (
            "an unpacked PyTorch file",
            f"zip it again without compression: zip -r -0 {folder.name}.pth {folder.name}",
        )
    if (folder / "adapter_config.json").is_file():
        return "LoRA adapters: the base network is elsewhere", "merge them into the base network and save that"
    files = sorted(file.name for file in folder.iterdir())
    return f"a folder without a checkpoint ({', '.join(files[:4]) or 'empty'})", ""
