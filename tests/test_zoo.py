"""Networks as data: entries against their second sources, golden plans, laws between networks, invalid input."""

from pathlib import Path
from typing import get_args
from xml.etree.ElementTree import fromstring

import pytest
from conftest import refused

import reszoo
from reszoo.arch import zoo
from reszoo.arch.cost import cost_by_part
from reszoo.arch.parts import ORDERS, OrderName
from reszoo.config import configs
from reszoo.errors import ReszooError

ENTRIES = zoo.builtin().names
GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ENTRIES)
def test_cost_matches_the_second_source(name):
    entry = zoo.entry(name)
    cost = reszoo.cost(name)
    assert entry.source.ref
    assert (cost.params, cost.macs) == (entry.source.expect.params, entry.source.expect.macs)


# timm 1.0.31, forward hooks on convolutions and linear layers.
ACTIVATIONS = {
    "resnet18": 2_484_712,
    "resnet50": 11_114_984,
    "resnet152": 22_555_112,
    "resnet50d": 11_917_800,
    "resnext101_32x8d": 31_210_472,
    "wide_resnet101_2": 21_225_448,
    "se_resnet50": 11_131_032,
    "preact_resnet50": 11_114_984,
}


@pytest.mark.parametrize(("name", "expected"), ACTIVATIONS.items())
def test_activations_match_timm(name, expected):
    assert reszoo.cost(name).activations == expected


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("resnet50", 50),
        ("plain34", 34),
        ("resnet1202_cifar", 1202),
        ("preact_resnet1001_cifar", 1001),
        ("residual_mlp18", 18),
    ],
)
def test_depth_counts_weighted_layers_on_the_main_path(name, depth):
    assert reszoo.cost(name).depth == depth


@pytest.mark.parametrize(("name", "side"), [("resnet50_v1", 483), ("resnet101_v1", 1027), ("resnet152_v1", 1507)])
def test_receptive_field_matches_published_values(name, side):
    # Araujo, Norris & Sim 2019, "Computing receptive fields of convolutional neural networks", table 1.
    assert reszoo.cost(name).receptive_field == side


def test_receptive_field_matches_the_pixels_that_change_an_output():
    import keras
    import numpy as np

    size = 128
    changes = {"depths": [1, 2], "widths": [4, 8], "norm": "none", "input_shape": (size, size, 1), "init": "glorot"}
    changes["stem"] = {"width": 4}
    for name in ("resnet20_cifar", "preact_resnet110_cifar", "resnet18d"):
        spec = reszoo.spec(name, **changes, block={"start": "random"}, head={"classes": None, "pooling": "none"})
        model = reszoo.create(spec)
        for layer in model.layers:
            if layer.name.endswith("_conv"):
                # All weights positive: no contribution is cut off by a rectifier or cancelled.
                layer.set_weights([np.abs(weight) for weight in layer.get_weights()])
        # One image per column, brighter in that column: which ones change the middle pixel of the output?
        plain_image = np.ones((1, size, size, 1), "float32")
        striped = plain_image + np.eye(size, dtype="float32")[:, None, :, None]
        outputs = keras.ops.convert_to_numpy(model(np.concatenate([plain_image, striped])))
        middle = outputs[:, outputs.shape[1] // 2, outputs.shape[2] // 2]
        touched = np.flatnonzero((middle[1:] != middle[:1]).any(axis=-1))
        assert touched[-1] - touched[0] + 1 == reszoo.cost(spec).receptive_field
        keras.backend.clear_session()


@pytest.mark.parametrize("name", [name for name in ENTRIES if zoo.entry(name).spec.block.shortcut != "none"])
def test_plain_twin_is_the_network_without_shortcuts(name):
    residual, plain = reszoo.plan(name), reszoo.plan(zoo.spec(name).plain())
    shortcuts = {op.name for op in residual.ops if "_shortcut_" in op.name or op.kind == "add"}
    others = [op for op in residual.ops if op.name not in shortcuts]

    def shape(op):
        return op.name, op.kind, op.shape, op.kernel, op.stride, op.weights

    assert list(map(shape, others)) == list(map(shape, plain.ops))
    assert shortcuts


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 200])
def test_named_plain_networks_are_the_twins(depth):
    assert zoo.spec(f"plain{depth}") == zoo.spec(f"resnet{depth}").plain().replace(name=f"plain{depth}")


