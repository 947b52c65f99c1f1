"""Option files: `main.py --config FILE`."""
import json

import pytest

from corruptions.utils.cli import MultipleValues
from corruptions.utils.errors import UserError
from losses.config.options import parse_command_line, read_option_file
from losses.config.resolve import resolve
from losses.evaluation.commands import check_evaluation
from main import main
from utils.records.settings import read_settings

WORDS = ["-d", "photos", "--lr", "0.05", "--method", "sam", "sharpdro", "--seed", "0", "1", "--no-nesterov",
         "--keep_epochs", "0", "3", "--save_last", "--variant", "a: --rho 0.1", "--variant", "b: --rho 0.2"]
OPTIONS = {"dataset": "photos", "lr": 0.05, "method": ["sam", "sharpdro"], "seed": [0, 1], "nesterov": False,
           "keep_epochs": [0, 3], "save_last": True, "save_best": False, "split": None,
           "variant": ["a: --rho 0.1", "b: --rho 0.2"]}
YAML = """
dataset: photos          # a comment
lr: 5e-2
method: [sam, sharpdro]
seed: [0, 1]
nesterov: false
keep_epochs: [0, 3]
save_last: true
variant:
  - "a: --rho 0.1"
  - "b: --rho 0.2"
"""


def parsed(*words):
    args, given = parse_command_line(list(words))
    return vars(args), given


@pytest.mark.parametrize("name, content", [("o.json", json.dumps(OPTIONS)), ("o.yaml", YAML), ("o.YML", YAML)])
def test_a_file_is_the_command_line_that_it_stands_for(name, content, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    assert parsed("--config", str(path)) == parsed(*WORDS)
    assert parsed(f"--config={path}") == parsed(*WORDS)
    assert isinstance(parsed("--config", str(path))[1]["seed"], MultipleValues)


def test_folders_of_a_file_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "o.yaml").write_text("log_dir: ~/logs\ndata_dir: ~/data\ndesc: ~x")
    args, _ = parsed("--config", str(tmp_path / "o.yaml"))
    assert (args["log_dir"], args["data_dir"], args["desc"]) == (f"{tmp_path}/logs", f"{tmp_path}/data", "~x")


@pytest.mark.parametrize("name, content, problem", [
    ("o.yaml", "lr: 0.1\nlr: 0.2", "cannot be read: it has lr twice"),
    ("o.json", '{"lr": 0.1, "lr": 0.2}', "cannot be read: it has lr twice"),
    ("o.yaml", "config: other.yaml", "names another file with config; write its options here")])
def test_a_file_that_says_two_things_is_an_error(name, content, problem, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=problem):
        parsed("--config", str(tmp_path / name))


def test_the_command_line_goes_before_the_file(tmp_path):
    (tmp_path / "o.json").write_text(json.dumps({"lr": 0.05, "seed": [0, 1], "nesterov": False}))
    args, given = parsed("--lr", "0.2", "--config", str(tmp_path / "o.json"), "--seed", "7", "--nesterov")
    assert (args["lr"], args["seed"], args["nesterov"]) == (0.2, 7, True)
    assert given == {"lr": 0.2, "seed": 7, "nesterov": True}


def test_the_settings_of_a_run_stand_for_what_it_was_asked_for(tmp_path):
    given = {"dataset": "photos", "method": "damp", "rho": None, "resume": "elsewhere", "keep_epochs": [1]}
    (tmp_path / "config.json").write_text(json.dumps({"dataset": "photos", "lr": 0.1, "title": "damp", "given": given}))
    args, named = parsed("--config", str(tmp_path / "config.json"))
    assert named == {"dataset": "photos", "method": "damp", "keep_epochs": [1]}
    assert args["lr"] is None and args["resume"] is None


@pytest.mark.parametrize("name, content, message", [
    ("o.json", '{"batchsize": 4}', "unknown option batchsize; did you mean batch_size?"),
    ("o.json", '{"qqq": 4}', "unknown option qqq; main.py --help-all lists the options"),
    ("o.json", '{"lr": [0.1, {}]}', "lr has [0.1, {}]; give it as on the command line"),
    ("o.json", '{"lr": true}', "lr has True; give it as on the command line"),
    ("o.json", '{"save_last": "yes"}', "save_last has 'yes'; give true or false"),
    ("o.json", '{"num_severity": [3, 4]}', "num_severity takes one value, not 2"),
    ("o.json", '{"seed": [0, "--jobs=2"]}', "seed has [0, '--jobs=2']; no value begins with a dash"),
    ("o.json", '{"desc": "\\u0000"}', "desc has '\\x00', with a zero byte"),
    ("o.json", '{"lr": ', "cannot be read: Expecting value"),
    ("o.yaml", "lr: [", "cannot be read: while parsing"),
    ("o.json", "[1, 2]", "holds no options"),
    ("o.yaml", "", "holds no options"),
    ("o.txt", "lr: 1", "is not a .json, .yaml or .yml file"),
    ("none.json", None, "no such file")])
