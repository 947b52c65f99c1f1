"""The settings of earlier runs: which of them goes on, and what is made of them."""
import dataclasses
import os

import pytest

import main
from utils.runtime.device import MINDSPORE_VERSION
from corruptions.utils import cli
from corruptions.utils.cli import cpu_count
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, write_json
from losses.config.options import create_parser
from losses.config.resolve import load_or_resolve_config, resolve_config
from losses.config.settings import MethodConfig, RunConfig
from losses.config.table import EVALUATION_ONLY, OPTIONS
from losses.methods import METHOD_OPTIONS
from losses.training.begin import begin_or_resume
from tests.test_main import arguments
from utils.options import validate_values
from utils.records.logs import RunFolder
from utils.records.reading import is_finished, read_record
from utils.records.settings import newest_run, path_independent, read_settings, resumed_settings
from utils.runtime import distributed
from utils.runtime.compile_cache import code


def values_of(*words):
    """All options to their values, and those that the words name."""
    args, given = cli.parse(create_parser(), list(words))
    return resolve_config(args, given).to_dict(), given


def make_run(folder, age, *words):
    """The settings of a run that began so many seconds ago."""
    os.makedirs(folder)
    values, given = values_of(*words)
    write_json(os.path.join(folder, "config.json"), {**values, "given": given, "title": values["method"]})
    times = os.path.getmtime(os.path.join(folder, "config.json")) - age
    os.utime(os.path.join(folder, "config.json"), (times, times))


def test_the_newest_run_of_as_many_epochs_goes_on(tmp_path):
    for name, age, words in (("older", 30, ()), ("long", 20, ()), ("short", 10, ("--total_epoch", "8")),
                             ("other", 0, ("--lr", "0.2"))):
        make_run(tmp_path / name, age, "-d", "photos", *words)

    def find(*words):
        return os.path.basename(newest_run(str(tmp_path), *values_of("-d", "photos", *words)))
    assert find() == find("--total_epoch", "200") == "long"
    assert find("--total_epoch", "8") == find("--total_epoch", "9") == "short"  # which becomes longer
    with pytest.raises(UserError, match="no run in .* has these settings"):
        find("--total_epoch", "7")


def test_a_run_of_fewer_epochs_is_not_taken_unless_more_are_asked_for(tmp_path):
    make_run(tmp_path / "short", 0, "-d", "photos", "--total_epoch", "8")
    with pytest.raises(UserError, match="no run in .* has these settings"):
        newest_run(str(tmp_path), *values_of("-d", "photos"))


def test_any_text_is_accepted_of_an_earlier_run_where_the_option_takes_any(tmp_path):
    validate_values(OPTIONS.values(), {"desc": "list", "log_dir": ""}, "config.json")
    for option in ("dataset", "method", "model", "recipe"):
        with pytest.raises(UserError, match=f"config.json: has {option} 'list'"):
            validate_values(OPTIONS.values(), {option: "list"}, "config.json")


def test_a_run_that_was_made_longer_has_not_ended(tmp_path):
    make_run(tmp_path / "run", 0, "--total_epoch", "3")
    table = {"accuracy": [0.5] * 6, "loss": [1.5] * 6, "images": [8] * 6}
    write_json(tmp_path / "run" / "results.json", {"train_images": [4] * 6, "epochs": 3, "val": table, "test": table})
    assert is_finished(tmp_path / "run") and read_record(str(tmp_path / "run")).results["epochs"] == 3
    config = read_json(tmp_path / "run" / "config.json")
    write_json(tmp_path / "run" / "config.json", {**config, "total_epoch": 4})
    assert not is_finished(tmp_path / "run")
    with pytest.raises(UserError, match="has not ended"):
        read_record(str(tmp_path / "run"))


def logged(folder, values, device="CPU"):
    """The log of a run of these settings that is resumed."""
    with RunFolder(str(folder)) as opened:
        begin_or_resume(opened, None, RunConfig.from_dict(values), {}, device)
    return (folder / "log.txt").read_text()


@pytest.mark.parametrize("words, warns", [
    (["-m", "wideresnet10"], True),
    (["-m", "wideresnet10", "--method", "damp", "--num_sub_batches", "2", "-b", "4", "--sync_bn"], False),
    (["-m", "vit_s16"], False)])
def test_another_number_of_workers_is_said_where_it_changes_results(tmp_path, monkeypatch, words, warns):
    make_run(tmp_path / "run", 0, *words)
    values = read_json(tmp_path / "run" / "config.json")
    assert logged(tmp_path / "run", values) == ""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    log = logged(tmp_path / "run", values)
    assert log.startswith("warning: the number of workers was 1 and is 2 now") if warns else log == ""


def test_crops_of_another_number_of_workers_are_other_crops(tmp_path, monkeypatch):
    make_run(tmp_path / "run", 0, "-m", "vit_s16", "-d", "imagenet", "--train_on", "clean", "--crop", "random_resized")
    values = read_json(tmp_path / "run" / "config.json")
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert "2 now: --crop random_resized draws the crops of each one's part" in logged(tmp_path / "run", values)


