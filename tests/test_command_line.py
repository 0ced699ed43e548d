"""How the command line reads and answers: options, mistakes, JSON, completion, quiet imports. Without TensorFlow."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import reszoo
from reszoo.cli import PANELS, command_line, names
from reszoo.cli.mistakes import in_option_form
from reszoo.cli.quiet import NOISE
from reszoo.errors import ReszooError

ROOT = Path(__file__).parents[1]
BACKENDS = ("keras", "tensorflow", "torch", "jax")


@pytest.fixture(scope="module")
def without_backends(tmp_path_factory):
    """An environment in which the import of a backend ends the process with a word."""
    folder = tmp_path_factory.mktemp("none")
    for name in BACKENDS:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"}


def call(*arguments, env=None, folder=None):
    command = [sys.executable, "-m", "reszoo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, encoding="utf-8")


def leaves(group=None, name="reszoo"):
    group = group or command_line()
    for key, command in group.commands.items():
        yield f"{name} {key}", command
        if hasattr(command, "commands"):
            yield from leaves(command, f"{name} {key}")


COMMANDS = dict(leaves())


def options(command):
    return {name: param for param in command.params for name in (*param.opts, *param.secondary_opts)}


# What the options are.


def test_every_command_has_a_heading_and_the_first_ones_come_first():
    top = [name.split()[1] for name in COMMANDS if name.count(" ") == 1]
    assert top == [name for panel in PANELS.values() for name in panel]
    assert top[:4] == ["quickstart", "list", "info", "data"]


LETTERS = {"-m": "--model", "-d": "--data", "-o": "--output", "-r": "--recipe", "-w": "--weights", "-e": "--epochs"}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_has_one_meaning_and_one_letter(name):
    known = options(COMMANDS[name])
    for letter, option in LETTERS.items():
        assert letter not in known or option in known[letter].opts
        # `reszoo list` has flags of these names, what to list; diagnose asks how the network was trained.
        if option in known and name not in ("reszoo list", "reszoo diagnose"):
            assert letter in known[option].opts, f"{name} {option}"
    assert "--set" not in known or "recipe" in known["--set"].help
    assert "--net" not in known or "network" in known["--net"].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_and_sends_nobody_to_python(name):
    for param in COMMANDS[name].params:
        if param.name not in ("help", "install_completion", "show_completion"):
            assert param.help and "reszoo." not in param.help and param.help[0] not in "ATW", param.name


def test_flags_have_no_value_and_every_help_has_two_names():
    group = command_line()
    with typer.Context(group, **group.context_settings) as context:
        for name, command in [("reszoo", group), *leaves(group)]:
            inner = context if name == "reszoo" else typer.Context(command, parent=context)
            known = {opt: param for param in command.get_params(inner) for opt in param.opts}
            assert {"-h", "--help"} <= {*known}, name
            assert all(param.metavar == "" for param in known.values() if getattr(param, "is_flag", False)), name


PRINTING = ("list", "info", "data", "train", "lr", "evaluate", "predict", "convert", "deploy", "bench", "search")


@pytest.mark.parametrize("name", [*PRINTING, "diagnose", "compare", "evidence", "quickstart"])
def test_every_command_that_prints_a_result_has_json(name):
    assert "--json" in options(COMMANDS[f"reszoo {name}"])


def test_version_and_help():
    for option in ("--version", "-V"):
        done = call(option)
        assert (done.stdout, done.returncode) == (f"reszoo {reszoo.__version__}\n", 0)
    for arguments in (["-h"], ["train", "-h"], ["search", "report", "-h"]):
        done = call(*arguments)
        assert done.returncode == 0 and "--help" in done.stdout and "<bool>" not in done.stdout
    done = call()
    assert "quickstart" in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_the_page_of_the_command_line_has_the_letters():
    page = (ROOT / "docs" / "pages" / "reference" / "command_line.md").read_text(encoding="utf-8")
    for letter, option in LETTERS.items():
        assert f"| `{letter}`, `{option}` |" in page
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'docs')!r}); import tables; print(tables.commands())"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")] == [*COMMANDS]


# Listings and JSON.

LISTINGS = {
    (): ("resnet50", "params"),
    ("--weights", "resnet50*"): ("resnet50.tv2_in1k", "top1"),
    ("--pretrained",): ("resnet50.tv2_in1k", "license"),
    ("--recipes",): ("fast", "epochs"),
    ("--spaces",): ("digits_small", "network"),
    ("--data",): ("digits", "source"),
}


@pytest.mark.parametrize("arguments", LISTINGS, ids=" ".join)
def test_what_has_a_name_is_listed(arguments, without_backends):
    name, field = LISTINGS[arguments]
    done = call("list", *arguments, env=without_backends)
    assert done.returncode == 0 and re.search(rf"^{re.escape(name)} ", done.stdout, re.M), done.stderr
    done = call("list", *arguments, "--json", env=without_backends)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert field in rows[name] and done.stderr == ""


def test_json_of_a_network_of_data_and_of_a_checkpoint(without_backends):
    network = json.loads(call("info", "resnet50", "--json", "--net", "stem=cifar", env=without_backends).stdout)
    assert network["total"]["params"] == reszoo.cost("resnet50", stem="cifar").params
    assert network["plain_twin"]["params"] < network["total"]["params"] and "stage4" in network["parts"]
    audit = json.loads(call("data", "digits", "--json", env=without_backends).stdout)
    assert audit["examples"]["train"] == 1295 and audit["duplicates"]["within"] == 0
    record = json.loads(call("info", "resnet50.tv2_in1k", "--json", env=without_backends).stdout)
    assert record["accuracy"][0]["top1"] == 80.858


def test_a_pipe_gets_whole_lines_and_whole_names(without_backends):
    done = call("list", "--recipes", env={**without_backends, "COLUMNS": ""})
    assert "…" not in done.stdout and len(done.stdout.splitlines()) == len(reszoo.list_recipes()) + 2
    title = call("list", "--weights", "resnet18*", env={**without_backends, "COLUMNS": "60"}).stdout.splitlines()[0]
    assert title.endswith("published weights")


def test_names_are_completed():
    assert names.networks("resnet5") == [name for name in reszoo.list_models() if name.startswith("resnet5")]
    assert names.recipes("fa") == [name for name in reszoo.list_recipes() if name.startswith("fa")]
    assert names.spaces("dig") == ["digits_small"] and names.data_sets("cifar1") == ["cifar10", "cifar100"]
    assert "resnet50.tv2_in1k" in names.networks_and_weights("resnet50.")
    asked = {"_RESZOO_COMPLETE": "complete_bash", "COMP_WORDS": "reszoo train --recipe strikes", "COMP_CWORD": "3"}
    code = "import sys; sys.argv = ['reszoo']; from reszoo.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.stdout.split() == ["strikes_back_a1", "strikes_back_a2", "strikes_back_a3"]


# Mistakes: one line, exit code 2, before a backend is imported.

TRAIN = ("train", "-m", "resnet20_cifar", "-d", "digits", "-o", "run")
MISTAKES = [
    (("evaluate", "none.keras", "-d", "digits"), ["none.keras", "no such file"]),
    (("evaluate", "broken.keras", "-d", "digits"), ["broken.keras", "damaged"]),
    (("evaluate", "resnet51.tv2_in1k", "-d", "digits"), ["did you mean 'resnet50.tv2_in1k'"]),
    (("predict", "none.keras", "broken.keras"), ["none.keras", "no such file"]),
    (("predict", "none.keras", "none.jpg"), ["none.jpg", "no such file"]),
    (("predict", "none.keras", "none.jpg", "--json", "-o", "-"), ["--json with --output -"]),
    (("diagnose", "none.keras", "-d", "digits"), ["none.keras", "no such file"]),
    (("diagnose", "broken.keras", "-d", "digits"), ["broken.keras", "damaged"]),
    (("deploy", "none.keras", "--to", "saved_model"), ["none.keras", "no such file"]),
    (("deploy", "resnet51", "--to", "saved_model"), ["resnet51", "did you mean"]),
    (("bench", "resnet51"), ["resnet51", "did you mean"]),
    (("bench", "resnet18", "--formats", "predikt"), ["predikt", "did you mean 'predict'"]),
    (("compare", "plain20_cifar", "-d", "digits"), ["plain20_cifar", "a residual network"]),
    (("compare", "resnet20_cifar", "-d", "none.npz"), ["none.npz", "no such file"]),
    (
        ("compare", "resnet20_cifar", "-d", "digits", "--set", "batch=3"),
        ["no option --set", "--net changes the network"],
    ),
    (("compare", "resnet20_cifar", "-d", "digits", "--shallow", "9,9,9"), ["fewer than 9 blocks"]),
    (("compare", "resnet20_cifar", "-d", "digits", "--rates", "0.1,-1"), ["rates"]),
    (("compare", "resnet20_cifar", "-d", "digits", "-o", "broken.keras"), ["a file", "broken.keras", "a folder"]),
    (("evidence", "--claim", "gradient flo"), ["did you mean 'gradient flow'"]),
    (("evidence", "--depths", "11"), ["depths", "even"]),
    (("convert", "none.pth", "a.keras"), ["none.pth", "no such file"]),
    (("convert", "none.pth", "a.onnx"), ["format '.onnx'", "reszoo deploy"]),
    ((*TRAIN, "--epochs", "0"), ["train --epochs", "got 0", "at least 1"]),
    ((*TRAIN, "--epochs=x"), ["train --epochs", "got x", "integer"]),
    ((*TRAIN, "-r", "fasst"), ["fasst", "did you mean 'fast'"]),
    ((*TRAIN, "--set", "batch"), ["--set", "field=value", "optimizer.momentum"]),
    ((*TRAIN, "--net", "depths=[1"), ["--net", "a value in YAML"]),
    ((*TRAIN, "--set", "ema=0.9", "--set", "ema.x=1"), ["--set", "ema"]),
    ((*TRAIN, "--weights", "none.keras"), ["none.keras", "no such file"]),
    ((*TRAIN, "--modle", "resnet18"), ["no option --modle", "did you mean '--model'"]),
    ((*TRAIN, "--batch", "20"), ["no option --batch", "did you mean '--set batch=...'"]),
    ((*TRAIN, "--lr", "0.1"), ["no option --lr", "did you mean '--set learning_rate.peak=...'"]),
    ((*TRAIN, "--widths", "8"), ["no option --widths", "did you mean '--net widths=...'"]),
    (("train", "-m", "resnet18", "-d", "digits", "-o", "run"), ["--net stem=cifar"]),
    (("train", "-m", "resnet18", "-d", "digits", "-o", "broken.keras"), ["a file", "a folder"]),
    (("lr", "-m", "resnet51", "-d", "digits"), ["did you mean 'resnet50'"]),
    (("lr", "-m", "resnet20_cifar", "-d", "digits", "-o", "lr.txt"), ["lr.txt", ".png"]),
    (("lr", "-m", "resnet20_cifar", "-d", "digits", "-o", "broken.keras/lr.png"), ["a file", "broken.keras"]),
    (("search", "-d", "digits", "-s", "digits_smal"), ["did you mean 'digits_small'"]),
    (("search", "-d", "digits", "-s", "digits_small", "-e", "0"), ["search --epochs", "got 0"]),
    (("quickstart", "-o", "broken.keras"), ["a file", "a folder"]),
    (("list", "resnet5x"), ["resnet5x", "did you mean 'resnet50'"]),
    (("list", "--recipes", "fasst"), ["did you mean 'fast'"]),
    (("list", "--recipes", "--spaces"), ["--recipes --spaces", "one of them"]),
    (("list", "--max-params", "3"), ["no network", "max_params 3"]),
    (("info", "resnet50", "--set", "stem=cifar"), ["no option --set", "--net changes the network"]),
    (("info", "run_12:30/model.keras"), ["run_12:30/model.keras", "no such file"]),
    (("info", "resnet51"), ["did you mean 'resnet50'"]),
    (("info", "resnet50", "--net", "depths"), ["field=value"]),
    (("info", "resnet50", "--net", "stem=cifr"), ["did you mean 'cifar'"]),
    (("list", "--family", "cifra"), ["did you mean 'cifar'"]),
    (("list", "--zoo", "nowhere.yaml"), ["No such file"]),
    (("quickstart", "--depths", "20", "21"), ["6n + 2"]),
    (("info", "resnet18.imagenet"), ["did you mean 'resnet18.", "reszoo list --weights"]),
    (("info", "resnet18", "--key", "a"), ["info --key", "a checkpoint"]),
    (("info", "broken.keras", "--net", "stem=cifar"), ["info --net", "broken.keras"]),
    (("info", "none [1].yaml"), ["none [1].yaml", "No such file"]),
    (("info", ""), ["got ''"]),
    (("list", ""), ["got ''"]),
    (("list", "--json=yes"), ["reszoo list --json", "it is a flag"]),
    (("schema", "x"), ["got unexpected extra argument"]),
    (("quickstart", "--depths", "20"), ["reszoo quickstart --depths", "2 arguments"]),
    ((*TRAIN, "--devices", "al"), ["train --devices", "did you mean 'all'"]),
    ((*TRAIN, "--task", "regresion"), ["train --task", "did you mean 'regression'"]),
    (("deploy", "broken.keras", "--to", "onxx"), ["deploy --to", "did you mean 'onnx'"]),
    (("convert", "none.pth", "a.pth", "--to", "tochvision"), ["convert --to", "did you mean 'torchvision'"]),
    (("convert", "none.pth", "broken.keras/a.pth"), ["TARGET", "a file", "broken.keras"]),
    (("bench", "resnet51"), ["did you mean 'resnet50'"]),
    (("bench", "resnet18", "--batch", "8,0"), ["--batch", "at least 1"]),
    (("bench", "resnet18", "-o", "a.txt"), ["a.txt", ".json"]),
    (("data", "digits", "--page", "broken.keras"), ["--page", "a file", "a folder"]),
    (("info", "C:\\runs\\model.keras"), ["C:\\runs\\model.keras", "no such file"]),
    (("data", "no%where [x].npz"), ["no%where [x].npz", "no such file"]),
    (("trian",), ["no command 'trian'", "did you mean 'train'"]),
    (("evaluate", "none.keras"), ["evaluate", "no --data", "digits"]),
    (("evaluate",), ["no FILE"]),
]


def test_mistakes_cost_a_line_and_no_backend(tmp_path, without_backends):
    """All in one process, as starting one for each takes longer than they do."""
    (tmp_path / "broken.keras").write_text("no archive")
    code = """