def test_option_a_costs_nothing_and_option_b_costs_its_projections():
    # He et al. 2015, 3.3; the two projections of a CIFAR net are 16*32 + 32*64 kernels and 2 * 96 of norm.
    a, b, c = (reszoo.cost("resnet20_cifar", shortcut=option) for option in "ABC")
    assert reszoo.cost(reszoo.spec("resnet20_cifar").plain()).params == a.params
    assert b.params - a.params == 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert c.params > b.params


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnext50_32x4d", "preact_resnet50"])
def test_moving_the_stride_changes_macs_and_not_params(name):
    moved = reszoo.cost(name, block={"stride_at": 1})
    assert moved.params == reszoo.cost(name).params
    assert moved.macs < reszoo.cost(name).macs


def test_parts_sum_to_the_whole():
    for name in ("resnet50", "preact_resnet164_cifar", "se_resnet50", "tabular_resnet"):
        rows, total = cost_by_part(reszoo.plan(name)).values(), reszoo.cost(name)
        for field in ("params", "params_all", "macs", "activations", "depth"):
            assert sum(getattr(row, field) for row in rows) == getattr(total, field)


def test_equal_blocks_form_one_run():
    runs = [len(run.segments) for run in reszoo.plan("resnet1202_cifar").runs]
    assert runs == [1, 200, 1, 199, 1, 199, 1]
    assert len(reszoo.plan("resnet1202_cifar").blocks) == 600


@pytest.mark.parametrize("name", ["resnet18", "preact_resnet164_cifar", "resnet50d", "se_resnet50", "tabular_resnet"])
def test_golden_plan(name):
    """The plan as text; `python tests/golden/write.py` rewrites the golden files."""
    assert reszoo.plan(name).text() == (GOLDEN / f"{name}.txt").read_text()


def test_output_stride_dilates_exactly():
    """A dilated network equals the strided one at common pixels (Chen 2017, section 3.1)."""
    import keras
    import numpy as np

    for name in ("resnet18", "resnet50", "resnet50_v1", "preact_resnet50"):
        settings = {"input_shape": (64, 64, 3), "width_multiplier": 0.125, "include_top": False, "norm": "batch"}
        settings["block"] = {"start": "random"}
        strided = reszoo.create(name, **settings)
        dilated = reszoo.create(name, **settings, output_stride=8)
        dilated.set_weights(strided.get_weights())
        image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
        coarse, fine = (keras.ops.convert_to_numpy(model(image)) for model in (strided, dilated))
        assert fine.shape[1] == 4 * coarse.shape[1] == 8
        np.testing.assert_allclose(fine[:, ::4, ::4], coarse, atol=1e-5 * coarse.max(), rtol=1e-4)
        keras.backend.clear_session()


def test_drop_path_rises_to_its_rate():
    rates = [op.rate for op in reszoo.plan("resnet20_cifar", drop_path=0.9).ops if op.kind == "drop_path"]
    assert rates == pytest.approx([0.1 * i for i in range(1, 10)])


def test_user_yaml_works_like_the_built_in_files(tmp_path):
    file = tmp_path / "my_nets.yaml"
    file.write_text(
        "wide_thing:\n  base: resnet50\n  widths: [512, 1024, 2048, 4096]\nsmaller:\n  base: wide_thing\n  depths: 1\n"
    )
    assert reszoo.spec(f"{file}:wide_thing").stages[-1].width == 4096
    assert reszoo.spec(f"{file}:smaller").stages[0].depth == 1
    assert reszoo.list_models(zoo=file) == ["wide_thing", "smaller"]
    assert reszoo.list_models("small*", zoo=file) == ["smaller"]


def test_user_entry_may_have_the_name_of_a_built_in_one(tmp_path):
    file = tmp_path / "my_nets.yaml"
    file.write_text("resnet34: {base: resnet50, depths: 1}\nresnet18: {base: resnet18, depths: 1}\n")
    # The built-in resnet50 is based on the built-in resnet34: no cycle, whichever is read first.
    mine = zoo.Zoo([file], parent=zoo.Zoo((configs() / "models").glob("*.yaml")))
    assert mine.entry("resnet34").spec.block == reszoo.spec("resnet50").block
    assert reszoo.cost(mine.entry("resnet18").spec).depth == 10


def test_list_models_filters():
    assert reszoo.list_models("resnet*", family="cifar", max_params=5e5) == ["resnet20_cifar", "resnet32_cifar"]
    assert "resnet50" not in reszoo.list_models(max_macs=4e9)
    assert set(reszoo.list_models()) == set(ENTRIES)


