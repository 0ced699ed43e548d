"""Training: data sources, recipes, and interrupted runs that resume to the same result."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import python, refused
from PIL import Image

import reszoo
from reszoo.data.sources import Scaling
from reszoo.data.splits import split
from reszoo.training import optimizers
from reszoo.training.batches import Batches
from reszoo.training.checkpointing import reserve, state_bytes
from reszoo.training.metadata import read_metadata
from reszoo.training.recipes import Augmentation, LearningRate
from reszoo.training.run import _writing

TINY = {"depths": 1, "width_multiplier": 0.25}
PLAIN_SCALE = Scaling(1.0, (0.0,), (1.0,))


def tiny_run(folder, **changes):
    settings = {"changes": TINY, "epochs": 2, "batch": 64, "seed": 3, "verbose": 0} | changes
    return reszoo.train("resnet20_cifar", "digits", output=folder, **settings)


# Recipes.


@pytest.mark.parametrize("name", reszoo.list_recipes())
def test_every_recipe_builds_an_optimizer_and_a_loss(name):
    recipe = reszoo.recipe(name)
    optimizer = optimizers.optimizer(recipe, 100, None)
    assert type(optimizer).__name__.lower() == recipe.optimizer.kind
    assert float(optimizers.loss(recipe)(np.eye(3), np.full((3, 3), 1 / 3))) > 0
    assert recipe.ref


SCHEDULES = [
    ({"kind": "constant", "peak": 0.3}, {0: 0.3, 99: 0.3}),
    ({"kind": "steps", "peak": 0.1, "at": (0.5, 0.75)}, {0: 0.1, 50: 0.1, 51: 0.01, 76: 0.001}),
    ({"kind": "steps", "peak": 0.1, "at": (0.5,), "warmup": 0.1, "warmup_factor": 0.1}, {0: 0.01, 11: 0.1, 51: 0.01}),
    ({"kind": "cosine", "peak": 0.2}, {0: 0.2, 50: 0.1, 100: 0.0}),
    ({"kind": "cosine", "peak": 0.2, "warmup": 0.2, "warmup_factor": 0.1}, {0: 0.02, 20: 0.2, 60: 0.1, 100: 0.0}),
]


@pytest.mark.parametrize(("settings", "expected"), SCHEDULES, ids=str)
def test_learning_rate_schedule(settings, expected):
    schedule = optimizers.schedule(LearningRate(**settings), 100)
    for step, rate in expected.items():
        assert float(schedule(step) if callable(schedule) else schedule) == pytest.approx(rate, abs=1e-7)


INVALID_RECIPES = [
    ("fst", {}, ["unknown recipe", "did you mean 'fast'"]),
    ("fast", {"epoch": 3}, ["recipe fast", "epoch", "did you mean 'epochs'"]),
    ("fast", {"optimizer": {"momentun": 0.5}}, ["optimizer.momentun", "did you mean 'momentum'"]),
    ("fast", {"epochs": 0}, ["epochs", "got 0", "at least 1"]),
    ("fast", {"learning_rate": {"kind": "cosin"}}, ["learning_rate.kind", "did you mean 'cosine'"]),
]


@pytest.mark.parametrize(("name", "changes", "message"), INVALID_RECIPES, ids=str)
def test_invalid_recipes_are_refused(name, changes, message):
    with refused(message):
        reszoo.recipe(name, **changes)


def test_custom_recipe_from_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("mine: {base: fast, ref: none, epochs: 7, optimizer: {momentum: 0.5}}")
    recipe = reszoo.recipe(f"{tmp_path / 'mine.yaml'}:mine")
    assert (recipe.epochs, recipe.optimizer.momentum, recipe.optimizer.nesterov) == (7, 0.5, True)


def test_l2_penalty_matches_the_papers_and_is_not_saved(tmp_path):
    """The gradient of the penalty is weight_decay times the kernel; norms and biases have none."""
    model = reszoo.resnet20_cifar(input_shape=(8, 8, 1), **TINY)
    recipe = reszoo.recipe("cifar_he2015")
    optimizers.add_l2_penalty(model, recipe)
    kernels = [variable for variable in model.trainable_variables if variable.name == "kernel"]
    expected = sum(float((variable.numpy() ** 2).sum()) for variable in kernels) * 1e-4 / 2
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-4)
    assert len(model.losses) == len(kernels)
    model.save(tmp_path / "model.keras")
    assert not keras.models.load_model(tmp_path / "model.keras").losses


# Data.


def test_digits_are_split_by_class():
    data = reszoo.open_data("digits", seed=1)
    assert data.shape == (8, 8, 1) and len(data.classes) == 10
    assert len(data.train) + len(data.validation) + len(data.test) == 1797
    assert all(held / rest == pytest.approx(1 / 9, abs=0.03) for rest, held in data.counts().values())
    x = data.scaling(data.train.x)
    assert x.mean() == pytest.approx(0, abs=1e-4) and x.std() == pytest.approx(1, abs=1e-4)
    same, other = reszoo.open_data("digits", seed=1), reszoo.open_data("digits", seed=2)
    assert (same.train.labels == data.train.labels).all() and (other.train.x != data.train.x).any()


def test_split_is_stratified_and_complete():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    rest, held = split(labels, 0.1, seed=0)
    assert sorted([*rest, *held]) == [*range(100)]
    assert np.bincount(labels[held]).tolist() == [5, 3, 2]


def write_image(path, color, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes of uniform color, and the other files that real folders contain."""
    for number in range(10):
        write_image(tmp_path / "data" / "red" / f"{number}.png", (200 + number, 0, 0))
        write_image(tmp_path / "data" / "blue" / f"{number}.jpg", (0, 0, 200 + number), size=(30, 50))
    write_image(tmp_path / "data" / "red" / "button.gif", (0, 0, 0))
    (tmp_path / "data" / "red" / "notes.txt").write_text("not an image")
    whole = (tmp_path / "data" / "blue" / "0.jpg").read_bytes()
    (tmp_path / "data" / "blue" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "data" / "blue" / ".hidden").write_text("ignored")
    return tmp_path / "data"


