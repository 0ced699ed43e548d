"""Search spaces: plain data, whose costs are computed without Keras and agree with the plan."""

import itertools
import math

import pytest
from conftest import python, refused

import reszoo
from reszoo.arch.cost import cost
from reszoo.arch.plan import plan
from reszoo.tuning.candidates import KINDS

SPACES = reszoo.list_spaces()


def draws(space, count, seed=0):
    return list(itertools.islice(space.sample(seed=seed), count))


@pytest.mark.parametrize("name", SPACES)
def test_cost_of_a_point_equals_cost_of_its_network(name):
    """The cached cost ignores only fields that do not change it."""
    space = reszoo.space(name)
    points = [point for point in draws(space, 300) if space.spec(point)]
    assert points and space.ref
    for point in points[:60]:
        spec = space.spec(point)
        assert space.cost(point) == cost(plan(spec))
        assert type(spec).model_validate(spec.model_dump()) == spec
        recipe = "tabular" if spec.dense else "fast"
        assert space.candidate(point, recipe).spec == spec


@pytest.mark.parametrize(
    "changes",
    [
        {"head": {"classes": None, "pooling": "none"}, "shortcut": "none"},
        {"input_shape": (33, 31, 3), "block": {"start": "scaled"}, "norm": "none", "stem": {"depth": 3}},
        {"block": {"order": "pre", "attention": "se"}, "output_stride": 2, "shortcut": "pool_project"},
    ],
    ids=["no head", "scaled", "pre"],
)
def test_cost_of_any_depths_and_widths(changes):
    """All further blocks of a stage cost the same; invalid combinations have no cost."""
    size = {"depths": (1, 2, 5), "widths": (1, 8, 12, 64)}
    space = reszoo.Space(name="any", network="resnet20_cifar", size=size, changes=changes)
    pairs = [(space.cost(point), space.spec(point)) for point in draws(space, 60)]
    assert any(spec for _, spec in pairs)
    for total, spec in pairs:
        assert total == (cost(plan(spec)) if spec else None)


@pytest.mark.parametrize("name", SPACES)
def test_points_are_within_ranges_and_reproducible(name):
    space = reszoo.space(name)
    first, again, other = draws(space, 50), draws(space, 50), draws(space, 50, seed=1)
    assert first == again != other
    for point in first:
        for axis, answer in point.items():
            dimension = space.axes[axis]
            if dimension.answers is None:
                assert dimension.low <= answer <= dimension.high
            else:
                assert answer in dimension.answers
            assert all(point[parent] in answers for parent, answers in dimension.when.items())


def test_count_and_points_agree():
    assert reszoo.space("digits_small").count() is None, "a learning rate has infinitely many values"
    with refused(["learning_rate.peak", "infinitely many"]):
        reszoo.space("digits_small").points()
    small = reszoo.Space(
        name="small",
        network="resnet20_cifar",
        size={"depths": (1, 2), "width": (0.5, 1.0)},
        net={
            "shortcut": ("pad", "none"),
            "drop_path": {"low": 0.0, "high": 0.2, "step": 0.1, "when": {"shortcut": ("pad",)}},
        },
    )
    points = list(small.points())
    assert small.count() == len(points) == 2**3 * 2 * (3 + 1)
    assert len({tuple(point.items()) for point in points}) == len(points)
    assert {small.spec(point).block.shortcut for point in points} == {"pad", "none"}
    keys = {small.candidate(point).key for point in points}
    assert len(keys) == len(points), "every point of this space is a different network"


def test_equal_networks_have_equal_keys():
    space = reszoo.space("digits_small")
    point = draws(space, 1)[0]
    renamed = space.fitted(name="another")
    assert renamed.candidate(point).key == space.candidate(point).key
    assert space.candidate(point, "fast_symbols").key != space.candidate(point, "fast").key
    assert space.candidate({**point, "width": 1.0}).key != space.candidate({**point, "width": 0.5}).key