# Invalid change -> texts in the message: place, value, expected values, hint.
BAD_CHANGES = [
    ({"shortcut": "non"}, ["resnet50.block.shortcut", "'non'", "none, pad, project", "did you mean 'none'?"]),
    ({"depht": [3]}, ["unknown argument", "'depht'", "depths", "did you mean 'depths'"]),
    ({"block": {"kernel": 3}}, ["resnet50.block.kernel", "unknown field", "body"]),
    ({"stages": [{"dept": 2, "width": 4}]}, ["stages.0.dept", "unknown field", "did you mean 'depth'?"]),
    ({"classes": 0}, ["resnet50.head.classes", "got 0", "at least 1"]),
    ({"classes": 1.5}, ["resnet50.head.classes", "got 1.5", "whole number"]),
    ({"classes": True}, ["resnet50.head.classes", "got True", "whole number"]),
    ({"widths": 0}, ["resnet50.stages.0.width", "got 0", "at least 1"]),
    ({"widths": [64, 128, 256, 1]}, ["resnet50.block.body.0.ratio", "0.25", "stage width 1"]),
    ({"depths": "abc"}, ["resnet50.depths", "'abc'", "whole number"]),
    ({"width_multiplier": -1}, ["resnet50.width_multiplier", "-1", "above 0"]),
    ({"input_shape": (31, 31, 3)}, ["resnet50.input_shape", "(31, 31, 3)", "at least 32", "stem='cifar'"]),
    ({"input_shape": (224, 224)}, ["resnet50.input_shape", "(224, 224)", "(height, width, channels)"]),
    ({"drop_path": 1.0}, ["resnet50.block.drop_path", "1.0", "less than 1"]),
    ({"drop_path": -0.1}, ["resnet50.block.drop_path", "-0.1", "at least 0"]),
    ({"dropout": 1.0}, ["resnet50.head.dropout", "1.0", "less than 1"]),
    ({"norm": "layer"}, ["resnet50.norm", "'layer'", "batch, group, none"]),
    ({"norm": {"epsilon": "1e-5"}}, ["resnet50.norm.epsilon", "'1e-5'", "write 1.0e-5"]),
    ({"stem": "cifr"}, ["resnet50.stem", "'cifr'", "did you mean 'cifar'?"]),
    ({"stem": {"depth": 3, "width": 1}}, ["resnet50.stem.width", "got 1", "at least 2"]),
    ({"output_stride": 12}, ["resnet50.output_stride", "12", "4, 8, 16, 32"]),
    ({"block": {"body": [{"kernel": 2}]}}, ["resnet50.block.body.0.kernel", "got 2", "odd"]),
    ({"block": {"body": [{"kernel": 3, "groups": 5}], "stride_at": 1}}, ["block.body.0.groups", "got 5", "divisors"]),
    ({"block": {"stride_at": 4}}, ["resnet50.block.stride_at", "got 4", "1 to 3"]),
    ({"block": {"shortcut": "none"}}, ["resnet50.block.start", "identity", ".plain()"]),
    ({"shortcut": "none", "drop_path": 0.1}, ["resnet50.block.drop_path", "0.1", "0.0 in a plain net"]),
    ({"drop_path": 0.1, "shortcut": "none"}, ["resnet50.block.drop_path", "0.1", "0.0 in a plain net"]),
    ({"shortcut": "pad", "widths": [64, 32, 64, 64]}, ["resnet50.block.shortcut", "pad", "project"]),
    ({"head": {"pooling": "none"}}, ["resnet50.head.pooling", "none", "include_top=False"]),
    ({"init": "he_normal"}, ["resnet50.init", "'he_normal'", "he, glorot, orthogonal, looks_linear"]),
]


@pytest.mark.parametrize(("changes", "texts"), BAD_CHANGES, ids=lambda value: str(value)[:40])
def test_invalid_change_is_refused(changes, texts):
    with refused(texts):
        reszoo.spec("resnet50", **changes)


BAD_DENSE = [
    ({"shortcut": "A"}, ["block.shortcut", "pad", "in a dense net"]),
    ({"stem": "cifar"}, ["kernel", "0 in every unit and the stem"]),
    ({"input_shape": (8, 8, 1)}, ["input_shape", "(features,)"]),
    ({"block": {"attention": "se"}}, ["block.attention", "se", "in a dense net"]),
]


