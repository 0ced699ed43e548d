"""Data sources as people have them: pictures, folders, labels, ranges of values, splits, streams; no training."""

import itertools
import os
import shutil
import struct
import sys
import types
import warnings
from unicodedata import normalize

import numpy as np
import pytest
from conftest import needs, refused, shown
from PIL import Image, ImageCms, features

import reszoo
from reszoo.data import streams
from reszoo.data.arrays import Arrays
from reszoo.data.examples import digests
from reszoo.data.image_folder import ImageFiles
from reszoo.data.parts import match_labels, part_of
from reszoo.data.pictures import decode, problem
from reszoo.data.ranges import Scaling, measure, value_range
from reszoo.data.splits import divide

RED, BLUE, WHITE = (200, 30, 30), (30, 30, 200), (255, 255, 255)
RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (60, 8, 8, 3)).astype("uint8")
KIND = np.arange(60) % 3


# Pictures (a picture is what a viewer shows).


def oriented(orientation, *, size=(40, 30)):
    """A picture whose upright form has a red left half, stored as a camera does that was held in one of eight ways."""
    pixels = np.zeros((size[1], size[0], 3), "uint8")
    pixels[:, : size[0] // 2] = RED
    undo = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return (image.transpose(Image.Transpose[undo[orientation]]) if orientation > 1 else image), exif


SUFFIXES = ["jpg", "png", "webp", "tif", *(["avif"] if features.check("avif") else [])]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pictures_are_upright(tmp_path, suffix):
    for orientation in range(1, 9):
        image, exif = oriented(orientation)
        path = tmp_path / f"{orientation}.{suffix}"
        image.save(path, exif=exif, **({} if suffix == "tif" else {"quality": 95}))
        for channels in ("rgb", "gray"):
            pixels = np.asarray(decode(path, channels=channels, side=16))
            height, width = pixels.shape[:2]
            assert width > height, orientation
            bright = pixels.reshape(height, width, -1)[..., 0].astype(int)
            assert bright[:, : width // 2 - 2].min() > bright[:, width // 2 + 2 :].max() + 30, orientation


def swapped_profile(space=b"RGB "):
    """An ICC profile of sRGB's colors with red and blue exchanged; for gray, one of a linear scale."""
    colorants = {
        b"rXYZ": (0.1431, 0.0606, 0.7141),
        b"gXYZ": (0.3851, 0.7169, 0.0971),
        b"bXYZ": (0.4361, 0.2225, 0.0139),
    }
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round((2.2 if space == b"RGB " else 1.0) * 256)) + b"\0\0"
    tags = {b"wtpt": white}
    if space == b"RGB ":
        fixed = {name: struct.pack(">3i", *(round(v * 65536) for v in xyz)) for name, xyz in colorants.items()}
        tags |= {name: b"XYZ \0\0\0\0" + values for name, values in fixed.items()}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    else:
        tags[b"kTRC"] = curve
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">2I", start + len(body), len(value))
        body += value
    head = b"\0" * 4 + b"\x02\x10\0\0" + b"mntr" + space + b"XYZ " + b"\0" * 12 + b"acsp" + b"\0" * 28
    head += struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    head = struct.pack(">I", 128 + len(table) + len(body)) + head.ljust(124, b"\0")
    return head + table + body


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
def test_colors_of_an_embedded_profile_become_those_of_srgb(tmp_path, mode):
    colors = Image.new("RGB", (8, 8), (250, 20, 10))
    profile = swapped_profile(b"GRAY" if mode in ("L", "LA") else b"RGB ")
    image = colors.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize((8, 8)))
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "profile.png", icc_profile=profile)
    plain, shown = (np.asarray(decode(tmp_path / f"{name}.png")).astype(int)[-1, -1] for name in ("plain", "profile"))
    if profile[16:20] == b"GRAY":
        # The middle of a linear scale is brighter than that of sRGB.
        assert shown[0] > plain[0] + 20
    else:
        assert np.abs(shown - plain[::-1]).max() < 12
    image.save(tmp_path / "damaged.png", icc_profile=profile[:90])
    assert np.array_equal(np.asarray(decode(tmp_path / "damaged.png"))[-1, -1], plain)
    gray = np.asarray(decode(tmp_path / "profile.png", channels="gray"))
    assert gray.shape == (8, 8)