SIZES = [
    ("compound", "resnet20_cifar", {"depth": 2.0, "width": 0.5}, ((6, 6, 6), (8, 16, 32))),
    ("compound", "resnet20_cifar", {"phi": 2, "depth_growth": 1.2, "width_growth": 1.1}, ((4, 4, 4), (19, 39, 77))),
    # Radosavovic et al. 2020, Table 6 (RegNetX-400MF): d 22, w0 24, wa 24.48, wm 2.54.
    ("regnet", "resnet18", {"depth": 22, "w0": 24, "wa": 24.48, "wm": 2.54}, ((1, 2, 7, 12), (24, 64, 152, 392))),
    ("regnet", "resnet20_cifar", {"depth": 22, "w0": 24, "wa": 24.48, "wm": 2.54}, None),
    ("regnet", "resnet18", {"depth": 22, "w0": 24, "wa": 24.48, "wm": 1.0}, None),
    ("regnet", "resnet18", {"depth": 22, "w0": 24, "wa": 0, "wm": 2.54}, None),
    ("stages", "resnet20_cifar", {"stage1.depth": 1, "stage3.width": 99}, ((1, 3, 3), (16, 32, 99))),
    ("tabular", "tabular_resnet", {"depth": 3, "width": 100}, ((3,), (100,))),
]


@pytest.mark.parametrize(("kind", "network", "values", "expected"), SIZES, ids=str)
def test_sizes(kind, network, values, expected):
    size = KINDS[kind].size(reszoo.spec(network), values)
    assert (size and size[:2]) == expected


def test_twins_differ_only_in_the_shortcut():
    space = reszoo.space("digits_small")
    point = {**draws(space, 1)[0], "shortcut": "pad"}
    residual, plain = space.spec(point), space.spec({**point, "shortcut": "none"})
    assert plain == residual.replace(shortcut="none")
    assert space.cost(point).params == space.cost({**point, "shortcut": "none"}).params


WRONG = [
    ({"network": "resnet20_cifr"}, ["did you mean 'resnet20_cifar'"]),
    ({"kind": "stagse"}, ["kind", "did you mean 'stages'"]),
    ({"size": {"dept": [1]}}, ["size", "did you mean 'depth'"]),
    ({"size": {"depth": {"low": 3, "high": 1}}}, ["size.depth", "high", "more than low"]),
    ({"size": {"depth": {"low": 3}}}, ["high", "nothing"]),
    ({"size": {"depth": {"low": 0, "high": 1, "scale": "log"}}}, ["scale", "linear"]),
    ({"size": {"depth": [1, 1]}}, ["values", "different"]),
    ({"size": {"depth": [1, 2.5]}}, ["values", "one type"]),
    ({"kind": "regnet"}, ["size", "depths", "expected depth, multiple, ratio, w0"]),
    ({"net": {"drop_path": {"values": [0.1], "when": {"shortcu": ["pad"]}}}}, ["did you mean 'shortcut'"]),
    ({"net": {"drop_path": {"values": [0.1], "when": {"shortcut": ["pda"]}}}}, ["did you mean 'pad'"]),
    ({"start": {"weight": ["imagenet"]}}, ["start", "did you mean 'weights'"]),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=str)
def test_invalid_space_names_the_field(changes, words):
    with refused(words):
        space = reszoo.space("digits_small", **changes)
        space.spec(draws(space, 1)[0])


def test_unknown_space_and_space_from_a_file(tmp_path):
    with refused(["unknown space", "did you mean 'digits_small'"]):
        reszoo.space("digits_smal")
    (tmp_path / "mine.yaml").write_text("mine: {base: digits_small, size: {width: [2.0]}}")
    mine = reszoo.space(f"{tmp_path / 'mine.yaml'}:mine")
    assert {space_point["width"] for space_point in draws(mine, 9)} == {2.0}
    assert mine.spec(draws(mine, 1)[0]).stages[-1].width == 128


