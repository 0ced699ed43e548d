"""Picture files as a viewer shows them: upright, on white, eight bits a channel, in the colors of sRGB."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias

from reszoo.errors import ReszooError

Channels: TypeAlias = Literal["rgb", "gray"]
CHANNELS = ("rgb", "gray")

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "MPO", "AVIF", "JPEG2000", "HEIF")
"""Without GIF: among photographs a GIF is a button, an animation, or a server's placeholder."""
HEIC = (".heic", ".heif", ".hif")
ORIENTATION = 0x0112
"""Tag of EXIF: how the camera was held, 1 to 8."""

DARK, LOOKS = 16, 64
"""A value of 255 that some picture exceeds, unless 12 bits are stored in 16, and how many pictures are looked at."""

BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
"""Tags of TIFF, and a value."""


class UnusableError(ValueError):
    """A picture that is read, but whose values are no colors."""


def check_channels(channels: str | None) -> None:
    """Raises a ReszooError for anything but None, `rgb` and `gray`."""
    if channels is not None and channels not in CHANNELS:
        raise ReszooError("channels", got=repr(channels), expected=", ".join(CHANNELS))


def decode(path: Path, *, channels: Channels = "rgb", side: int | None = None) -> Any:
    """Returns a picture as a Pillow image in mode `RGB` or `L`.

    It is turned as its EXIF orientation says; transparent parts are white; 16 bits become 8; floats from 0 to 1 are
    multiplied by 255; colors of an embedded profile (Display P3, Adobe RGB, CMYK) become those of sRGB.

    Args:
        path: of the file.
        channels: colors, or gray values.
        side: a JPEG may be decoded at a reduced size, with sides of at least this many pixels.

    Raises:
        UnusableError: a format that is no format of photographs, or values that are no colors.
        Exception: whatever Pillow's readers raise for a damaged file.
    """
    from PIL import Image

    _add_plugins(path)
    with Image.open(path) as file:
        if file.format not in FORMATS:
            raise UnusableError(f"{file.format} is not a supported photo format ({', '.join(FORMATS)})")
        if side is not None:
            file.draft("RGB", (side, side))
        file.load()
        return from_pillow(file, channels)


def from_pillow(image: Any, channels: Channels) -> Any:
    """Returns an image of Pillow in mode `RGB` or `L`: upright, on white, eight bits a channel, in sRGB."""
    colors = _in_srgb(image)
    flat = _on_white(colors) if _transparent(colors) else _eight_bits(colors)
    return _upright(flat.convert("L" if channels == "gray" else "RGB"), image)


def problem(path: Path, *, thorough: bool) -> str:
    """Returns why a file cannot be read as a picture, or an empty string.

    Args:
        path: of the file.
        thorough: decode the picture; else only its header is read, and its values where the header leaves doubts.
    """
    from PIL import Image

    try:
        if not path.stat().st_size:
            return "an empty file"
        if not thorough:
            _add_plugins(path)
            with Image.open(path) as file:
                thorough = file.format not in FORMATS or file.mode[:1] in "IF"
                if not thorough:
                    file.verify()
                    return ""
        decode(path, side=64)
    except UnusableError as error:
        return str(error)
    except PermissionError as error:
        return f"unreadable ({error.strerror})"
    except Exception as error:
        # Pillow's readers raise anything on a damaged file.
        if type(error).__name__ == "DecompressionBombError":
            return f"too large ({error})"
        if type(error).__name__ == "UnidentifiedImageError":
            return "HEIC: pip install pillow-heif" if path.suffix.lower() in HEIC else "not an image"
        return f"damaged ({error})"
    return ""


def dark_note(paths: Sequence[Path]) -> str:
    """Returns a note where all pictures are nearly black, as far as they can be read; otherwise an empty string."""
    largest: list[int] = []
    for path in paths[:: len(paths) // LOOKS + 1]:
        try:
            largest.append(decode(path, channels="gray", side=64).getextrema()[1])
        except Exception:
            # It is left out with its reason when it is read.
            continue
        if largest[-1] > DARK:
            return ""
    text = f"pictures are nearly black: no value above {max(largest, default=0)} of 255"
    return f"{text}, as where 12-bit values are stored in 16-bit files; multiply them by 16" if largest else ""


def _add_plugins(path: Path) -> None:
    """HEIC is read where its plugin is installed."""
    if path.suffix.lower() in HEIC:
        try:
            plugin = import_module("pillow_heif")
        except ImportError:
            return
        plugin.register_heif_opener()


def _upright(image: Any, file: Any) -> Any:
    from PIL.Image import Transpose

    try:
        # Read after the pixels: in a PNG the orientation may follow them, and Pillow turns a TIFF itself.
        orientation = file.getexif().get(ORIENTATION, 1)
    except Exception:
        # Damaged metadata: viewers show the pixels as they are.
        return image
    steps = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    steps |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
    return image.transpose(Transpose[steps[orientation]]) if orientation in steps else image


def _in_srgb(image: Any) -> Any:
    """The image, or one with the colors of sRGB in place of those of its embedded profile."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode[:1] in "IF1":
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if _transparent(image) else "RGB")
    mode = "RGBA" if image.mode in ("RGBA", "LA") else "RGB"
    try:
        transform = _transform(profile, "L" if image.mode == "LA" else image.mode, mode.removesuffix("A"))
        if transform is None:
            return image
        from PIL import ImageCms

        alpha = image.getchannel("A") if mode == "RGBA" else None
        bare = image.convert("L") if image.mode == "LA" else image.convert("RGB") if alpha is not None else image
        colors: Any = ImageCms.applyTransform(bare, transform)
    except Exception:
        # A damaged profile, or one for other colors: viewers show the pixels as they are.
        return image
    if alpha is not None:
        colors.putalpha(alpha)
    return colors


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str, target: str) -> Any:
    """A conversion from an ICC profile to sRGB; None where the profile is that of sRGB."""
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    if "srgb" in ImageCms.getProfileDescription(source).lower():
        return None
    source_mode = "RGB" if mode == "RGBA" else mode
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), source_mode, target)


def _transparent(image: Any) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _on_white(image: Any) -> Any:
    from PIL import Image

    if image.mode[:1] == "I":
        import numpy as np

        # 16 bits, of which one value is transparent.
        key = np.asarray(image) == image.info["transparency"]
        return Image.fromarray(np.where(key, 255, np.asarray(_eight_bits(image))).astype("uint8"))
    colors = image.convert("RGBA")
    white = Image.new("RGBA", colors.size, "white")
    return Image.alpha_composite(white, colors)


def _eight_bits(image: Any) -> Any:
    """The image, or one with gray values of 8 bits in place of 16-bit integers and of floats."""
    if image.mode[:1] not in "IF":
        return image
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        if not (low >= 0 and high <= 255):
            raise UnusableError(f"floats from {low:g} to {high:g}: colors are from 0 to 1 or from 0 to 255")
        white = 1.0 if high <= 1 else 255.0
    elif image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise UnusableError(f"32-bit or signed integers from {low:.0f} to {high:.0f}: colors have 8 or 16 bits")
    else:
        tags = getattr(image, "tag_v2", {})
        bits = tags.get(BITS, (16,))
        white = float(2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1)
        # Pillow turns them round where they have 8 bits.
        values = white - values if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else values
    return Image.fromarray(np.round(values * (255.0 / white)).clip(0, 255).astype("uint8"))