def test_image_folder_and_skipped_files(folder):
    data = reszoo.open_data(folder, size=16)
    assert data.classes == ("blue", "red") and data.shape == (16, 16, 3)
    assert data.counts() == {"blue": (9, 1), "red": (9, 1)}
    notes = "\n".join(data.notes)
    assert "button.gif: GIF is not" in notes and "notes.txt: not an image" in notes and "half.jpg: damaged" in notes
    assert len(data.left_out) == 3 and {item.path.name for item in data.left_out} == {
        "button.gif",
        "notes.txt",
        "half.jpg",
    }
    red = data.train.take([list(data.train.labels).index(1)])[0]
    assert red[..., 0].min() >= 200 and red[..., 2].max() == 0


def test_classes_without_images_are_noted(folder):
    (folder / "train").mkdir()
    (folder / "red").rename(folder / "train" / "red")
    (folder / "blue").rename(folder / "train" / "blue")
    (folder / "train" / "green").mkdir()
    write_image(folder / "val" / "red" / "1.png", (255, 0, 0))
    notes = "\n".join(reszoo.open_data(folder, size=16).notes)
    assert f"no image of green in {folder / 'train'}" in notes
    assert "no validation example of blue, green" in notes
    write_image(folder / "val" / "yellow" / "1.png", (255, 255, 0))
    with refused(["class 'yellow'", "blue, green, red"]):
        reszoo.open_data(folder, size=16)


def test_tables(tmp_path):
    rows = [f"{number},{'ab'[number % 2]},{number / 7},{'yes' if number > 20 else 'no'}" for number in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["x,kind,z,answer", *rows]))
    data = reszoo.open_data(tmp_path / "rows.csv")
    assert data.shape == (4,) and data.classes == ("no", "yes")
    assert reszoo.open_data(tmp_path / "rows.csv", target="kind").classes == ("a", "b")
    np.savez(tmp_path / "some.npz", x=np.zeros((20, 9, 9), "uint8"), y=np.arange(20) % 2)
    assert reszoo.open_data(tmp_path / "some.npz").shape == (9, 9, 1)


def make(path, text):
    path.write_text(text)
    return path


INVALID_DATA = [
    (lambda folder: "digitz", ["data", "digitz", "a folder of class folders"]),
    (lambda folder: folder, ["0 folders", "at least two"]),
    (lambda folder: make(folder / "a.csv", "x,y\n1,a\n2"), ["row 3", "got 1 column", "expected 2 columns"]),
    (lambda folder: make(folder / "a.npz", "no"), ["not .npz"]),
    (lambda folder: (np.zeros((3, 4)), np.zeros(2, int)), ["3 examples and 2 labels"]),
    (lambda folder: (np.zeros((3, 4)), np.full(3, 0.5)), ["labels: got 0.5 in row 0", "task='regression'"]),
    (lambda folder: (np.full((3, 4), np.nan), np.zeros(3, int)), ["NaN"]),
    (lambda folder: 7, ["data", "got 7", "a dataset"]),
    (lambda folder: [np.zeros((3, 4))], ["batches", "(inputs, labels)"]),
    (lambda folder: iter(()), ["batches", "got no batches"]),
]