def test_spaces_do_not_import_keras():
    code = """
import sys, reszoo, itertools
space = reszoo.space("stages_cifar")
print(sum(space.cost(point).params > 0 for point in itertools.islice(space.sample(seed=0), 100) if space.spec(point)))
print([m for m in ("keras", "tensorflow", "numpy", "optuna") if m in sys.modules])
"""
    assert python(code).split("\n")[1] == "[]"


def test_log_ranges_are_uniform_in_the_logarithm():
    axis = reszoo.space("digits_small").axes["learning_rate.peak"]
    rates = [point["learning_rate.peak"] for point in draws(reszoo.space("digits_small"), 2000)]
    middle = math.sqrt(axis.low * axis.high)
    assert sum(rate < middle for rate in rates) / 2000 == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", SPACES)
def test_widths_are_multiples_of_the_grain(name):
    space = reszoo.space(name)
    grain = 4 if name == "digits_small" else 8
    specs = [spec for point in draws(space, 200) if (spec := space.spec(point))]
    widths = {width for spec in specs for width in (spec.stem.width, *(stage.width for stage in spec.stages))}
    assert min(widths) >= grain and not [width for width in widths if width % grain]


GRAINS = [
    ({"size": {"width": {"low": 0.1, "high": 2.0}}}, 8),
    ({"size": {"width": (0.3, 0.5)}}, 8),
    ({"size": {"width": (0.25, 0.5)}}, 4),
    ({"size": {"width": 0.25}}, 4),
    ({"size": {"widths": (2, 6)}}, 2),
    ({"size": {"widths": {"low": 1, "high": 99}}}, 8),
    ({"size": {"widths": {"low": 1, "high": 99}}, "grain": 16}, 16),
    ({"kind": "compound", "size": {"phi": {"low": -9.0, "high": 3.0}}}, 8),
    ({"kind": "compound", "size": {"phi": {"low": -9.0, "high": 3.0}}, "grain": 2}, 2),
    ({"kind": "regnet", "size": {"depth": 9, "w0": {"low": 4, "high": 40}, "wa": 24.5, "wm": 2.5}}, 8),
    ({"kind": "regnet", "size": {"depth": 9, "w0": {"low": 4, "high": 40}, "wa": 24.5, "wm": 2.5, "multiple": 4}}, 4),
    ({"network": "tabular_resnet", "kind": "tabular", "size": {"depth": 2, "width": {"low": 3, "high": 99}}}, 8),
    # Depth alone: the widths are those of the network, whatever they are.
    ({"size": {"depth": (1, 2)}, "changes": {"widths": [3, 5, 7], "stem": {"width": 3}}}, 1),
]


@pytest.mark.parametrize(("fields", "grain"), GRAINS, ids=str)
def test_grain_of_a_space(fields, grain):
    space = reszoo.Space(**{"name": "any", "network": "resnet20_cifar", **fields})
    specs = [spec for point in draws(space, 200) if (spec := space.spec(point))]
    widths = {width for spec in specs for width in (spec.stem.width, *(stage.width for stage in spec.stages))}
    assert min(widths) >= grain and math.gcd(*widths) % grain == 0
    assert all(space.cost(point) == cost(plan(space.spec(point))) for point in draws(space, 20) if space.spec(point))


def test_draws_that_round_to_the_same_network_are_one():
    space = reszoo.Space(name="any", network="resnet20_cifar", kind="compound", size={"width": (0.51, 0.52, 0.9)})
    keys = [space.candidate(point).key for point in space.points()]
    assert keys[0] == keys[1] != keys[2]
    assert space.spec({"width": 0.51}) == space.spec({"width": 0.52})


def test_invalid_grain_is_refused():
    with refused(["grain", "got 0"]):
        reszoo.space("digits_small", grain=0)