import contextlib, io, json, sys
from reszoo.cli import main
for arguments in json.load(sys.stdin):
    sys.argv = ["reszoo", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except BaseException as error:
            code = getattr(error, "code", repr(error))
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
    given = json.dumps([arguments for arguments, _ in MISTAKES])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=without_backends, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wrong = []
    for (arguments, texts), line in zip(MISTAKES, done.stdout.splitlines(), strict=True):
        code, out, err = json.loads(line)
        if (code, out, err.count("\n")) != (2, "", 1) or not all(text in err for text in texts):
            wrong.append((arguments, code, out[-300:], err[-600:]))
    assert wrong == []
    assert [path.name for path in tmp_path.iterdir()] == ["broken.keras"]


CURES = [
    ("train", "use stem='cifar'", "use --net stem=cifar"),
    ("train", "head={'pooling': 'avg'}, or optimizer.clip=1", "head={'pooling': 'avg'}, or --set optimizer.clip=1"),
    ("train", "size=224 resizes them", "--size 224 resizes them"),
    ("deploy", "overwrite=True", "--overwrite"),
    ("data", "task='classification'", "--task classification"),
    ("list", "stem='cifar'", "stem='cifar'"),
    ("train", "--net stem=cifar or --set batch=8", "--net stem=cifar or --set batch=8"),
]


@pytest.mark.parametrize(("name", "hint", "form"), CURES)
def test_cures_are_named_as_options(name, hint, form):
    error = in_option_form(ReszooError("here", got="stem='cifar'", hint=hint), COMMANDS[f"reszoo {name}"])
    assert error.hint == form and error.got == "stem='cifar'"


# Interrupts.

KEPT = {
    "train": ((*TRAIN,), "finished epoch is saved in run"),
    "evidence": (("evidence",), "nothing"),
    "compare": (("compare", "resnet20_cifar", "-d", "digits"), "nothing"),
    "quickstart": (("quickstart",), "nothing"),
}


@pytest.mark.parametrize("name", KEPT)
def test_an_interrupt_says_what_is_kept(name, tmp_path):
    """Ctrl-C while a backend is imported, the first moment at which there is time for one."""
    for each in BACKENDS:
        (tmp_path / f"{each}.py").write_text("raise KeyboardInterrupt\n")
    arguments, text = KEPT[name]
    (tmp_path / "here").mkdir()
    done = call(*arguments, env={**os.environ, "PYTHONPATH": str(tmp_path)}, folder=tmp_path / "here")
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    assert "interrupted: " in done.stderr and text in done.stderr


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_an_interrupted_search_says_what_is_kept(tmp_path, name, code):
    """Ctrl-C, the end of a job's time, and a closed terminal."""
    program = f"""
import os, signal, sys
from reszoo.cli import main
from reszoo.tuning.search import Search
def search(*arguments, **keywords):
    os.kill(os.getpid(), signal.{name})
Search.search = search
signal.signal(signal.SIGINT, signal.default_int_handler)
if "{name}" == "SIGHUP":
    # The tests may run under nohup, which is respected.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.argv = ["reszoo", "search", "-d", "digits", "-s", "digits_small", "-o", "study"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == code and "saved in study; the same command resumes" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


# What TensorFlow writes at its import.

LINES = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795744657.527069   10279 port.cc:153] oneDNN custom operations are on. You may see slightly different ...
I0000 00:00:1795744657.527391   10279 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU ...
2025-01-02 03:04:05.678901: I tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow binary is optimized ...
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with ...
E0000 00:00:1795744661.880791   10279 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: ... ERROR (303)
E0000 00:00:1795744661.880791   10279 cuda_dnn.cc:8454] Unable to register cuDNN factory: Attempting to register ...
"""
REAL = """\
E0000 00:00:1795744661.880791   10279 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_OUT_OF_MEMORY
W0000 00:00:1795744661.880791   10279 gpu_device.cc:2341] Cannot dlopen some GPU libraries.
F0000 00:00:1795744661.880791   10279 port.cc:12] Check failed: the CPU has no AVX
UserWarning: something of the user's own
"""


def test_noise_is_told_from_errors():
    assert [line for line in LINES.encode().splitlines() if not NOISE.match(line)] == []
    assert [line for line in REAL.encode().splitlines() if NOISE.match(line)] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="held back in another process")