def test_the_earlier_name_of_the_world_size_is_known(tmp_path):
    make_run(tmp_path / "run", 0)
    config = read_json(tmp_path / "run" / "config.json")
    config["workers"] = config.pop("world_size", 1)
    write_json(tmp_path / "run" / "config.json", config)
    settings = read_settings(str(tmp_path / "run"))
    assert settings["world_size"] == 1 and "workers" not in settings


@pytest.mark.parametrize("stored, said", [
    ({"processors": 64}, "began on CPU with 64 processors (MindSpore"), ({"mindspore": "2.6.0"}, "MindSpore 2.6.0"),
    ({"code": "0123456789"}, ", code 0123456789) and resumes on CPU"),
    ({"device": "GPU", "processors": 64}, "began on GPU (MindSpore")])
def test_a_run_that_rounds_otherwise_from_here_on_says_so(tmp_path, stored, said):
    make_run(tmp_path / "run", 0)
    path = tmp_path / "run" / "config.json"
    same = {"device": "CPU", "mindspore": MINDSPORE_VERSION, "processors": cpu_count(), "code": code()[:10]}
    write_json(path, {**read_json(path), **same})
    values = resumed_settings(str(tmp_path / "run"), {}, {"device_target": "CPU"})
    assert logged(tmp_path / "run", values) == ""
    write_json(path, {**read_json(path), **same, **stored})
    assert said in logged(tmp_path / "run", values) and "may give other numbers" in logged(tmp_path / "run", values)


def test_a_run_goes_on_on_another_device_and_says_so(tmp_path):
    make_run(tmp_path / "run", 0, "--fast_math", "--device_id", "3")
    path = tmp_path / "run" / "config.json"
    write_json(path, {**read_json(path), "device": "GPU"})
    again = resumed_settings(str(tmp_path / "run"), {}, {})
    assert (again["fast_math"], again["device_id"], again["device_target"]) == (True, None, "GPU")
    assert logged(tmp_path / "run", again, "GPU") == ""
    second = resumed_settings(str(tmp_path / "run"), {}, {"fast_math": False, "device_target": "CPU"})
    log = logged(tmp_path / "run", second)
    assert log.startswith("warning: the run began on GPU with --fast_math (MindSpore ")
    assert " resumes on CPU with " in log


def test_runs_that_round_otherwise_are_told_apart(tmp_path):
    assert path_independent({"fast_math": True, "device_id": 1}) == {"fast_math": True}
    assert path_independent({"fast_math": False}) == {}
    make_run(tmp_path / "run", 0, "-d", "photos", "--fast_math")
    with pytest.raises(UserError, match="no run in .* has these settings"):
        newest_run(str(tmp_path), *values_of("-d", "photos"))
    assert newest_run(str(tmp_path), *values_of("-d", "photos", "--fast_math")) == str(tmp_path / "run")


def test_a_folder_of_compiled_steps_that_cannot_be_made_is_said_before_a_run_begins(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        main.main(arguments(str(tmp_path / "data"), tmp_path / "logs", "--compile_cache", str(tmp_path / "file")))
    assert stop.value.code == 2 and not os.listdir(tmp_path / "logs")
    assert f"main.py: error: --compile_cache: cannot write to {tmp_path / 'file'} " in capsys.readouterr().err


def test_more_epochs_are_what_was_asked_for(tmp_path):
    make_run(tmp_path / "run", 0, *arguments("data", "logs", "--total_epoch", "3"))
    values = read_json(tmp_path / "run" / "config.json")
    assert "5 epochs in place of 3" in logged(tmp_path / "run", {**values, "total_epoch": 5})
    config = read_json(tmp_path / "run" / "config.json")
    assert config["total_epoch"] == config["given"]["total_epoch"] == 5


def test_every_option_is_a_setting_of_a_run_or_of_the_command():
    """An option without a place in the settings would have no effect, in silence."""
    settings = {field.name for field in dataclasses.fields(RunConfig)}
    of_method = {field.name for field in dataclasses.fields(MethodConfig)} | set(METHOD_OPTIONS)
    command = {"config", "variant", "jobs", "evaluate", *EVALUATION_ONLY}
    assert OPTIONS.keys() == command | of_method & OPTIONS.keys() | settings & OPTIONS.keys()
    assert not (settings & of_method) - {"method"} and of_method - {"options"} <= OPTIONS.keys()


@pytest.mark.parametrize("words", [["--accumulate", "4", "-d", "photos"], ["--resume", "run"]])
def test_a_step_of_several_graphs_is_not_stored(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    make_run("run", 0, "-d", "photos", "--accumulate", "4")
    args, given = cli.parse(create_parser(), [*words, "--compile_cache", "stored"])
    with pytest.raises(UserError, match="--compile_cache: stores one graph, and --accumulate has several"):
        load_or_resolve_config(args, given)


def test_a_resumed_run_does_not_accumulate_with_several_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run("run", 0, "-d", "photos", "--accumulate", "4")
    monkeypatch.setattr("utils.runtime.distributed.world_size", lambda: 2)
    args, given = cli.parse(create_parser(), ["--resume", "run"])
    with pytest.raises(UserError, match="--accumulate 4: works with one worker"):
        load_or_resolve_config(args, given)