@pytest.mark.parametrize(
    ("source", "message"), INVALID_DATA, ids=lambda value: "" if callable(value) else str(value)[:30]
)
def test_invalid_data_is_refused(tmp_path, source, message):
    with refused(message):
        reszoo.open_data(source(tmp_path))


class Stream(keras.utils.PyDataset):
    """Thirty rows in batches of seven, with one-hot labels."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rows = np.arange(30)[7 * index : 7 * index + 7]
        return np.stack([rows, -rows], axis=1).astype("float32"), np.eye(3)[rows % 3]


def test_streams_of_batches_are_read_completely():
    data = reszoo.open_data(Stream())
    assert data.shape == (2,) and len(data.classes) == 3
    rows = np.concatenate([data.train.x[:, 0], data.validation.x[:, 0]])
    assert sorted(rows) == [*range(30)]
    assert (data.train.labels == data.train.x[:, 0] % 3).all()


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a tf.data.Dataset needs TensorFlow")
def test_tensorflow_dataset():
    import tensorflow as tf

    stream = tf.data.Dataset.from_tensor_slices((np.arange(40.0).reshape(20, 2), np.arange(20) % 2))
    data = reszoo.open_data(stream.batch(8))
    assert (data.shape, len(data.train) + len(data.validation)) == ((2,), 20)
    with refused(["infinite", "take"]):
        reszoo.open_data(stream.batch(8).repeat())
    with refused(["single examples"]):
        reszoo.open_data(stream)


def test_separate_sources_for_validation_and_test():
    x, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2
    data = reszoo.open_data((x, y), validation=(x[:4], y[:4]), test=(x[:6], y[:6]))
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 4, 6) and data.own_validation
    with refused(["shape (3,)", "(2,)"]):
        reszoo.open_data((x, y), validation=(np.zeros((4, 3)), y[:4]))
    with refused(["class '2'", "0, 1"]):
        reszoo.open_data((x, y), test=(x[:4], y[:4] + 1))


def test_arrays_are_resized():
    """Bilinear sampling is exact on a ramp, except at the borders."""
    ramp = np.tile(np.arange(8.0)[None, :, None], (8, 1, 1))
    images, labels = np.stack([ramp, ramp.transpose(1, 0, 2)] * 10), np.arange(20) % 2
    larger, smaller = (reszoo.open_data((images, labels), size=size) for size in (16, 4))
    assert larger.shape == (16, 16, 1) and smaller.shape == (4, 4, 1)
    one = larger.train.take([int(np.flatnonzero(larger.train.labels == 0)[0])])[0, :, :, 0]
    np.testing.assert_allclose(one[3, 1:-1], (np.arange(16) + 0.5)[1:-1] / 2 - 0.5, atol=1e-5)
    assert (one == one[0]).all()
    few = smaller.train.take([int(np.flatnonzero(smaller.train.labels == 1)[0])])[0, :, :, 0]
    np.testing.assert_allclose(few[1:-1, 2], [2.5, 4.5], atol=0.1)


def test_arrays_are_cropped():
    ramp = np.tile(np.arange(8.0)[None, :, None], (8, 1, 1))
    data = reszoo.open_data((np.stack([ramp] * 20), np.arange(20) % 2))
    left_half = data.train.take([0], [(0.0, 0.0, 0.5, 1.0)])
    assert left_half.shape == (1, 8, 8, 1) and left_half.max() < 4 and left_half.min() == 0


# Batches.

AUGMENTED = [
    {},
    {"shift": 2, "flip": True},
    {"rand_augment": 0.5, "erase": 0.3},
    {"mixup": 0.2, "cutmix": 1.0},
    {"crop": (0.3, 1.0)},
]


@pytest.mark.parametrize("augmentation", AUGMENTED, ids=str)
def test_batches_depend_on_seed_epoch_and_index_only(folder, augmentation):
    data = reszoo.open_data(folder, size=16)

    def batches(**changes):
        settings = {"batch": 8, "seed": 1, "augmentation": Augmentation(**augmentation), "epoch": 0} | changes
        return Batches(data.train, data.scaling, 2, **settings)

    first, again = batches(), batches()
    again[0], again[1]
    for one, other in zip(first[1], again[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first[1][0] != batches(epoch=1)[1][0]).any() and (first[1][0] != batches(seed=2)[1][0]).any()
    np.testing.assert_allclose(first[1][1].sum(axis=1), 1, rtol=1e-5)
    # 18 examples in batches of 8: the last two are left out of this epoch.
    assert sum(len(first[number][0]) for number in range(len(first))) == 16


def test_shift_moves_pixels_and_fills_with_zeros():
    x = np.arange(1, 26, dtype="float32").reshape(1, 5, 5, 1)
    data = reszoo.open_data((np.repeat(x, 40, axis=0), np.arange(40) % 2))
    batches = Batches(data.train, PLAIN_SCALE, 2, batch=36, seed=0, augmentation=Augmentation(shift=2))
    images = batches[0][0]
    positions = {tuple(np.argwhere(image[..., 0] == 13)[0]) for image in images}
    assert len(positions) > 5 and max(max(position) for position in positions) == 4
    assert {*np.unique(images)} <= {0.0, *np.unique(x)}


# Runs.


def test_run_writes_its_files(tmp_path):
    done = tiny_run(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        ".lock",
        "README.md",
        "best.keras",
        "history.jsonl",
        "logs",
        "model.keras",
        "run.json",
        "state-000002",
    }
    assert [row["epoch"] for row in done.history] == [1, 2]
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 2
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"{done.test_accuracy:.4f}" in card and f"{done.best['val_accuracy']:.4f}" in card
    metadata = read_metadata(tmp_path / "run" / "model.keras")
    assert metadata.classes == tuple("0123456789") and metadata.scaling.scale == 16
    # The input's name is that of every run, however many networks the process has built: exports are used by it.
    code = "import keras; m = keras.models.load_model('{}'); print(m.output_shape, m.compiled, m.input.name)"
    for file in ("model.keras", "best.keras"):
        output = python(code.format(file), without_reszoo=True, folder=tmp_path / "run").strip()
        assert output == "(None, 10) False input"
    model, _ = reszoo.from_checkpoint(tmp_path / "run" / "model.keras")
    assert reszoo.spec_of(model).stages[0].width == 4
    # A finished run trains nothing when it is called again.
    again = tiny_run(tmp_path / "run")
    assert again.history == done.history
    for other, difference in (({"seed": 4}, "seed: 4"), ({"batch": 32}, "recipe.batch: 32")):
        with refused(["another run", difference, "choose another folder"]):
            tiny_run(tmp_path / "run", **other)


def test_results_have_short_representations(folder, tmp_path):
    from reszoo.training.run import Trained

    data, recipe = reszoo.open_data(folder, size=16), reszoo.recipe("strikes_back_a1")
    history = [{"epoch": 1, "val_accuracy": 0.5}]
    trained = Trained(tmp_path, keras.Sequential(name="net"), history, 0.25)
    for result in (data, data.train, reszoo.open_data("digits").train, recipe, trained):
        assert len(repr(result)) < 160, repr(result)
    assert "<td>blue</td>" in data._repr_html_() and "optimizer.kind" in recipe._repr_html_()
    assert "val_accuracy" in trained._repr_html_()


@pytest.mark.skipif(not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer")
def test_recipe_with_frozen_parts_and_layer_decay(tmp_path):
    settings = {"frozen": "stage1", "layer_decay": 0.5, "epochs": 1}
    done = tiny_run(tmp_path / "run", **settings)
    assert not done.model.get_layer("stage1_block1_unit1_conv").trainable
    assert done.history[0]["learning_rate"] == pytest.approx(0.0, abs=2e-3)
    first = {layer.name: layer.get_weights() for layer in tiny_run(tmp_path / "none", epochs=1).model.layers}
    stem = done.model.get_layer("stem_conv").get_weights()[0]
    keras.utils.set_random_seed(3)
    fresh = reszoo.resnet20_cifar(input_shape=(8, 8, 1), **TINY).get_layer("stem_conv").get_weights()[0]
    assert (stem == fresh).all() and (first["stem_conv"][0] != fresh).any()
    again = tiny_run(tmp_path / "run", **settings)
    assert again.history == done.history
    with refused(["freeze.until", "stage9"]):
        tiny_run(tmp_path / "another", frozen="stage9")


def test_folder_with_other_files_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with refused(["a folder with other files"]):
        tiny_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_non_finite_loss_ends_the_run(tmp_path):
    with refused(["step", "learning rate", "optimizer.clip=1"]):
        tiny_run(tmp_path / "run", learning_rate={"kind": "constant", "peak": 1e30, "warmup": 0.0})


class Poison(keras.callbacks.Callback):
    """Sets a weight to NaN after every step: the losses reported so far are finite."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.trainable_variables[0].assign(self.model.trainable_variables[0] * np.nan)


