"""The command line: output and errors."""

import json
import os
import re
import subprocess
import sys

import pytest
from conftest import needs

import reszoo
from reszoo.arch import zoo
from reszoo.arch.schema import schema
from reszoo.config import configs


def run(*arguments, folder=None):
    done = subprocess.run([sys.executable, "-m", "reszoo", *arguments], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_list():
    output = run("list")
    for name in zoo.builtin().names:
        assert f"\n{name} " in output
    assert "resnet50 " not in run("list", "*_cifar")
    assert run("list", "--max-params", "3e5").startswith("2 networks")


def test_list_of_a_user_file(tmp_path):
    (tmp_path / "my_nets.yaml").write_text("wide_thing: {base: resnet50, widths: [512, 1024, 2048, 4096]}\n")
    assert "wide_thing" in run("list", "--zoo", "my_nets.yaml", folder=tmp_path)
    assert "4096" in run("info", "my_nets.yaml:wide_thing", folder=tmp_path)


def test_list_measures_networks(tmp_path):
    (tmp_path / "my_nets.yaml").write_text("tiny: {base: residual_mlp18, depths: 1, input_shape: [4], classes: 3}\n")
    (row,) = json.loads(run("list", "--zoo", "my_nets.yaml", "--bench", "--json", folder=tmp_path))
    assert row["name"] == "tiny" and row["latency_ms"] > 0
    # Training does more than inference does, with the same batch.
    assert row["images_per_second"] > row["trained_per_second"] > 0


def test_info_prints_cost_reference_and_twin():
    output, cost = run("info", "resnet50"), reszoo.cost("resnet50")
    plain = reszoo.cost(reszoo.spec("resnet50").plain())
    for words in (
        "He et al. 2015",
        f"{cost.params:,}",
        f"{cost.macs:,}",
        f"{cost.params - plain.params:,}",
        "56x56x256",
    ):
        assert words in output
    assert "12 weighted layers" in run("info", "resnet18", "--net", "depths=[1,1,1,2]", "--net", "stem=cifar")
    assert "without shortcuts" in run("info", "plain34")


@needs("jsonschema")
def test_schema_accepts_the_built_in_files_and_refuses_others():
    import jsonschema
    import yaml

    expected = schema()
    assert json.loads(run("schema")) == expected
    for file in (configs() / "models").glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(file.read_text()), expected)
    for invalid in (
        {"colour": "red"},
        {"shortcut": "non"},
        {"block": {"kernel": 3}},
        {"depths": "three"},
        {"drop_path": 1.5},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"mine": {"base": "resnet50"} | invalid}, expected)


@pytest.mark.slow
def test_quickstart_shows_degradation_of_the_plain_networks_only(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "reszoo", "quickstart", "--depths", "20", "38", "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    output = done.stdout
    # As in a log: few lines, no escape codes, nothing of TensorFlow's.
    assert done.returncode == 0 and len(output.splitlines()) < 100 and not {"\x1b", "\b", "\r"} & {*output}
    assert not re.search(r"oneDNN|cuda|absl|[IWE]\d{4} ", done.stderr), done.stderr
    numbers = json.loads((tmp_path / "out" / "results.json").read_text())
    results = {item["name"]: item for item in numbers["depth"]}
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
    assert results["plain38"]["losses"][-1] > results["plain20"]["losses"][-1] + 0.3
    assert results["resnet38"]["losses"][-1] < 0.2
    assert results["plain38"]["params"] == results["resnet38"]["params"]
    for item in results.values():
        assert f"{item['train_accuracy']:.1%}" in output and f"{item['batch_accuracy']:.1%}" in output