def test_bad_files_are_one_line(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as stop:
        main(["--config", str(path)])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and line.startswith(f"main.py: error: --config {path}: {message}")


@pytest.mark.parametrize("options, message", [
    ({"lr": -1}, "argument --lr: '-1' is not a finite number above 0, of float32"),
    ({"method": "sammy"}, "argument --method: invalid choice: 'sammy'"),
    ({"dataset": ""}, "argument -d/--dataset: '' is empty; give a value")])
def test_a_value_that_an_option_does_not_take_is_an_error_that_names_the_file(options, message, tmp_path, capsys):
    path = tmp_path / "o.json"
    path.write_text(json.dumps(options))
    with pytest.raises(SystemExit) as stop:
        main(["--config", str(path)])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and line.startswith(f"main.py: --config {path}: error: {message}")


def test_two_files_are_an_error(tmp_path):
    with pytest.raises(UserError, match="one file sets options"):
        parsed("--config", "a.json", "--config", "b.json")


def test_a_deeply_nested_file_is_an_error_and_no_crash(tmp_path):
    (tmp_path / "o.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="cannot be read"):
        read_option_file(str(tmp_path / "o.json"))


def test_the_command_line_takes_back_what_the_file_switches_on(tmp_path):
    (tmp_path / "o.json").write_text(json.dumps({"save_last": True, "tensorboard": True, "variant": ["a: --rho 1"]}))
    args, given = parsed("--config", str(tmp_path / "o.json"), "--no-save_last", "--variant", "b: --rho 2")
    assert given == {"tensorboard": True, "variant": ["b: --rho 2"]} and args["save_last"] is False


@pytest.mark.parametrize("words", [["--conf", "o.json"], ["--confi=o.json"]])
def test_an_abbreviation_is_not_passed_over(words):
    with pytest.raises(UserError, match="--config: write the name of this option in full"):
        parsed(*words)


def test_a_run_with_defaults_alone_has_a_file_of_no_options(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"given": {}, "lr": 0.1}))
    assert parsed("--config", str(tmp_path / "config.json")) == parsed()


def test_an_evaluation_takes_of_a_run_what_an_evaluation_reads(tmp_path):
    given = {"dataset": "photos", "num_per_class": 16, "method": "sam", "eval_batch_size": 50}
    (tmp_path / "config.json").write_text(json.dumps({"given": given}))
    _, named = parsed("--config", str(tmp_path / "config.json"), "--evaluate", "RUN")
    assert named == {"dataset": "photos", "eval_batch_size": 50, "evaluate": "RUN"}


@pytest.mark.parametrize("words, taken", [
    ([], ("corruption", "data_dir")), (["--predict", "PHOTOS"], ()), (["--test_images", "PHOTOS"], ()),
    (["--fgsm", "0.1"], ("data_dir",))])
def test_an_evaluation_takes_of_a_run_what_this_evaluation_reads(words, taken, tmp_path):
    options = {"corruption": "fog", "data_dir": str(tmp_path), "lr": 0.1}
    (tmp_path / "config.json").write_text(json.dumps({"given": options}))
    _, named = parsed("--config", str(tmp_path / "config.json"), "--evaluate", "RUN", *words)
    assert {option for option in named if option in options} == set(taken)
    check_evaluation(named)


def test_a_line_end_in_the_name_of_a_file_is_escaped(tmp_path, capsys):
    path = tmp_path / "n\nl.json"
    path.write_text('{"lr": -1}')
    with pytest.raises(SystemExit):
        main(["--config", str(path)])
    [line] = capsys.readouterr().err.splitlines()
    assert "n\\nl.json: error: argument --lr" in line


def test_a_warning_comes_once(tmp_path, capsys):
    (tmp_path / "o.json").write_text('{"num_workers": 100000}')
    parsed("--config", str(tmp_path / "o.json"))
    assert capsys.readouterr().err.count("warning") == 1


def test_earlier_names_of_options_are_understood(tmp_path):
    words = ["--sampler", "permutation", "--weight_decay_on", "kernels", "--keep_last", "3", "--checkpoint_every", "7",
             "--group_update_every", "5", "--val_fraction", "0.2", "--corrupted_from", "memory", "--crop", "zero_pad"]
    earlier = ["--draw", "permutation", "--decay", "kernels", "--keep", "3", "--save_every_steps", "7",
               "--group_every", "5", "--val_share", "0.2", "--corrupted", "memory", "--crop", "zeros"]
    assert parsed(*earlier) == parsed(*words)
    names = {word.removeprefix("--"): value for word, value in zip(earlier[::2], earlier[1::2], strict=True)}
    (tmp_path / "o.json").write_text(json.dumps(names))
    assert parsed("--config", str(tmp_path / "o.json")) == parsed(*words)
    run = {"dataset": "photos", "model": "wideresnet10", "method": "damp"}
    (tmp_path / "config.json").write_text(json.dumps({**names, **run, "given": names}))
    settings = read_settings(str(tmp_path))
    given = settings.pop("given")
    assert {option: settings.pop(option) for option in run} == run
    assert settings == given == {word.removeprefix("--"): value for word, value in zip(words[::2], words[1::2],
                                                                                       strict=True)}
    assert resolve("damp", draw="replacement") == resolve("damp", sampler="replacement")
    assert resolve("erm", crop="mirror") == resolve("erm", crop="reflect_pad")
    (tmp_path / "run.json").write_text(json.dumps({"given": {"corrupted": "memory"}}))
    assert parsed("--evaluate", "RUN", "--config", str(tmp_path / "run.json"))[1]["corrupted_from"] == "memory"
    (tmp_path / "two.json").write_text(json.dumps({"keep": 3, "keep_last": 5}))
    with pytest.raises(UserError, match="has keep_last twice, the second time as keep_last"):
        parsed("--config", str(tmp_path / "two.json"))
    grid = parsed("--crop", "mirror", "none", "resized")
    assert grid == parsed("--crop", "reflect_pad", "none", "random_resized")