def test_weights_that_are_not_finite_end_the_run(tmp_path):
    # One step: its loss is that of the weights before.
    with refused(["step 1", "1 variables with NaN", "stem", "optimizer.clip=1"]):
        tiny_run(tmp_path / "run", callbacks=[Poison()], batch=2000, epochs=1)


KILLED = """
import os, resource, signal, sys
import keras, reszoo
from reszoo.training import run as module
from reszoo.training.recipes import recipe
folder, moment = sys.argv[1], sys.argv[2]

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def interrupt():
    # Where the tests run in the background, Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)

def fill():
    # Limits the size of files: writes fail as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

class AtStep(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        what, _, step = moment.partition("-")
        if step and int(self.model.optimizer.iterations) == int(step):
            {"kill": kill, "interrupt": interrupt, "fill": fill}[what]()

if moment == "state":
    os.fsync = kill
data = reszoo.open_data("digits", seed=3)
small = {"depths": 1, "width_multiplier": 0.25, "block": {"dropout": 0.1}}
spec = reszoo.spec("resnet20_cifar", input_shape=data.shape, classes=10, **small)
settings = recipe("fast_symbols", epochs=3, batch=64, ema=0.9, augmentation={"mixup": 0.2, "shift": 1})
done = module.run(spec, data, settings, folder, seed=3, verbose=0, callbacks=(AtStep(),))
import hashlib, json
import numpy as np
weights = b"".join(np.asarray(weight).tobytes() for weight in done.model.get_weights())
print(json.dumps(done.history), hashlib.sha256(weights).hexdigest())
"""