@pytest.mark.parametrize(("changes", "texts"), BAD_DENSE, ids=lambda value: str(value)[:40])
def test_invalid_change_of_a_dense_network_is_refused(changes, texts):
    with refused(texts):
        reszoo.spec("residual_mlp18", **changes)


BAD_YAML = [
    ("a: {base: resnet50, block: {shortcut: non}}", ["nets.yaml: a.block.shortcut", "'non'", "did you mean 'none'?"]),
    ("a: {base: resnet50, norm: {epsilon: 1e-5}}", ["nets.yaml: a.norm.epsilon", "write 1.0e-5"]),
    ("a: {base: resnet50, colour: red}", ["nets.yaml: a", "'colour'"]),
    ("a: {base: resnet51}", ["'resnet51'", "did you mean 'resnet50'"]),
    ("a: {base: b}\nb: {base: a}", ["a.base", "a -> b -> a"]),
    ("a: {base: a}", ["unknown model", "'a'"]),
    ("a: {input_shape: [4]}", ["nets.yaml: a", "got nothing"]),
    ("a: {base: resnet50}\na: {base: resnet34}", ["nets.yaml", "duplicate key", "'a'"]),
    ("a: [1, 2]", ["nets.yaml: a", "[1, 2]"]),
    ("- a", ["nets.yaml", "list", "a mapping of names"]),
    ("a: {base: [}", ["nets.yaml", "valid YAML", "line 1"]),
    ("a: {base: resnet50, expect: {params: many}}", ["nets.yaml: a.expect.params", "'many'"]),
]


@pytest.mark.parametrize(("text", "texts"), BAD_YAML, ids=lambda value: str(value)[:40])
def test_invalid_yaml_is_refused(tmp_path, text, texts):
    file = tmp_path / "nets.yaml"
    file.write_text(text)
    with refused(texts):
        reszoo.spec(f"{file}:a")


def test_unknown_model_suggests_the_nearest_name():
    with pytest.raises(ReszooError, match=r"unknown model: got 'resnet51'.*did you mean 'resnet50'"):
        reszoo.spec("resnet51")
    with pytest.raises(ReszooError, match="No such file"):
        reszoo.spec("nowhere.yaml:resnet50")


def test_objects_that_are_no_models_are_refused():
    for call in (reszoo.spec, reszoo.cost, reszoo.create, reszoo.spec_of):
        with pytest.raises(ReszooError, match="got 3; expected"):
            call(3)


def test_cost_without_an_input_size_is_refused():
    with pytest.raises(ReszooError, match="costs are counted for one input size"):
        reszoo.cost("resnet50", input_shape=(None, None, 3))


@pytest.mark.parametrize("name", ["resnet50", "resnet1202_cifar", "tabular_resnet", "plain_mlp100"])
def test_reprs_are_short(name):
    plan = reszoo.plan(name)
    results = (zoo.entry(name), plan, plan.spec, reszoo.cost(name), plan.segments[1], plan.runs[1], plan.runs[1].piece)
    for result in results:
        assert len(repr(result)) <= 160 and "\n" not in repr(result)
    assert all(name in repr(result) for result in (zoo.entry(name), plan, plan.spec))


@pytest.mark.parametrize("name", ["resnet50", "tabular_resnet"])
def test_notebook_tables_are_well_formed(name):
    for result in (zoo.entry(name), reszoo.plan(name), reszoo.spec(name), reszoo.cost(name)):
        table = fromstring(f"<div>{result._repr_html_()}</div>")
        assert len(table.findall(".//tr")) > 3
    assert f"{reszoo.cost(name).params:,}" in reszoo.cost(name)._repr_html_()


def test_widths_within_the_stem():
    tiered = reszoo.spec("resnet50d", stem={"first_widths": [24, 32]})
    assert tiered.stem.widths == (24, 32, 64)
    assert tiered.replace(width_multiplier=0.5).stem.widths == (12, 16, 32)
    assert tiered.replace(stem="imagenet").stem.widths == (64,)
    assert tiered.replace(stem="deep").stem.widths == (32, 32, 64)
    with refused(["first_widths: got [24]", "2 widths for a stem of depth 3"]):
        reszoo.spec("resnet50d", stem={"first_widths": [24]})


def test_every_order_has_a_word():
    assert {*get_args(OrderName)} == {*ORDERS}