def test_a_profile_of_srgb_changes_nothing(tmp_path):
    image = Image.effect_noise((16, 16), 80).convert("RGB")
    image.save(tmp_path / "a.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.asarray(image))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_metadata_leave_a_picture_as_it_is(tmp_path):
    Image.new("RGB", (20, 10), RED).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\xff garbage")
    assert problem(tmp_path / "a.jpg", thorough=True) == ""


RAMP = np.linspace(0, 65535, 1200).reshape(30, 40)
SQUARE = np.zeros((30, 40, 4), "uint8")
SQUARE[..., :3] = (255, 0, 255)
SQUARE[8:22, 10:30] = (*RED, 255)


def on_key(mode, key):
    """A picture of one value with a square of another; the value around the square is transparent."""

    def write(path):
        flat = {"L": (255, 200), "1": (0, 255), "I;16": (9000, 60000)}[mode]
        values = np.full((30, 40), flat[0])
        values[8:22, 10:30] = flat[1]
        kind = {"L": "uint8", "1": "bool", "I;16": "uint16"}[mode]
        Image.fromarray(values.astype(kind)).save(path, transparency=key)

    return write


def palette(path):
    image = Image.fromarray(SQUARE[..., :3]).quantize(4)
    image.save(path, transparency=image.getpixel((0, 0)))


def palette_with_bytes(path):
    image = Image.fromarray(SQUARE[..., :3]).quantize(4)
    alphas = bytes(0 if index == image.getpixel((0, 0)) else 255 for index in range(4))
    image.save(path, transparency=alphas)


def gray_with_alpha(path):
    Image.fromarray(SQUARE).convert("LA").save(path)


def color_key(path):
    Image.fromarray(SQUARE[..., :3]).save(path, transparency=(255, 0, 255))


def big_endian(path):
    Image.frombytes("I;16B", (40, 30), RAMP.astype(">u2").tobytes()).save(path)


def white_is_zero(path):
    Image.fromarray(RAMP.astype("uint16")).save(path, tiffinfo={262: 0})


def pgm(path):
    path.write_bytes(b"P5 40 30 65535\n" + RAMP.astype(">u2").tobytes())


# How a file is written -> corner, and greatest value less the least of the whole picture.
READ = {
    "16 bit.png": (lambda p: Image.fromarray(RAMP.astype("uint16")).save(p), (0, 0, 0), 255),
    "16 bit.tif": (lambda p: Image.fromarray(RAMP.astype("uint16")).save(p), (0, 0, 0), 255),
    "16 bit big endian.tif": (big_endian, (0, 0, 0), 255),
    "16 bit white is 0.tif": (white_is_zero, (255, 255, 255), 255),
    "16 bit.pgm": (pgm, (0, 0, 0), 255),
    "float to 1.tif": (lambda p: Image.fromarray((RAMP / 65535).astype("float32")).save(p), (0, 0, 0), 255),
    "float to 255.tif": (lambda p: Image.fromarray((RAMP / 257).astype("float32")).save(p), (0, 0, 0), 255),
    "rgba.png": (lambda p: Image.fromarray(SQUARE).save(p), WHITE, 225),
    "rgba.tif": (lambda p: Image.fromarray(SQUARE).save(p), WHITE, 225),
    "rgba.webp": (lambda p: Image.fromarray(SQUARE).save(p, lossless=True, exact=True), WHITE, 225),
    "gray alpha.png": (gray_with_alpha, WHITE, 174),
    "palette.png": (palette, WHITE, 225),
    "palette bytes.png": (palette_with_bytes, WHITE, 225),
    "color key.png": (color_key, WHITE, 225),
    "gray key.png": (on_key("L", 255), WHITE, 55),
    "16 bit key.png": (on_key("I;16", 9000), WHITE, 22),
    "cmyk.jpg": (lambda p: Image.new("RGB", (40, 30), RED).convert("CMYK").save(p), RED, 170),
    "cmyk.tif": (lambda p: Image.new("RGB", (40, 30), RED).convert("CMYK").save(p), RED, 170),
    "1 bit.png": (lambda p: Image.fromarray(RAMP > 30000).save(p), (0, 0, 0), 255),
    "gray.jpg": (lambda p: Image.new("L", (40, 30), 77).save(p), (77, 77, 77), 0),
    "named wrongly.jpg": (lambda p: Image.new("RGB", (40, 30), RED).save(p, "PNG"), RED, 170),
    "bitmap.bmp": (lambda p: Image.new("RGB", (40, 30), RED).save(p), RED, 170),
    "line.png": (lambda p: Image.new("RGB", (1, 500), RED).save(p), RED, 170),
}
if features.check("jpg_2000"):
    READ["2000.jp2"] = (lambda p: Image.new("RGB", (40, 30), RED).save(p), RED, 170)
if features.check("avif"):
    READ["phone.avif"] = (lambda p: Image.new("RGB", (40, 30), RED).save(p, quality=100), RED, 170)


@pytest.mark.parametrize("name", READ)
def test_a_picture_is_what_a_viewer_shows(tmp_path, name):
    write, corner, contrast = READ[name]
    write(tmp_path / name)
    assert problem(tmp_path / name, thorough=True) == problem(tmp_path / name, thorough=False) == ""
    pixels = np.asarray(decode(tmp_path / name)).astype(int)
    assert pixels.ndim == 3 and np.abs(pixels[0, 0] - corner).max() <= 3, pixels[0, 0]
    assert abs(np.ptp(pixels) - contrast) <= 4, np.ptp(pixels)
    taken = ImageFiles((tmp_path / name,), np.zeros(1, int), 8, channels="gray").take([0])
    assert taken.shape == (1, 8, 8, 1) and taken.dtype == np.uint8


UNREADABLE = {
    "height map.tif": (
        lambda p: Image.fromarray((RAMP - 9000).astype("float32")).save(p),
        "floats from -9000 to 56535",
    ),
    "nan.tif": (lambda p: Image.fromarray(np.full((9, 9), np.nan, "float32")).save(p), "floats from nan"),
    "32 bit.tif": (lambda p: Image.fromarray((RAMP * 30000).astype("int32")).save(p), "32-bit or signed integers"),
    "poster.png": (lambda p: Image.new("1", (20000, 20000)).save(p), "too large"),
    "button.gif": (lambda p: Image.new("RGB", (9, 9)).save(p), "GIF is not a supported"),
    "empty.jpg": (lambda p: p.write_bytes(b""), "an empty file"),
    "page.jpg": (lambda p: p.write_text("<html>404</html>"), "not an image"),
    "phone.heic": (lambda p: p.write_bytes(b"\0\0\0\x18ftypheic"), "pip install pillow-heif"),
    "cut.png": (lambda p: p.write_bytes(png()[:100]), "damaged"),
}


def png():
    import io

    stream = io.BytesIO()
    Image.fromarray(PICTURES[0]).resize((40, 30)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_no_picture_has_a_reason(tmp_path, name):
    write, reason = UNREADABLE[name]
    write(tmp_path / name)
    assert reason in problem(tmp_path / name, thorough=True)
    two_classes(tmp_path / "all", count=2)
    shutil.copy(tmp_path / name, tmp_path / "all" / "bus" / name)
    data = reszoo.open_data(tmp_path / "all", size=8)
    (item,) = data.left_out
    assert item.path.name == name and reason in item.reason and str(item) in data.notes
    assert reason in data.audit().text()


# Folders.


def put(folder, count=12, color=RED):
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.clip(np.array(color) + RANDOM.integers(-25, 25, (30, 40, 3)), 0, 255).astype("uint8")
        Image.fromarray(pixels).save(folder / f"{number}.png")


def two_classes(folder, count=4):
    put(folder / "car", count)
    put(folder / "bus", count, BLUE)


WORDS = [
    ("Training", "Testing"),
    ("TRAIN", "VALID", "TEST"),
    ("train_set", "val-set"),
    ("train", "dev", "test"),
    ("Train", "validation"),
]


@pytest.mark.parametrize("words", WORDS, ids=str)
def test_parts_by_the_names_that_people_give_them(tmp_path, words):
    for count, word in enumerate(words, 2):
        two_classes(tmp_path / word, count)
    data = reszoo.open_data(tmp_path, size=8)
    expected = dict(zip(map(part_of, words), itertools.count(4, 2)))
    counts = {name: len(examples) for name, examples in data.parts().items()}
    assert data.classes == ("bus", "car") and expected["train"] == 4
    if "validation" in expected:
        assert counts == expected and data.own_validation
    else:
        assert counts == {"train": 2, "validation": 2} | {k: v for k, v in expected.items() if k != "train"}


def named_train(folder):
    two_classes(folder)
    put(folder / "train", 4, WHITE)
    return ("bus", "car", "train"), "train holds no class folders: it is read as a class"


def named_test(folder):
    put(folder / "test", 4)
    put(folder / "essay", 4, BLUE)
    return ("essay", "test"), "test holds no class folders"


def train_beside_others(folder):
    for name in ("cat", "dog", "train"):
        put(folder / name / "2023", 4)
    return ("cat", "dog", "train"), "train stands beside other classes"


def words_in_names(folder):
    two_classes(folder / "seg_train")
    two_classes(folder / "seg_test")
    return ("bus", "car"), ""


def two_halves(folder):
    two_classes(folder / "a.m.")
    two_classes(folder / "p.m.")
    return ("a.m.", "p.m."), "hold nothing but the same folders bus, car"


def split_within_classes(folder):
    for name in ("cat", "dog"):
        put(folder / name / "train", 4)
        put(folder / name / "test", 2)
    return ("cat", "dog"), "all classes hold folders test, train"


def one_folder_deeper(folder):
    two_classes(folder / "unzipped" / "Train")
    two_classes(folder / "unzipped" / "Val")
    return ("bus", "car"), "nothing else is in"


def hidden_folders(folder):
    two_classes(folder)
    put(folder / "car" / ".ipynb_checkpoints", 2)
    put(folder / ".git", 2)
    return ("bus", "car"), ".ipynb_checkpoints: a hidden folder"


def system_folders(folder):
    two_classes(folder / "train")
    for name in ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"):
        put(folder / name, 1)
        put(folder / "train" / name, 1)
        put(folder / "train" / "car" / name, 1)
    return ("bus", "car"), "__MACOSX: a hidden folder, or one of the system"


def empty_class(folder):
    two_classes(folder)
    (folder / "truck").mkdir()
    return ("bus", "car", "truck"), "no image of truck"


def beside_the_classes(folder):
    two_classes(folder)
    Image.new("RGB", (8, 8)).save(folder / "cover.png")
    return ("bus", "car"), "cover.png: in no class folder"


def beside_the_parts(folder):
    two_classes(folder / "train")
    put(folder / "test", 3)
    return ("bus", "car"), "test: beside train, and no part of class folders"


def other_files_beside_the_class_folders(folder):
    two_classes(folder / "train")
    two_classes(folder / "val")
    (folder / "train" / "labels.csv").write_text("x")
    Image.new("RGB", (8, 8)).save(folder / "train" / "cover.png")
    return ("bus", "car"), "cover.png: in no class folder"


def a_part_unpacked_into_its_name(folder):
    two_classes(folder / "train" / "train")
    two_classes(folder / "test")
    return ("bus", "car"), "train is read: nothing else is in"


def decomposed_letters(folder):
    put(folder / "train" / "caf\u00e9", 3)
    put(folder / "train" / "bar", 3)
    put(folder / "val" / "cafe\u0301", 3)
    return ("bar", "caf\u00e9"), "no validation example of bar"


def several_folders_deeper(folder):
    two_classes(folder / "export" / "v2" / "pictures")
    return ("bus", "car"), "pictures is read: nothing else is in"


def names_that_differ_in_case(folder):
    put(folder / "Car", 4)
    put(folder / "car", 4, BLUE)
    return ("Car", "car"), "'Car' and 'car' differ in upper and lower case alone"


def a_link_to_itself(folder):
    two_classes(folder)
    (folder / "car" / "loop.png").symlink_to("loop.png")
    return ("bus", "car"), "loop.png: unreadable"


def segmentation(folder):
    put(folder / "images", 3)
    put(folder / "masks", 3, BLUE)
    return ("images", "masks"), "segmentation are not supported"


def detection(folder):
    for part in ("train", "val"):
        put(folder / "images" / part, 3)
        (folder / "labels" / part).mkdir(parents=True)
    return ("images", "labels"), "detection and segmentation are not supported"


def runs_beside_the_classes(folder):
    two_classes(folder)
    for name, file in (("run", "run.json"), ("study", "study.db"), ("measured", "evaluation.json")):
        put(folder / name, 1)
        (folder / name / file).write_text("{}")
    return ("bus", "car"), "study: the folder of a run, a study or an evaluation"


def runs_inside_a_class(folder):
    two_classes(folder)
    for path in (folder / "car" / "run", folder / "folds" / "fold1", folder / "folds" / "fold2"):
        put(path, 1, BLUE)
        (path / "run.json").write_text("{}")
    return ("bus", "car"), f"skipped {folder / 'car' / 'run'}: the folder of a run"


def twelve_bits_in_sixteen(folder):
    for name in ("bus", "car"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            Image.fromarray((RAMP // 16).astype("uint16")).save(folder / name / f"{number}.png")
    return ("bus", "car"), "nearly black: no value above 16 of 255, as where 12-bit values"


def blanks_around_names(folder):
    two_classes(folder / "train")
    put(folder / "val" / "car ", 2)
    put(folder / "val" / "bus", 2)
    return ("bus", "car"), ""


def odd_names(folder):
    put(folder / "[a] é 日本", 4)
    put(folder / "b c" / "deeper" / "still", 4, BLUE)
    return ("[a] é 日本", "b c"), ""


LAYOUTS = [train_beside_others, words_in_names, named_train, named_test, two_halves, split_within_classes]
LAYOUTS += [one_folder_deeper, hidden_folders, system_folders, empty_class, beside_the_classes, beside_the_parts]
LAYOUTS += [odd_names, other_files_beside_the_class_folders, a_part_unpacked_into_its_name, decomposed_letters]
LAYOUTS += [several_folders_deeper, names_that_differ_in_case, a_link_to_itself, twelve_bits_in_sixteen]
LAYOUTS += [segmentation, detection, runs_beside_the_classes, runs_inside_a_class, blanks_around_names]


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_classes_and_notes_of_a_folder(tmp_path, write):
    classes, note = write(tmp_path / "all")
    data = reszoo.open_data(tmp_path / "all", size=8)
    assert data.classes == classes
    assert note in "\n".join(data.notes)
    assert not any(word in str(path) for path in data.train.paths for word in ("/.", "MACOSX", "run"))


def no_training_part(folder):
    two_classes(folder / "val")
    two_classes(folder / "test")


def two_validation_parts(folder):
    for name in ("train", "val", "valid"):
        two_classes(folder / name)


def one_class(folder):
    put(folder / "cat")


def other_case(folder):
    two_classes(folder / "train")
    put(folder / "val" / "Car", 2)
    put(folder / "val" / "bus", 2)


def nothing_readable(folder):
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x.jpg").write_text("no")


def parts_without_class_folders(folder):
    put(folder / "train")
    put(folder / "test1")


def parts_beside_annotations(folder):
    put(folder / "train2017")
    put(folder / "val2017")
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances.json").write_text("{}")


def two_spellings_of_a_class(folder):
    two_classes(folder)
    put(folder / "caf\u00e9")
    put(folder / "cafe\u0301", color=BLUE)


REFUSED_FOLDERS = [
    (parts_beside_annotations, ["train2017, val2017, without class folders"]),
    (lambda folder: folder.mkdir() or (folder / "a.csv").write_text("a,b"), ["0 folders in it", "a table: ", "a.csv"]),
    (two_spellings_of_a_class, ["two folders of the class 'caf\u00e9'", "rename one"]),
    (parts_without_class_folders, ["test1, train, without class folders", "predict"]),
    (no_training_part, ["parts test, val", "for training"]),
    (two_validation_parts, ["two folders for validation: val, valid"]),
    (one_class, ["1 folders in it", "at least two"]),
    (put, ["0 folders in it", "pictures without classes: predict"]),
    (other_case, ["class 'Car'", "did you mean 'car'"]),
    (nothing_readable, ["no readable image: x.jpg: not an image"]),
]


@pytest.mark.parametrize(("write", "message"), REFUSED_FOLDERS, ids=shown)
def test_folders_that_are_refused(tmp_path, write, message):
    write(tmp_path / "all")
    with refused(message):
        reszoo.open_data(tmp_path / "all", size=8)


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_links_are_followed_or_named(tmp_path):
    put(tmp_path / "store" / "more", 8)
    put(tmp_path / "all" / "car", 4)
    put(tmp_path / "all" / "bus", 12, BLUE)
    (tmp_path / "all" / "car" / "more").symlink_to(tmp_path / "store" / "more")
    (tmp_path / "all" / "car" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "all" / "bus" / "loop").symlink_to(tmp_path / "all")
    (tmp_path / "all" / "bus" / "self").symlink_to(tmp_path / "all" / "bus")
    (tmp_path / "all" / "truck").symlink_to(tmp_path / "store" / "more")
    data = reszoo.open_data(tmp_path / "all", size=8)
    assert {name: sum(pair) for name, pair in data.counts().items()} == {"bus": 12, "car": 12, "truck": 8}
    reasons = {item.path.name: item.reason for item in data.left_out}
    loop = "a link back to a folder above it"
    assert reasons == {"broken.png": "a link that leads nowhere", "loop": loop, "self": loop}
    assert any("8 examples are there with different labels" in note for note in data.notes)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_no_text_are_printed(tmp_path):
    two_classes(tmp_path / "all")
    for folder, name in (("all", b"\xff.txt"), ("all/bus", b"\xfe.txt"), ("all/bus", b"\xfd.png")):
        shutil.copy(tmp_path / "all" / "bus" / "0.png", os.fsencode(tmp_path / folder) + b"/" + name)
    os.rename(tmp_path / "all" / "car", os.fsencode(tmp_path / "all") + b"/c\xe9")
    with open(os.fsencode(tmp_path / "all" / "bus") + b"/\xfe.txt", "wb") as file:
        file.write(b"no picture")
    (tmp_path / "all" / "nowhere").symlink_to(tmp_path / "missing")
    data = reszoo.open_data(tmp_path / "all", size=8)
    text = "\n".join([*data.notes, *data.classes, data.audit().text(), repr(data)])
    assert text.encode("utf-8") and "nowhere: a link that leads nowhere" in text
    assert {sum(pair) for pair in data.counts().values()} == {4, 5} and len(data.left_out) == 3


def test_a_picture_that_vanishes_is_named(tmp_path):
    two_classes(tmp_path / "all")
    data = reszoo.open_data(tmp_path / "all", size=8)
    data.train.paths[-1].unlink()
    with refused([data.train.paths[-1].name, "no such file"]):
        data.train.take([len(data.train) - 1])


def test_copies_are_counted_and_stay_on_one_side(tmp_path):
    two_classes(tmp_path / "all", 12)
    for number in range(12):
        for kind in ("car", "bus"):
            original = tmp_path / "all" / "car" / f"{number}.png"
            shutil.copy(original, tmp_path / "all" / kind / f"copy {number}.png")
    data = reszoo.open_data(tmp_path / "all", size=8)
    found = data.audit().duplicates
    assert (found.within, found.across_classes, found.across_parts) == (12, 12, 0)
    (note,) = [note for note in data.notes if "exact copies" in note]
    assert "12 examples are there twice or more in one class; 12 examples are there with different labels" in note
    held = {path.read_bytes() for path in data.validation.paths}
    assert held and not held & {path.read_bytes() for path in data.train.paths}


def test_files_that_are_alike_in_places_are_read_as_a_whole(tmp_path):
    """Three files of one size, of which two differ in one byte between the places that are compared first."""
    paths = [tmp_path / f"{number}.bin" for number in range(3)]
    for path in paths:
        path.write_bytes(bytes(100_000))
    with paths[2].open("r+b") as file:
        file.seek(20_000)
        file.write(b"x")
    ((first, second, third),) = digests([types.SimpleNamespace(paths=paths)])
    assert first == second != third


def test_copies_across_parts_are_noted(tmp_path):
    two_classes(tmp_path / "train")
    two_classes(tmp_path / "test")
    shutil.copy(tmp_path / "train" / "car" / "0.png", tmp_path / "test" / "car" / "new.png")
    data = reszoo.open_data(tmp_path, size=8)
    assert "exact copies: 1 example is there in more than one of training, validation and test" in data.notes[-1]


def test_an_audit_of_a_folder(tmp_path):
    put(tmp_path / "all" / "car", 9)
    put(tmp_path / "all" / "bus", 3, BLUE)
    Image.new("RGB", (400, 300)).save(tmp_path / "all" / "bus" / "large.png")
    (tmp_path / "all" / "bus" / "notes.txt").write_text("x")
    data = reszoo.open_data(tmp_path / "all", size=8)
    audit = data.audit()
    assert audit.counts == {"bus": (3, 1), "car": (8, 1)} and audit.examples == {"train": 11, "validation": 2}
    assert audit.imbalance == pytest.approx(8 / 3) and audit.majority == ("car", 8 / 11)
    assert audit.sizes == ((40, 30), (40, 30), (400, 300))
    text = audit.text()
    for words in ("2 classes", "40x30 to 400x300 pixels", "car, 72.7%", "not an image: ", "exact copies: none"):
        assert words in text
    assert len(repr(audit)) < 320 and len(repr(data)) < 160 and "<td>bus</td>" in audit._repr_html_()


def test_many_files_that_are_left_out_keep_the_representations_short(tmp_path):
    two_classes(tmp_path / "all")
    for number in range(60):
        (tmp_path / "all" / "bus" / f"{number}.txt").write_text("x")
    data = reszoo.open_data(tmp_path / "all", size=8)
    assert len(data.left_out) == 60 and len(repr(data)) < 160
    assert "and 40 more" in data.audit().text() and "60 left out: not an image" in data.audit()._repr_html_()


def test_the_command_prints_the_audit(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from reszoo.cli import app

    two_classes(tmp_path / "[all]")
    shown = CliRunner().invoke(app, ["data", str(tmp_path / "[all]"), "--size", "8", "--channels", "gray"])
    assert shown.exit_code == 0 and "[all]: classification, 2 classes" in shown.output
    assert "bus        3           1" in shown.output and "pictures: 40x30 pixels" in shown.output


def test_a_missing_folder_is_said_before_tensorflow_is_imported():
    from conftest import python

    code = "import sys, reszoo\ntry:\n    reszoo.open_data('nowhere/photos')\nexcept reszoo.ReszooError as error:\n"
    code += "    print(error, any(name in sys.modules for name in ('tensorflow', 'keras', 'torch')))"
    output = python(code)
    assert "'nowhere/photos', no such file or folder" in output and output.strip().endswith("False")


def test_gray_and_color_on_request(tmp_path):
    two_classes(tmp_path / "all")
    data = reszoo.open_data(tmp_path / "all", size=8, channels="gray")
    assert data.shape == (8, 8, 1) and len(data.scaling.mean) == 1
    gray = reszoo.open_data((PICTURES, KIND), channels="gray")
    assert gray.shape == (8, 8, 1) and gray.train.x.dtype == np.uint8
    expected = np.asarray(Image.fromarray(PICTURES[0]).convert("L"))
    position = int(np.flatnonzero((gray.train.x[..., 0] == expected).all(axis=(1, 2)))[0])
    assert position >= 0
    assert reszoo.open_data((gray.train.x, gray.train.labels), channels="rgb").shape == (8, 8, 3)
    clear = np.zeros((60, 8, 8, 4), "uint8")
    assert reszoo.open_data((clear, KIND), channels="rgb").train.x.min() == 255
    with refused(["channels", "grey", "rgb, gray"]):
        reszoo.open_data((PICTURES, KIND), channels="grey")
    with refused(["2 channels"]):
        reszoo.open_data((PICTURES[..., :2], KIND), channels="rgb")


@pytest.mark.parametrize("size", [39, 40, 41])
def test_arrays_are_cropped_to_the_central_square(size):
    x = np.zeros((20, 40, 120, 1), "float32")
    x[:, :, 40:80] = 1
    if size == 40:
        assert (Arrays(x, np.zeros(20, int), size).take([0]) == 1).all()
    taken = reszoo.open_data((x, np.arange(20) % 2), size=size).train.take([0])
    assert taken.shape == (1, size, size, 1) and taken.mean() > 0.98


# Ranges of values.

IMAGES = RANDOM.integers(0, 256, (60, 6, 6, 1)).astype("uint8")
RANGES = {
    "uint8": (IMAGES, 255, ""),
    "int64": (IMAGES.astype("int64"), 255, ""),
    "float to 255": (IMAGES.astype("float32"), 255, "floats from 0 to 255"),
    "overshoot of 1": ((IMAGES / 255 * 1.1 - 0.04).astype("float32"), 1, "to 1.06: white is 1"),
    "overshoot of 255": ((IMAGES * 1.1 - 12).astype("float32"), 255, "white is 255"),
    "double to 1": (IMAGES / 255, 1, ""),
    "half": ((IMAGES / 255).astype("float16"), 1, ""),
    "slightly more than 1": ((IMAGES / 255 * 1.0005).astype("float32"), 1, ""),
    "uint16": (IMAGES.astype("uint16") * 257, 65535, "integers up to 65535"),
    "booleans": (IMAGES > 100, 1, ""),
    "0 and 1": ((IMAGES > 100).astype("uint8"), 1, "integers 0 and 1"),
    "standardized": ((IMAGES - 20.0) / 80, None, "no range of pixel values"),
    "standardized, few bright": (np.where(IMAGES > 250, 9.0, -0.2), None, "no range of pixel values"),
    "-1 to 1": (IMAGES / 127.5 - 1, None, "normalized already?"),
    "float to 65535": (IMAGES.astype("float32") * 257, None, "no range of pixel values"),
    "negative": (IMAGES.astype("int16") - 128, None, "integers from -128"),
    "int32": (IMAGES.astype("int32") * 100000, None, "no range of pixel values"),
}


@pytest.mark.parametrize("name", RANGES)
def test_range_of_values(name):
    x, white, note = RANGES[name]
    values = value_range(x)
    assert values.white == white and note in values.note and (values.note == "") == (note == "")
    assert len(repr(values)) < 160
    data = reszoo.open_data((x, np.arange(60) % 3))
    assert data.white == white and data.scaling.scale == (white or 1)
    assert any(note in line for line in data.notes) == (note != "") or not note


def test_the_same_pictures_are_scaled_to_the_same_values():
    """To the last digit, whatever numbers they are stored in; the sums are in float64."""
    sources = [IMAGES, IMAGES.astype("float32"), (IMAGES / 255).astype("float32"), IMAGES.astype("uint16") * 257]
    opened = [reszoo.open_data((x, np.arange(60) % 3)) for x in sources]
    for data in opened[1:]:
        assert data.scaling.mean == opened[0].scaling.mean and data.scaling.std == opened[0].scaling.std
        np.testing.assert_array_equal(data.arrays("train")[0], opened[0].arrays("train")[0])


def test_mean_and_deviation_are_summed_in_double_precision():
    many = np.full((4_000, 24, 24, 1), 251, "float32")
    many[::2] = 249
    scaling = measure(many, 255.0)
    assert scaling.mean[0] * 255 == pytest.approx(250, abs=1e-5) and scaling.std[0] * 255 == pytest.approx(1, abs=1e-5)
    assert measure(np.ones((9, 2), "float32"), 1.0) == Scaling(1.0, (1.0, 1.0), (1.0, 1.0))


def test_parts_with_another_range_are_converted():
    y = np.arange(60) % 3
    data = reszoo.open_data(
        (IMAGES, y), validation=((IMAGES / 255).astype("float32"), y), test=(IMAGES.astype("uint16") * 257, y)
    )
    np.testing.assert_allclose(data.arrays("validation")[0], data.arrays("test")[0], atol=1e-5)
    np.testing.assert_allclose(data.arrays("train")[0], data.arrays("test")[0], atol=1e-5)
    assert "validation part: white is 1, and 255 in training: converted" in data.notes
    joined = reszoo.open_data(((IMAGES, y), ((IMAGES / 255).astype("float32"), y)))
    np.testing.assert_allclose(joined.scaling(joined.test.x), joined.scaling(IMAGES), atol=1e-5)
    with refused(["from -1 to 1", "white is 255"]):
        reszoo.open_data((IMAGES, y), test=(IMAGES / 127.5 - 1, y))


def test_a_folder_beside_arrays_has_their_range(tmp_path):
    two_classes(tmp_path / "all")
    x = np.random.default_rng(0).random((20, 8, 8, 3)).astype("float32")
    data = reszoo.open_data((x, np.array(["bus", "car"] * 10)), test=tmp_path / "all", size=8)
    taken = data.test.take(range(8))
    assert taken.dtype == np.float32 and 0.5 < taken.max() <= 1


# Labels.

ONE_HOT = np.eye(3)[KIND]
TAGS = RANDOM.integers(0, 2, (60, 5)).astype("float32")
WORDS_OF_KIND = np.array(["ant", "bee", "cat"])[KIND]
LABELS = {
    "integers": (KIND, ("0", "1", "2")),
    "(n, 1)": (KIND[:, None], ("0", "1", "2")),
    "list": (KIND.tolist(), ("0", "1", "2")),
    "uint64": (KIND.astype("uint64"), ("0", "1", "2")),
    "one-hot": (ONE_HOT, ("0", "1", "2")),
    "one-hot booleans": (ONE_HOT > 0, ("0", "1", "2")),
    "words": (WORDS_OF_KIND, ("ant", "bee", "cat")),
    "objects": (WORDS_OF_KIND.astype(object), ("ant", "bee", "cat")),
    "bytes": (np.char.encode(WORDS_OF_KIND), ("ant", "bee", "cat")),
    "whole floats": (KIND.astype("float32"), ("0", "1", "2")),
    "objects of integers": (KIND.astype(object), ("0", "1", "2")),
    "booleans": (KIND > 0, ("False", "True")),
    "-1 and 1": (np.where(KIND > 0, 1, -1), ("-1", "1")),
    "1, 2, 3": (KIND + 1, ("1", "2", "3")),
    "10, 20, 30": (10 * (KIND + 1), ("10", "20", "30")),
    "a class without examples": (np.array([0, 1, 3])[KIND], ("0", "1", "2", "3")),
    "blanks around words": (np.array(["ant", " bee", "cat "])[KIND], ("ant", "bee", "cat")),
    "accents in two spellings": (np.array(["ant", "bé", "be\u0301"])[np.arange(60) % 3], ("ant", "bé")),
}


class Batches:
    """A stream that is read by index, as a PyDataset."""

    def __init__(self, batch, length=6):
        self.batch, self.length = batch, length

    def __len__(self):
        return self.length

    def __getitem__(self, number):
        return self.batch(slice(10 * number, 10 * number + 10))


def stream(x, y):
    return Batches(lambda rows: (x[rows], y[rows]))


@pytest.mark.parametrize("form", [lambda x, y: (x, y), stream], ids=["arrays", "stream"])
@pytest.mark.parametrize("name", LABELS)
def test_labels_by_one_rule(name, form):
    labels, classes = LABELS[name]
    data = reszoo.open_data(form(PICTURES, labels))
    assert data.classes == classes and data.task == "classification" and data.train.labels.dtype == np.int64
    for part in (data.train, data.validation):
        for picture, index in zip(part.x, part.labels, strict=True):
            (row,) = np.flatnonzero((picture == PICTURES).all(axis=(1, 2, 3)))
            own = np.asarray(labels)[row]
            own = own.argmax() if name.startswith("one-hot") else own[0] if np.ndim(own) else own
            own = own.decode() if isinstance(own, bytes) else own
            own = normalize("NFC", own.strip()) if isinstance(own, str) else own
            assert data.classes[index] == str(int(own) if "float" in name else own)


NO_LABELS = {
    "numbers": (RANDOM.normal(size=60), ["task='regression'"]),
    "rows of numbers": (RANDOM.normal(size=(60, 2)), ["2 numbers per example", "task='regression'"]),
    "tags": (TAGS, ["classes in row 0", "task='multilabel'"]),
    "a row without a class": (np.vstack([np.zeros((1, 3)), ONE_HOT[1:]]), ["0 classes in row 0", "multilabel"]),
    "soft": (np.full((60, 3), 1 / 3), ["soft labels", "argmax"]),
    "NaN": (np.where(KIND == 1, np.nan, KIND), ["nan in row 1"]),
    "None": (np.array(["a", None, "b"], object)[KIND], ["None in row 1"]),
    "empty words": (np.array(["a", "", "b"])[KIND], ["empty word in row 1"]),
    "words and NaN in a list": (["a", float("nan"), "b"] * 20, ["nan in row 1"]),
    "words and numbers in a list": (["a", 1, "b"] * 20, ["type int, str"]),
    "masked": (np.ma.masked_equal(KIND, 1), ["masked"]),
    "words and numbers": (np.array(["a", 1, 2], object)[KIND], ["type int, str"]),
    "masks": (np.zeros((60, 8, 8), int), ["shape (60, 8, 8)"]),
    "dates": (np.array(["2020-01-01"] * 60, "datetime64[D]"), ["datetime64"]),
    "ragged": ([[1], [1, 2]] * 30, ["(1,) and (2,)", "multilabel"]),
    "none": (np.zeros(0, int), ["no labels"]),
}


@pytest.mark.parametrize("name", NO_LABELS)
def test_labels_that_are_refused(name):
    labels, message = NO_LABELS[name]
    with refused(["labels", *message]):
        reszoo.open_data((PICTURES, labels))


def test_quantities_that_look_like_classes_are_noted():
    data = reszoo.open_data((PICTURES, np.arange(60) * 7 + 100))
    assert any("task='regression'" in note for note in data.notes) and "no example for validation" in data.notes
    assert not any("regression" in note for note in reszoo.open_data((PICTURES, KIND * 10)).notes)


def test_multilabel_and_regression_on_request():
    data = reszoo.open_data((PICTURES, TAGS), task="multilabel", test=(PICTURES[:5], TAGS[:5]))
    assert data.task == "multilabel" and data.train.labels.dtype == np.uint8 and data.train.labels.shape[1] == 5
    assert all(sum(pair) == column for pair, column in zip(data.counts().values(), TAGS.sum(axis=0), strict=True))
    assert (data.test.labels == TAGS[:5]).all() and "each 0 or 1" in data.notes[0]
    numbers = RANDOM.normal(size=60)
    data = reszoo.open_data((PICTURES, numbers), task="regression", test=(PICTURES[:5], numbers[:5]))
    assert data.task == "regression" and data.train.labels.shape == (54, 1) and data.classes == ("y",)
    np.testing.assert_allclose(data.test.labels[:, 0], numbers[:5], rtol=1e-6)
    assert "regression, 1 outputs" in data.audit().text() and len(repr(data)) < 160
    for task, labels, message in (
        ("multilabel", KIND, "rows of 0 and 1"),
        ("multilabel", ONE_HOT * 2, "rows of 0 and 1"),
        ("regression", WORDS_OF_KIND, "numbers"),
        ("regress", KIND, "classification, multilabel, regression"),
    ):
        with refused([message]):
            reszoo.open_data((PICTURES, labels), task=task)


MATCHES = [
    # Classes of one source, classes of another: the place of each of the former among the latter.
    (("0", "1", "2", "3"), ("0", "1", "10", "11", "2", "3"), [0, 1, 4, 5]),
    (("0", "1", "2"), ("ant", "bee", "cat"), [0, 1, 2]),
    (("cat", "ant"), ("ant", "bee", "cat"), [2, 0]),
    (("7", "3"), tuple("abcdefgh"), [7, 3]),
    (("True",), ("False", "True"), [1]),
]


@pytest.mark.parametrize(("names", "classes", "places"), MATCHES, ids=str)
def test_classes_are_matched_by_name_and_numbers_are_names(names, classes, places):
    result = match_labels("a", np.arange(len(names)), names, classes, "classification")
    assert result.tolist() == places
    rows = match_labels("a", np.eye(len(names), dtype="uint8"), names, classes, "multilabel")
    assert rows.argmax(axis=1).tolist() == places
    with refused(["a: ", "class 'zebra'"]):
        match_labels("a", np.zeros(1, int), ("zebra",), classes, "classification")


def test_folders_named_by_numbers_match_arrays_by_name(tmp_path):
    for kind in range(12):
        put(tmp_path / "all" / str(kind), 2)
    data = reszoo.open_data(tmp_path / "all", size=8, test=(np.zeros((3, 8, 8, 3), "uint8"), [2, 10, 11]))
    assert [data.classes[index] for index in data.test.labels] == ["2", "10", "11"]


# Splits.


@pytest.mark.parametrize("count", [2, 3, 5, 9, 14, 16, 40])
def test_of_every_class_with_two_examples_one_is_held_out(count):
    data = reszoo.open_data((np.arange(3.0 * count).reshape(-1, 1), np.arange(3 * count) % 3))
    assert set(data.counts().values()) == {(count - max(round(count / 10), 1), max(round(count / 10), 1))}


def test_data_without_validation_are_refused_before_work():
    single = reszoo.open_data((np.arange(3.0)[:, None], [0, 1, 2]))
    assert "no example for validation" in single.notes
    with refused(["no validation example", "validation=..."]):
        single.check_trainable()
    with refused(["one class, 4"]):
        reszoo.open_data((np.arange(9.0)[:, None], [4] * 9)).check_trainable()
    with refused(["no validation example"]):
        reszoo.train("residual_mlp18", single, output="never/written")
    assert not os.path.exists("never")


def test_groups_are_on_one_side(tmp_path):
    groups = [f"patient {number}" for number in np.arange(60) // 5]
    data = reszoo.open_data((PICTURES, KIND), groups=groups)

    def group(picture):
        return groups[int(np.flatnonzero((picture == PICTURES).all(axis=(1, 2, 3)))[0])]

    held = {group(picture) for picture in data.validation.x}
    assert held and not held & {group(picture) for picture in data.train.x}
    assert all(b for _, b in data.counts().values())
    two_classes(tmp_path / "all", 8)
    data = reszoo.open_data(tmp_path / "all", size=8, groups=lambda path: int(path.stem) // 2)
    sides = [{int(path.stem) // 2 for path in part.paths} for part in (data.train, data.validation)]
    assert sides[1] and not sides[0] & sides[1]
    for settings, message in (
        ({"groups": groups[:5]}, "5 groups"),
        ({"groups": ["one"] * 60}, "none can be held out"),
        ({"groups": len}, "got a function"),
        ({"groups": "patient"}, "got 'patient'"),
        ({"groups": groups, "validation": (PICTURES, KIND)}, "one of them"),
    ):
        with refused([message]):
            reszoo.open_data((PICTURES, KIND), **settings)
    with refused(["a function of the path"]):
        reszoo.open_data(tmp_path / "all", size=8, groups=[1] * 16)


def test_folds_hold_out_every_example_once():
    parts = [reszoo.open_data((PICTURES, KIND), folds=5, fold=fold) for fold in np.arange(5)]
    assert all(set(data.counts().values()) == {(16, 4)} for data in parts)
    held = np.concatenate([data.validation.x for data in parts]).reshape(60, -1)
    assert len(np.unique(held, axis=0)) == 60
    groups = np.arange(60) // 4
    held = []
    for fold in range(3):
        rest, out, _ = divide(KIND, share=0.1, seed=0, groups=groups, folds=3, fold=fold)
        assert not {*groups[rest]} & {*groups[out]} and 16 <= len(out) <= 24
        held += out.tolist()
    assert sorted(held) == [*range(60)]
    for settings, message in (
        ({"folds": 1, "fold": 0}, "at least 2"),
        ({"folds": 5}, "0 to 4"),
        ({"folds": 5, "fold": 5}, "0 to 4"),
        ({"fold": 1}, "folds"),
        ({"folds": 70, "fold": 0}, "2 to 60"),
        ({"folds": 5, "fold": 0, "groups": [*"abc"] * 20}, "2 to 3"),
    ):
        with refused([message]):
            reszoo.open_data((PICTURES, KIND), **settings)


def test_copies_and_groups_are_joined():
    x = PICTURES.copy()
    x[30:33] = x[0:3]
    groups = np.arange(60) // 6
    data = reszoo.open_data((x, KIND), groups=groups)
    held = {picture.tobytes() for picture in data.validation.x}
    assert held and not held & {picture.tobytes() for picture in data.train.x}


def test_pictures_that_are_all_alike_are_split_with_a_note():
    data = reszoo.open_data((np.zeros((20, 4, 4), "uint8"), np.arange(20) % 2))
    assert len(data.validation) == 2 and any("there are no others" in note for note in data.notes)


def test_options_for_other_sources_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,label\n" + "1,x\n2,y\n" * 9)
    two_classes(tmp_path / "all", count=2)
    for source, options in (
        ((PICTURES, KIND), {"target": "label"}),
        (tmp_path / "all", {"target": "label"}),
        (tmp_path / "a.csv", {"size": 32}),
        (tmp_path / "a.csv", {"channels": "gray"}),
    ):
        with refused([*options]):
            reszoo.open_data(source, **options)
    for groups in ([None, *KIND[1:]], np.where(KIND == 2, np.nan, 1.0)):
        with refused(["groups", "a group for every example"]):
            reszoo.open_data((PICTURES, KIND), groups=groups)


def test_a_regression_of_one_number_is_noted():
    data = reszoo.open_data((PICTURES, np.ones(60)), task="regression")
    assert "a number to predict that is the same in every example" in data.notes


def test_splits_that_cannot_start():
    with refused(["seed", "got -1"]):
        reszoo.open_data((PICTURES, KIND), seed=-1)
    for size in (0, 2.5, "8", True):
        with refused(["size", f"got {size!r}", "a whole number, at least 1"]):
            reszoo.open_data((PICTURES, KIND), size=size)


# Mistakes.


class Endless:
    """A generator that does not know that it has no end."""

    read = 0

    def __iter__(self):
        while self.read < 5000:
            self.read += 1
            yield PICTURES[:30], KIND[:30]
        raise SystemExit("read on")


def first_row_only(rows):
    return PICTURES[rows.start], KIND[rows.start]


def past_the_end(rows):
    if rows.start >= 30:
        raise IndexError("past the end")
    return PICTURES[rows], KIND[rows]


MISTAKES = {
    "different sizes": (([PICTURES[0], PICTURES[1][:4]], [0, 1]), ["(8, 8, 3) and (4, 8, 3)", "folder"]),
    "channels first": ((PICTURES.transpose(0, 3, 1, 2), KIND), ["channels first", "x.transpose(0, 2, 3, 1)"]),
    "many channels first": ((np.zeros((9, 8, 32, 32)), KIND[:9]), ["channels first"]),
    "too few weights in batches": (Batches(lambda rows: (PICTURES[rows], KIND[rows], np.ones(9))), ["(9,)", "(10,)"]),
    "too few weights": ((PICTURES, KIND, np.ones(59)), ["(59,)", "60 examples"]),
    "weights below 0": ((PICTURES, KIND, -np.ones(60)), ["from -1", "0 or more"]),
    "dicts": (
        Batches(lambda rows: {"image": PICTURES[rows], "label": KIND[rows]}),
        ["image, label", "as_supervised=True"],
    ),
    "single examples": (Batches(first_row_only), ["single examples", ".batch(32) is missing"]),
    "no labels in batches": ([PICTURES[:9], PICTURES[9:18], PICTURES[18:]], ["labels are missing"]),
    "text": ((np.array([["a"] * 4] * 60), KIND), ["text"]),
    "nothing": ((PICTURES[:0], KIND[:0]), ["no labels"]),
    "endless": (Endless(), ["repeats its batches", ".take(1)"]),
    "no labels": (PICTURES, ["an array of shape (60, 8, 8, 3)", "(x, y)"]),
    "two paths": (("train", "test"), ["2 names or paths", "test=..."]),
    "a dict without labels": ({"x": PICTURES}, ["arrays x", "x and y"]),
    "a test part without labels": ({"x": PICTURES, "y": KIND, "x_test": PICTURES}, ["x_test", "y_test"]),
    "a part twice": ({"train": (PICTURES, KIND), "training": (PICTURES, KIND)}, ["train, training"]),
    "two inputs": (Batches(lambda rows: ((PICTURES[rows], PICTURES[rows]), KIND[rows])), ["(tuple, ndarray)"]),
    "a row": ((np.arange(60), KIND), ["shape (60,)"]),
    "NaN": ((np.where(np.arange(60)[:, None] == 7, np.nan, 1.0), KIND), ["x of NaN in example 7"]),
    "too large": ((np.where(np.arange(60)[:, None] == 7, -1e300, 1.0), KIND), ["x of -1e+300 in example 7", "3.4e+38"]),
    "complex": ((PICTURES * 1j, KIND), ["complex"]),
    "other shapes later": (
        Batches(lambda rows: (PICTURES[rows, : 8 - rows.start // 10], KIND[rows])),
        ["then (7, 8, 3)"],
    ),
    "unequal batch": (Batches(lambda rows: (PICTURES[rows], KIND[:3])), ["10 inputs and 3 labels"]),
    "an empty name": ("", ["got ''"]),
    "a misspelled name": ("cifar-10", ["no such file or folder", "did you mean 'cifar10'"]),
    "an unknown file": (__file__, [".py", "a folder of class folders"]),
    "None": (None, ["got None"]),
    "masked numbers": ((np.ma.masked_greater(np.ones((60, 2)), 0), KIND), ["masked values", "filled"]),
    "objects": ((np.array([[1.0, None]] * 60, object), KIND), ["type NoneType, float"]),
    "something else": ((object(), KIND), ["type object"]),
    "four arrays": ((PICTURES[:40], PICTURES[40:], KIND[:40], KIND[40:]), ["4 arrays", "((x_train, y_train)"]),
    "a length that is too large": (Batches(past_the_end), ["IndexError in batch 3", "past the end", "6 batches"]),
    "an error in a generator": ((1 / 0 for _ in range(3)), ["ZeroDivisionError in batch 0"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_names_the_remedy(name):
    source, message = MISTAKES[name]
    with refused(message):
        reszoo.open_data(source)


X, Y = PICTURES, KIND
ACCEPTED = {
    "pairs": (((X, Y), (X[:9] // 2, Y[:9])), {"train": 54, "validation": 6, "test": 9}),
    "three pairs": (((X, Y), (X[:9] // 2, Y[:9]), (X[:6] // 3, Y[:6])), {"train": 60, "validation": 9, "test": 6}),
    "dict": ({"x": X, "y": Y}, {"train": 54, "validation": 6}),
    "dict of parts": ({"train": (X, Y), "Test": (X[:9] // 2, Y[:9])}, {"train": 54, "validation": 6, "test": 9}),
    "as Keras' mnist.npz": (
        {"x_train": X, "y_train": Y, "x_test": X[:9] // 2, "y_test": Y[:9]},
        {"train": 54, "validation": 6, "test": 9},
    ),
    "as MedMNIST": (
        {"train_images": X, "train_labels": Y[:, None], "val_images": X[:9] // 2, "val_labels": Y[:9]},
        {"train": 60, "validation": 9},
    ),
    "list": ([X, Y], {"train": 54, "validation": 6}),
    "batches in a list": ([(X[:20], Y[:20]), (X[20:], Y[20:])], {"train": 54, "validation": 6}),
    "generator": (((X[i : i + 6], Y[i : i + 6]) for i in range(0, 60, 6)), {"train": 54, "validation": 6}),
    "gray without channels": ((X[..., 0], Y), {"train": 54, "validation": 6}),
    "lists": ((X[..., 0].reshape(60, -1).tolist(), Y.tolist()), {"train": 54, "validation": 6}),
    "objects of numbers": ((X[:, 0, 0].astype(object), Y), {"train": 54, "validation": 6}),
    "two streams": (
        (stream(X, Y), Batches(lambda _: (X[:9] // 2, Y[:9]), 1)),
        {"train": 54, "validation": 6, "test": 9},
    ),
    "two rows": (([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], [0, 1, 0, 1]), {"train": 2, "validation": 2}),
    "wide": ((np.zeros((60, 1, 9, 3), "uint8") + X[:, :1, :1], Y), {"train": 54, "validation": 6}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_forms_of_arrays(name):
    source, counts = ACCEPTED[name]
    data = reszoo.open_data(source)
    assert {part: len(examples) for part, examples in data.parts().items()} == counts


def test_npz_files(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y, X_val=X[:9] // 2, y_val=Y[:9], comment="x")
    data = reszoo.open_data(tmp_path / "a.npz")
    assert data.own_validation and len(data.validation) == 9 and any("not used: comment" in note for note in data.notes)
    np.savez(tmp_path / "b.npz", x=X, y=WORDS_OF_KIND.astype(object))
    with refused(["b.npz", "objects are not read"]):
        reszoo.open_data(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:3000])
    with refused(["c.npz", "not .npz"]):
        reszoo.open_data(tmp_path / "c.npz")


def test_a_stream_that_reuses_its_array_is_copied():
    class Reuses:
        def __iter__(self):
            buffer = np.zeros((10, 2))
            for number in range(6):
                buffer[:] = number
                yield buffer, KIND[:10]

    data = reszoo.open_data(Reuses())
    assert {*data.train.x[:, 0]} == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}


def test_streams_larger_than_half_of_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr(streams, "free_memory", lambda: 50_000)
    counter = itertools.count()

    class Shuffled:
        def __iter__(self):
            while True:
                yield PICTURES[:30] ^ np.uint8(next(counter) % 256), KIND[:30]

    with refused(["more than half of the free memory", ".take("]):
        reszoo.open_data(Shuffled())
    assert next(counter) < 20
    reads = []
    known = Batches(lambda rows: reads.append(rows) or (PICTURES[:10], KIND[:10]), length=1000)
    with refused(["1.9 MiB, more than half of the free memory (48.8 KiB)"]):
        reszoo.open_data(known)
    assert len(reads) == 1


def test_large_streams_are_announced(monkeypatch):
    monkeypatch.setattr(streams, "LARGE", 10_000)
    with pytest.warns(UserWarning, match="batches: about .* are read into memory"):
        reszoo.open_data(stream(PICTURES, KIND))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(streams, "LARGE", 1 << 30)
        reszoo.open_data(stream(PICTURES, KIND))


def test_class_names_of_a_stream():
    source = stream(PICTURES.astype("float32"), KIND)
    source.class_names = ["ant", "bee", "cat"]
    data = reszoo.open_data(source)
    assert data.classes == ("ant", "bee", "cat") and data.white == 255
    source.class_names = ["ant", "bee"]
    with refused(["class 2", "0 to 1: ant, bee"]):
        reszoo.open_data(source)


@pytest.mark.parametrize("mode", ["int", "categorical", "binary"])
def test_a_folder_by_way_of_keras_is_the_folder(tmp_path, mode):
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("image_dataset_from_directory gives a tf.data.Dataset")
    two_classes(tmp_path / "all")
    settings = {"image_size": (30, 40), "batch_size": 3, "shuffle": False, "verbose": False}
    found = keras.utils.image_dataset_from_directory(tmp_path / "all", label_mode=mode, **settings)
    data = reszoo.open_data(found)
    assert data.classes == ("bus", "car") and data.white == 255 and data.counts() == {"bus": (3, 1), "car": (3, 1)}
    if mode == "int":
        with refused(["labels are missing"]):
            reszoo.open_data(found.map(lambda x, y: x))
        with refused(["single examples", ".batch(32)"]):
            reszoo.open_data(found.unbatch())
        with refused(["infinite", "take"]):
            reszoo.open_data(found.repeat())


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ((50, 6), "read as gray images, 50 high and 6 wide"),
        ((2, 8, 8), "read as images of 8 channels, 2 high and 8 wide"),
        ((8, 8), ""),
        ((8, 9, 3), ""),
    ],
    ids=shown,
)
def test_axes_that_leave_doubts_are_named(shape, note):
    notes = reszoo.open_data((np.random.default_rng(0).random((20, *shape)), [0, 1] * 10)).notes
    assert [text for text in notes if "read as" in text] == ([f"arrays: {note}"] if note else [])


def test_many_numbers_as_labels_are_noted():
    x = np.random.default_rng(0).random((60, 3))
    assert any("30 different labels of 60" in note for note in reszoo.open_data((x, [*range(30)] * 2)).notes)
    assert not reszoo.open_data((x, [0, 1, 2] * 20)).notes


class OneHot:
    """Stands for `pandas.get_dummies(...)`."""

    columns = ("ant ", "bee")

    def __array__(self, dtype=None, copy=None):
        return np.eye(2, dtype=bool)[[0, 1] * 10]


@pytest.mark.parametrize("train", [1.0, 255.0])
def test_parts_of_one_type_may_have_other_ranges(train):
    x, labels = np.random.default_rng(0).random((20, 4, 4, 3)).astype("float32"), [0, 1] * 10
    data = reszoo.open_data(((x * train, labels), (x * (256 - train), labels)))
    assert data.white == train and any("converted" in note for note in data.notes)
    np.testing.assert_allclose(data.test.x / train, x, atol=1e-6)
    black = reszoo.open_data(((x * 255, labels), (np.round(x), labels)))
    assert black.test.x.max() == 1 and not any("converted" in note for note in black.notes)


def test_classes_that_are_several_others_are_noted():
    x = np.random.default_rng(0).random((20, 3))
    note = (
        "classes: 'cat|dog' is read as a class of its own; for several classes at once: columns of 0 and 1, multilabel"
    )
    assert note in reszoo.open_data((x, ["cat", "dog", "cat|dog", "dog"] * 5)).notes
    assert not reszoo.open_data((x, ["cat", "a/b", "b", "dog"] * 5)).notes


def test_groups_that_cannot_be_used(tmp_path):
    two_classes(tmp_path / "all")
    with refused(["groups", "ValueError for", ".png", "returns a group"]):
        reszoo.open_data(tmp_path / "all", groups=lambda path: int(str(path)))
    with refused(["groups", "[1]", "a word or a number"]):
        reszoo.open_data((PICTURES, KIND), groups=[[1]] * len(KIND))


def test_one_hot_columns_keep_their_names():
    data = reszoo.open_data((np.random.default_rng(0).random((20, 3)), OneHot()))
    assert data.classes == ("ant", "bee") and data.counts() == {"ant": (9, 1), "bee": (9, 1)}


@needs("torch")
def test_a_data_loader_is_channels_first():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    rows = TensorDataset(torch.tensor(PICTURES.transpose(0, 3, 1, 2)).float() / 255, torch.tensor(KIND))
    data = reszoo.open_data(DataLoader(rows, batch_size=7))
    assert data.shape == (8, 8, 3) and data.white == 1 and "transposed" in data.notes[0]
    found = {picture.tobytes() for part in (data.train, data.validation) for picture in part.x}
    assert found == {picture.tobytes() for picture in PICTURES.astype("float32") / 255}
    with refused(["single examples", "DataLoader(dataset, batch_size=32)"]):
        reszoo.open_data(rows)
    for shape, read in (((2, 8, 8), (8, 8, 2)), ((3, 4, 4), (4, 4, 3)), ((13, 8, 8), (8, 8, 13)), ((9, 8, 3),) * 2):
        rows = TensorDataset(torch.rand(len(KIND), *shape), torch.tensor(KIND))
        assert reszoo.open_data(DataLoader(rows, batch_size=7)).shape == read
    half = torch.tensor(PICTURES).bfloat16().requires_grad_()
    assert reszoo.open_data((half, torch.tensor(KIND))).white == 255


class Features:
    """Stands for `datasets.Dataset`, which is not installed everywhere."""

    def __init__(self, pictures, labels, **features):
        self.rows = [dict(zip(features, row, strict=True)) for row in zip(pictures, labels, strict=True)]
        self.features, self.column_names = features, [*features]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def feature(kind, **attributes):
    return type(kind, (), attributes)()


def test_hugging_face_datasets():
    pictures = [Image.fromarray(picture).resize((9 + number % 2, 12)) for number, picture in enumerate(PICTURES)]
    columns = {"photo": feature("Image"), "kind": feature("ClassLabel", names=["ant", "bee", "cat"])}
    source = Features(pictures, KIND.tolist(), **columns)
    with refused(["pictures of shapes (12, 9, 3) and (12, 10, 3)", "size=224"]):
        reszoo.open_data(source)
    data = reszoo.open_data({"train": source, "test": source}, size=8)
    assert data.classes == ("ant", "bee", "cat") and data.shape == (8, 8, 3) and len(data.test) == 60
    words = Features([*PICTURES], WORDS_OF_KIND.tolist(), img=feature("Array3D"), label=feature("Value"))
    assert reszoo.open_data(words, channels="gray").shape == (8, 8, 1)
    with refused(["columns text, label", "image, img"]):
        reszoo.open_data(Features(WORDS_OF_KIND, KIND, text=feature("Value"), label=feature("Value")))


def test_a_plugin_for_heic_is_used_where_it_is_installed(tmp_path, monkeypatch):
    calls = []
    plugin = types.SimpleNamespace(register_heif_opener=lambda: calls.append(1))
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    problem(tmp_path / "a.heic", thorough=True)
    assert calls