@pytest.mark.slow
def test_interrupted_runs_resume_to_the_same_result(tmp_path):
    def run(folder, moment):
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, "-c", KILLED, str(tmp_path / folder), moment]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    whole = run("whole", "never")
    assert whole.returncode == 0, whole.stderr[-2000:]
    # Within the first epoch, while the first state is written, within the second epoch, within the last.
    for moment in ("kill-5", "state", "kill-30", "kill-55"):
        assert run("killed", moment).returncode == -signal.SIGKILL
    # Ctrl-C, and a disk that is full when the second state is to be written.
    assert "KeyboardInterrupt" in run("other", "interrupt-30").stderr
    full = run("other", "fill-30")
    assert full.returncode == 1 and "could not be written" in full.stderr and "resume after epoch 1" in full.stderr
    for folder in ("killed", "other"):
        resumed = run(folder, "never")
        assert resumed.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1], resumed.stderr[-2000:]
        one, other = ((tmp_path / name / "history.jsonl").read_text() for name in ("whole", folder))
        assert one == other and len(one.splitlines()) == 3


@pytest.mark.slow
def test_train_command_on_an_image_folder(tmp_path, folder):
    command = (
        "train",
        "--model",
        "resnet18",
        "--data",
        str(folder),
        "--size",
        "32",
        "--epochs",
        "1",
        "--output",
        "run",
    )
    net = ("--net", "width_multiplier=0.125", "--set", "batch=4", "--set", "optimizer.momentum=0.8")
    done = subprocess.run(
        [sys.executable, "-m", "reszoo", *command, *net], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "button.gif" in done.stdout and "best validation accuracy" in done.stdout
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["optimizer"]["momentum"] == 0.8
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("changes", [{}, {"depths": 3, "widths": 64}])
def test_room_for_a_state_is_made_sure_of_before_it_is_written(tmp_path, changes):
    """HDF5 may end the process on a full disk."""
    model = reszoo.create("residual_mlp18", input_shape=(4,), classes=2, **{"depths": 1, "widths": 8, **changes})
    model.compile(keras.optimizers.AdamW(), "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save_weights(tmp_path / "state.weights.h5")
    assert (tmp_path / "state.weights.h5").stat().st_size <= state_bytes(model)
    reserve(tmp_path, state_bytes(model))
    with pytest.raises(OSError):
        reserve(tmp_path, 1 << 60)
    assert [path.name for path in tmp_path.iterdir()] == ["state.weights.h5"]


def test_logs_that_cannot_be_written_are_named(tmp_path):
    summary = pytest.importorskip("tensorflow").summary
    (tmp_path / "file").touch()
    checkpoint = SimpleNamespace(folder=tmp_path, saved_epochs=2)
    with refused([str(tmp_path), "could not be written", "resume after epoch 2"]), _writing(checkpoint):
        summary.create_file_writer(str(tmp_path / "file" / "logs")).flush()
    with pytest.raises(ZeroDivisionError), _writing(checkpoint):
        _ = 1 / 0