@pytest.mark.parametrize(
    ("end", "code", "all_of_it"),
    [
        ("", 0, False),
        ("raise ImportError('no such thing')", 1, True),
        ("os.abort()", -6, True),
        ("os.kill(os.getpid(), 9)", -9, True),
    ],
)
def test_the_import_is_quiet_unless_it_fails(tmp_path, end, code, all_of_it):
    """`keras.py` writes as TensorFlow does, by its file descriptor."""
    (tmp_path / "keras.py").write_text(f"import os\nos.write(2, {(LINES + REAL).encode()!r})\n{end}\n")
    program = "from reszoo.cli.quiet import quiet_imports; quiet_imports()\n"
    program += "import keras, sys; print('after', file=sys.stderr)"
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode == code
    for text, expected in ((LINES, all_of_it), (REAL, True), ("after\n", code == 0)):
        assert (text in done.stderr) == expected
    env["TF_CPP_MIN_LOG_LEVEL"] = "0"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert LINES in done.stderr and done.returncode == code


# Files.


def test_every_file_is_read_and_written_in_utf8():
    """In a C locale, too: `open`, `read_text` and `write_text` name an encoding, unless the mode is binary."""
    wrong = []
    for file in sorted((ROOT / "reszoo").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", None) or f".{getattr(node.func, 'attr', '')}"
            modes = [each.value for each in node.args if isinstance(each, ast.Constant)]
            is_text = name in (".read_text", ".write_text") or (name == "open" and not any("b" in m for m in modes[:1]))
            says = any(word.arg == "encoding" for word in node.keywords) or "utf-8" in modes
            if is_text and not says:
                wrong.append(f"{file.name}:{node.lineno}")
    assert wrong == []
