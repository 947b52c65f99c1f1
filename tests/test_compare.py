"""Comparisons: which runs they consist of, that these equal separate ones, what a restart does, the table."""
import argparse
import html
import json
import os
import pathlib
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import losses.comparison.eta
import losses.comparison.runs
import losses.evaluation.runs
import main
from corruptions import COMMON, SETS
from corruptions.evaluation.baseline import Baseline
from corruptions.evaluation.metrics import CalibrationScores
from corruptions.evaluation.record import to_dict, write_evaluation
from corruptions.utils import cli
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json, write_json
from dataset import prepare_dataset
from dataset.splits import make_split
from losses.comparison.checks import check_plan, read_plan
from losses.comparison.plan import expand_grid
from losses.comparison.runs import run_folder
from losses.config.options import create_parser, parse_variants
from losses.config.published import read_published
from losses.config.recipes import option_texts
from losses.config.resolve import resolve, resolve_config
from losses.evaluation.network import IMAGENET_C_BAR, published_errors
from losses.evaluation.runs import evaluate_each, evaluate_runs
from tests.image_trees import make_classes
from tests.processes import terminate_self
from tests.published_files import stored_fingerprints
from tests.test_cli import NO_MEMORY
from tests.test_figures import make_run
from tests.test_main import RECORDS, arguments, checkpoint_bytes, files, only_run, read_csv
from utils.figures.__main__ import main as draw
from utils.figures.severity import accuracy
from utils.figures.style import save
from utils.records.cost import duration
from utils.records.reading import PLAN_FILE, read_record
from utils.records.settings import path_independent
from utils.reports.comparison import write_comparison, write_comparison_page
from utils.reports.comparison_rows import ComparisonRow, accuracy_statistics
from utils.reports.summary import evaluation_sections, write_evaluation_table


def planned(line, *variants):
    parser = create_parser()
    return expand_grid(cli.parse(parser, line.split())[1], parse_variants(variants))


def rows(line, *variants):
    return [(item.name, {option: item.given[option] for option in item.given if option != "recipe"})
            for item in planned(line, *variants)]


def test_options_go_to_the_methods_that_read_them():
    assert rows("--method erm sam damp --rho 0.1 0.2 --sigma 0.3") == [
        ("erm", {"method": "erm"}), ("sam rho=0.1", {"method": "sam", "rho": 0.1}),
        ("sam rho=0.2", {"method": "sam", "rho": 0.2}), ("damp", {"method": "damp", "sigma": 0.3})]
    assert rows("--objective mean group_dro --perturbation none l2 --step_size 0.5 --rho 0.1 0.2")[-2:] == [
        ("sharpdro objective=group_dro perturbation=l2 rho=0.1",
         {"method": "sharpdro", "objective": "group_dro", "perturbation": "l2", "step_size": 0.5, "rho": 0.1}),
        ("sharpdro objective=group_dro perturbation=l2 rho=0.2",
         {"method": "sharpdro", "objective": "group_dro", "perturbation": "l2", "step_size": 0.5, "rho": 0.2})]
    assert rows("--method erm irm --label_smoothing 0.1") == [
        ("erm", {"method": "erm", "label_smoothing": 0.1}), ("irm", {"method": "irm"})]
    assert rows("--method erm sharpdro --distribution_agnostic") == [
        ("erm", {"method": "erm"}), ("sharpdro_agnostic", {"method": "sharpdro", "distribution_agnostic": True})]


@pytest.mark.parametrize("line, names", [
    ("--method erm --objective rex", ["rex x none"]), ("--objective rex", ["rex x l2"]),
    ("--method erm group_dro --perturbation multiplicative", ["mean x multiplicative", "group_dro x multiplicative"]),
    ("--method sharpdro sam --is_adaptive", ["sharpdro x adaptive", "mean x adaptive"]),
    ("--method rare_aug --perturbation l2 --rho 0.1 0.2", ["rare_aug mean x l2 rho=0.1", "rare_aug mean x l2 rho=0.2"]),
    ("--method erm --objective rex irm", ["erm objective=rex", "erm objective=irm"])])
def test_a_row_has_the_name_of_its_parts(line, names):
    """As a run alone has it; otherwise a table would call REx 'erm', and compare other rows with it."""
    assert [name for name, _ in rows(line)] == names
    for item in planned(line):
        parts = {option: item.given[option] for option in ("objective", "perturbation", "is_adaptive")
                 if option in item.given}
        assert item.name.partition(" rho=")[0] == resolve(item.given["method"], **parts).title or "=" in item.name


def test_options_go_to_the_optimizers_and_schedules_that_read_them():
    assert rows("--method erm --optimizer sgd adamw --momentum 0.8 --lr 0.1") == [
        ("erm optimizer=sgd", {"method": "erm", "optimizer": "sgd", "momentum": 0.8, "lr": 0.1}),
        ("erm optimizer=adamw", {"method": "erm", "optimizer": "adamw", "lr": 0.1})]
    assert rows("--schedule step cosine --warmup 2epochs", "a: --method erm", "b: --method sam") == [
        (f"{name} schedule={schedule}", {"method": method, "schedule": schedule, **more})
        for name, method in (("a", "erm"), ("b", "sam"))
        for schedule, more in (("step", {}), ("cosine", {"warmup": "2epochs"}))]


def test_a_plan_with_earlier_names_of_options_and_values_is_continued(tmp_path):
    runs = planned("--method erm --crop mirror zeros --draw permutation")
    given = [dict(run.given) for run in runs]
    for entry, crop in zip(given, ("mirror", "zeros"), strict=True):
        entry.update(crop=crop, draw=entry.pop("sampler"))
    plan = [{"name": f"erm crop={entry['crop']}", "folder": f"erm-crop={entry['crop']}_seed0",
             "given": path_independent(entry)} for entry in given]
    write_json(tmp_path / PLAN_FILE, plan)
    stored = read_plan(str(tmp_path), runs)
    configs = [resolve_config(argparse.Namespace(**{**vars(cli.parse(create_parser(), [])[0]), **run.given}), run.given)
               for run in runs]
    folders = [run_folder(run, config, stored) for run, config in zip(runs, configs, strict=True)]
    assert folders == [entry["folder"] for entry in plan]
    again = check_plan(str(tmp_path), runs, folders, stored)
    assert [entry["name"] for entry in again] == ["erm crop=reflect_pad", "erm crop=zero_pad"]
    plan[0]["given"]["lr"] = 0.3
    write_json(tmp_path / PLAN_FILE, plan)
    with pytest.raises(UserError, match="holds a comparison of other runs"):
        check_plan(str(tmp_path), runs, folders, read_plan(str(tmp_path), runs))


def test_options_of_methods_go_with_several_data_sets():
    assert {name for name, given in rows("-d photos cifar10 --method erm sam --rho 0.1") if "rho" in given} == {"sam"}


def test_synchronised_norms_go_to_the_runs_with_several_sub_batches():
    result = rows("--method erm damp --num_sub_batches 1 8 --sync_bn")
    assert [(name, given.get("sync_bn")) for name, given in result] == [
        ("erm num_sub_batches=1", None), ("erm num_sub_batches=8", True),
        ("damp num_sub_batches=1", None), ("damp num_sub_batches=8", True)]


def test_what_moves_the_weights_over_severities_goes_to_the_runs_that_have_such_weights():
    result = rows("--method erm group_dro --group_loss batch validation --group_update_every 10")
    assert [(name, given.get("group_loss"), given.get("group_update_every")) for name, given in result] == [
        ("erm", None, None), ("group_dro group_loss=batch", "batch", None),
        ("group_dro group_loss=validation", "validation", 10)]
    result = rows("--method sharpdro --worst_case weights argmax --step_size 0.1 0.2")
    assert [name for name, _ in result] == ["sharpdro worst_case=weights step_size=0.1",
                                            "sharpdro worst_case=weights step_size=0.2", "sharpdro worst_case=argmax"]
    assert [item.name for item in planned("--group_loss last_seen", "a: --method group_dro")] == ["a"]


def test_sampling_and_draw_go_to_the_runs_that_can_have_them():
    """All of them are settings that `resolve` takes."""
    result = {}
    for line, *variants in (("--method erm jtt --sampler permutation",),
                            ("--method erm jtt --sampler replacement permutation",),
                            ("--method sharpdro sharpdro_agnostic --sampling uniform balanced",),
                            ("--method erm sharpdro --distribution_agnostic --sampling balanced",),
                            ("--method erm --sampling uniform balanced --sampler permutation",),
                            ("--sampler permutation", "a: --method erm", "b: --method erm --sampling balanced"),
                            ("--method erm jtt --sampler replacement",)):
        runs = planned(line, *variants)
        result[line] = {run.name: (run.given.get("sampling"), run.given.get("sampler")) for run in runs}
        for run in runs:
            resolve(**run.given)
    assert list(result.values()) == [
        {"erm": (None, "permutation"), "jtt": (None, None)},
        {"erm sampler=replacement": (None, "replacement"), "erm sampler=permutation": (None, "permutation"),
         "jtt": (None, None)},
        {"sharpdro sampling=uniform": ("uniform", None), "sharpdro sampling=balanced": ("balanced", None),
         "sharpdro_agnostic": (None, None)},
        {"erm": ("balanced", None), "sharpdro_agnostic": (None, None)},
        {"erm sampling=uniform": ("uniform", "permutation"), "erm sampling=balanced": ("balanced", None)},
        {"a": (None, "permutation"), "b": ("balanced", None)},
        {"erm": (None, "replacement"), "jtt": (None, "replacement")}]


def test_what_is_trained_on_can_differ_between_runs():
    runs = planned("--method erm --train_on poisson clean --sampler permutation",
                   "cropped: --method sam --crop zero_pad")
    assert [(run.name, *(run.given.get(option) for option in ("train_on", "sampler", "crop"))) for run in runs] == [
        ("erm train_on=poisson", "poisson", "permutation", None), ("erm train_on=clean", "clean", "permutation", None),
        ("cropped train_on=poisson", "poisson", "permutation", "zero_pad"),
        ("cropped train_on=clean", "clean", "permutation", "zero_pad")]


def test_runs_of_one_data_set_and_corruption_follow_each_other():
    runs = planned("--method erm sam -c fog snow --seed 0 1", "balanced: --method sharpdro --sampling balanced")
    assert [(run.given["corruption"], run.name, run.given["seed"]) for run in runs] == [
        (corruption, name, seed) for corruption in ("fog", "snow") for name in ("erm", "sam", "balanced")
        for seed in (0, 1)]


def test_all_take_one_recipe_unless_one_is_named():
    assert {item.given["recipe"] for item in planned("--method erm damp")} == {"sharpdro"}
    assert {item.given["recipe"] for item in planned("--method erm damp --recipe damp")} == {"damp"}
    assert [item.given["recipe"] for item in planned("--method erm", "own: --method damp --recipe damp")] == [
        "sharpdro", "damp"]


def test_distribution_agnostic_training_has_one_title_and_folder():
    values = [vars(cli.parse(create_parser(), line.split())[0]) for line in (
        "--distribution_agnostic", "--method sharpdro_agnostic", "--method sharpdro_agnostic --distribution_agnostic",
        "--objective sharpdro_agnostic")]
    names = []
    for item in values:
        config = resolve_config(argparse.Namespace(**item), {option: value for option, value in item.items() if value
                                                             and option in ("method", "objective",
                                                                            "distribution_agnostic")})
        names.append((config.method.title, config.folder_name()))
    assert set(names) == {("sharpdro_agnostic",
                           "none_dsetcifar10_sever6_corrgaussian_noise_sharpdro_agnostic_wideresnet_seed0")}
    assert resolve(distribution_agnostic=True, perturbation="sign").title == "sharpdro_agnostic x sign"


def test_rows_that_are_the_same_pair_under_two_methods_are_not_refused():
    assert [name for name, _ in rows("--method erm sam --perturbation none l2")] == [
        f"{method} perturbation={perturbation}" for method in ("erm", "sam") for perturbation in ("none", "l2")]


def test_lists_of_other_options_add_no_row_beside_variants():
    assert [item.name for item in planned("--lr 0.1 0.2", "a: --method erm")] == ["a lr=0.1", "a lr=0.2"]
    assert [item.name for item in planned("--objective rex --lr 0.1", "a: --method erm")][0] == "rex x l2"


def test_variants_alone_are_all_there_is():
    assert [item.name for item in planned("--seed 0 1", "a: --method erm", "b: --method sam --rho 0.1 0.2")] == [
        "a", "a", "b rho=0.1", "b rho=0.1", "b rho=0.2", "b rho=0.2"]


@pytest.mark.parametrize("line, variants, culprit", [
    ("--method erm sam --sigma 0.1", [], "--sigma: no method of the comparison"),
    ("--method erm damp --sync_bn", [], "--sync_bn: no run of the comparison has several sub-batches"),
    ("--method erm sam --warmup 3steps", [], "--warmup: no method of the comparison"),
    ("--method erm sharpdro sharpdro_agnostic --distribution_agnostic", [],
     "--method: sharpdro and sharpdro_agnostic are both sharpdro_agnostic"),
    ("--method sharpdro sharpdro_agnostic --distribution_agnostic --rho 0.1 0.2", [], "sharpdro rho=0.1 and sharp"),
    ("--method jtt --sampler permutation --seed 0 1", [], "--sampler: no method of the comparison"),
    ("--method sharpdro_agnostic --sampling balanced --seed 0 1", [], "--sampling: no method of the comparison"),
    ("--method irm --mixup 0.7 --seed 0 1", [], "--mixup: no method of the comparison"),
    ("--method erm sam", ["erm: --method erm --lr 0.2"], "--variant erm: has the name of another row"),
    ("--method erm sam", ["a: --lr 0.2"], "--variant a: must have one method, and the comparison has several"),
    ("--method sam", ["a: --method erm sam"], "--variant a: must have one method, and the comparison has several"),
    ("--method erm sam --objective rex --perturbation l2", [], "--method: erm and sam are both rex x l2"),
    ("--method erm", ["balanced --sampling balanced"], "not of the form 'NAME: OPTIONS'"),
    ("--method erm", ["a: --lr 1", "a: --lr 2"], "a name of its own"),
    ("--method erm", ["a: --seed 3"], "--variant a: --seed"),
    ("--method erm", ["a: --recipe damp/imagenet"],
     "--variant a: --recipe damp/imagenet needs --dataset imagenet --model resnet50_damp --val_fraction 0.0 "
     "--interpolation bicubic; give that for all runs"),
    ("--method erm -d imagenet -m resnet50_damp -n 10", ["a: --recipe damp/imagenet"],
     "needs --interpolation bicubic;"),
    ("--method erm -d cifar100", ["a: --recipe damp/cifar10"], "needs --model resnet18_cifar;"),
])
def test_plans_that_make_no_sense(line, variants, culprit):
    with pytest.raises(UserError, match=culprit):
        planned(line, *variants)


def test_options_of_all_runs_go_before_the_recipe_of_a_variant():
    line = "--method erm -d imagenet -m resnet50_damp --val_fraction 0 --interpolation bilinear --train_on clean"
    given = {run.name: run.given for run in planned(line, "a: --method damp --recipe damp/imagenet")}["a"]
    assert (given["recipe"], given["interpolation"]) == ("damp/imagenet", "bilinear")


def ends_with(argv):
    with pytest.raises(SystemExit) as stop:
        main.main(argv)
    return stop.value.code


@pytest.fixture(scope="module")
def comparison(cifar_dir, tmp_path_factory):
    """Two seeds, and a variant that cannot go well; stopped in the second run, and started again."""
    log_dir = tmp_path_factory.mktemp("logs")
    argv = arguments(cifar_dir, log_dir, "--method", "group_dro", "--seed", "0", "1", "--log_train", "1",
                     "--variant", "wild: --method group_dro --lr 1e30")
    real, begun = losses.comparison.runs.run, []

    def stops(settings, data, folder, cells):
        begun.append(folder.path)
        if len(begun) == 2:
            raise KeyboardInterrupt
        real(settings, data, folder, cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses.comparison.runs, "run", stops)
        assert ends_with(argv) == 130
    folder = only_run(log_dir)
    stamp = os.stat(os.path.join(begun[0], "results.json")).st_mtime_ns
    status = ends_with(argv)
    assert os.stat(os.path.join(begun[0], "results.json")).st_mtime_ns == stamp
    return folder, argv, status


def test_a_failed_run_is_named_and_does_not_stop_the_others(comparison):
    folder, _, status = comparison
    text = files(folder, "comparison.md")["comparison.md"].decode()
    assert status == 1 and "| wild | failed |" in text
    assert "- failed: wild, seed 1 (cifar10, gaussian noise, wideresnet10): the loss is not finite" in text
    assert not os.path.exists(os.path.join(folder, ".lock"))


def test_published_numbers_are_those_of_the_method_of_a_row(comparison, monkeypatch):
    asked = []
    monkeypatch.setattr(losses.comparison.runs, "published_row", lambda *arguments: asked.append(arguments))
    assert ends_with(comparison[1]) == 1
    assert [arguments[1:] for arguments in asked] == [("group_dro", "gaussian_noise")] * 4


def test_the_page_has_the_options_as_they_are_typed(comparison):
    page = html.unescape(files(comparison[0], "report.html")["report.html"].decode())
    typed = re.findall(r"<tr><td>.*?</td><td>(.*?)</td></tr>", page.split("<h2>Settings</h2>")[1])
    requested = [cli.parse(create_parser(), line.split())[1] for line in typed]
    assert [item.get("lr") for item in requested] == [None, 1e30]
    argv = cli.parse(create_parser(), [word for word in comparison[1] if word != "--variant"][:-1])[1]
    for option in ("seed", "dataset", "model", "corruption", "log_dir"):
        argv.pop(option, None)
    assert requested[0] == {**argv, "recipe": "sharpdro"}
    assert option_texts({"keep_epochs": [20, 50], "record_norm": True, "sync_bn": False}) == [
        "--keep_epochs 20 50", "--record_norm", "--no-sync_bn"]


def test_a_run_of_a_comparison_equals_a_separate_one(comparison, cifar_dir, tmp_path):
    """Also the second seed, which used the first one's compiled graph."""
    main.main(arguments(cifar_dir, tmp_path, "--method", "group_dro", "--seed", "1", "--log_train", "1", "--save_last"))
    separate = only_run(tmp_path)
    ours = os.path.join(comparison[0], "group_dro_cifar10_gaussian_noise_wideresnet10_seed1")
    assert files(separate, *RECORDS) == files(ours, *RECORDS)
    assert checkpoint_bytes(separate) == checkpoint_bytes(ours)


def test_a_comparison_is_evaluated_and_drawn_as_a_whole(comparison, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(comparison[0], tmp_path / "comparison")
    runs = [str(folder / name) for name in sorted(os.listdir(folder)) if name.startswith("group_dro")]
    argv = ["--evaluate", str(folder), "-c", "fog"]
    assert len(runs) == 2 and ends_with(argv) == 1  # those that failed have no checkpoint
    out = capsys.readouterr().out
    assert out.count("failed: ") == 2 and f"run 2 of 4: {runs[1]}" in out
    result = [read_json(run + "/evaluation_fog.json") for run in runs]
    errors = [100 * item["by_severity"]["error"][5] for item in result]
    mild = [100 * item["by_level"]["mild"]["error"] for item in result]
    assert f"{np.mean(mild):.2f} ± {np.std(mild, ddof=1):.2f}" in out.splitlines()[-2]
    assert max(map(len, out.splitlines()[-3:-1])) <= 80
    assert f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f}" in (folder / "evaluation_fog.md").read_text()
    assert "<h2>Evaluation: fog</h2>" in (folder / "report.html").read_text(encoding="utf-8")
    [row] = read_csv(folder / "evaluation_fog.csv")
    assert float(row["severity_5_mean"]) == pytest.approx(np.mean(errors)) and row["runs"] == "2"
    with monkeypatch.context() as patch:
        patch.setattr("losses.evaluation.network.scores_by_corruption", None)  # what is done is not done again
        capsys.readouterr()
        assert ends_with([*argv, "--baseline", runs[0]]) == 1
    lines = capsys.readouterr().out.splitlines()
    first = lines.index(f"evaluated before; remove {runs[0]}/evaluation_*.json to evaluate again")
    assert lines[first + 2].startswith("fog (1 corruption) on cifar10") and lines[first + 4].startswith("none")
    assert sum(line.startswith("fog  ") for line in lines) == 2  # the baseline's own among them
    again = [read_json(run + "/evaluation_fog.json") for run in runs]
    assert [item["corrupted"] for item in again] == [item["corrupted"] for item in result]
    assert again[0]["corruption_error"]["mean"] == 1 and "mCE_mean" in read_csv(folder / "evaluation_fog.csv")[0]
    assert f"; mCE as a ratio, relative to {os.path.basename(runs[0])}\n" in (folder / "evaluation_fog.md").read_text()
    draw(["ce", str(folder)])
    assert (folder / "ce.svg").exists()
    os.remove(runs[0] + "/evaluation_fog.json")
    capsys.readouterr()
    main.main(["--evaluate", runs[0], "-c", "fog", "--baseline", runs[0]])
    assert capsys.readouterr().out.count("\nfog  ") == 1 and read_json(runs[0] + "/evaluation_fog.json") == again[0]


def test_the_table_of_an_evaluation_is_of_the_set_that_was_asked_for(tmp_path, monkeypatch, capsys):
    """Also where the runs have a wider one; the baseline comes first and its rows keep their order."""
    runs = [make_run(tmp_path / name, "erm", seed) for seed, name in enumerate("ab")]
    write_json(tmp_path / "comparison.json", [{"name": "erm", "folder": name, "given": {}} for name in "ab"])
    errors, order = {"fog": {runs[0]: 0.25, runs[1]: 0.75}, "snow": {runs[0]: 1.0, runs[1]: 1.0}}, []

    def evaluate_run(run, corruptions, **_):
        order.append(run)
        rows = {name: [CalibrationScores(1 - errors[name][run], 1.0, 0.5)] * 5 for name in corruptions}
        title = f"{', '.join(corruptions)} ({len(corruptions)} corruptions)"
        description = {"set": title, "fingerprints": stored_fingerprints(rows)}
        record = to_dict(description, CalibrationScores(0.5, 0.1, 0.2), rows)
        write_evaluation(f"{run}/evaluation_{len(corruptions)}", record)
        return record
    monkeypatch.setattr("losses.evaluation.runs.evaluate_run", evaluate_run)
    assert evaluate_runs(str(tmp_path), corruptions=["fog", "snow"], baseline=runs[1])
    assert order == [runs[1], runs[0]]
    capsys.readouterr()
    assert evaluate_runs(str(tmp_path), corruptions=["fog"])
    *_, description, _, head, row, _ = capsys.readouterr().out.splitlines()
    assert description.startswith("error in percent, averaged over fog (1 corruptions)")
    assert head.split() == ["method", "none", "mild", "severe"] and "|" not in head + row and len(head) == len(row)
    assert row.split()[:4] == ["erm", "50.00", "±", "0.00"] and row.count("50.00 ± 35.36") == 2
    [result] = read_csv(tmp_path / "evaluation_fog.csv")
    assert float(result["severity_3_mean"]) == 50 and float(result["severity_3_std"]) == pytest.approx(50 / np.sqrt(2))
    assert "| erm | 50.00 ± 0.00 | 50.00 ± 35.36 |" in (tmp_path / "evaluation_fog.md").read_text()


def evaluated(folder, plan, errors, severities=(1, 2, 3, 4, 5), hashes=None):
    """Write the table of a comparison. `plan` has rows of name, seed and settings; `errors` are those of the runs that
    were evaluated, and `hashes` those of their baselines.
    """
    entries = [{"name": name, "folder": f"{k}", "given": settings} for k, (name, _, settings) in enumerate(plan)]
    write_json(folder / PLAN_FILE, entries)
    runs = [make_run(folder / f"{k}", name, seed, **settings) for k, (name, seed, settings) in enumerate(plan)]
    evaluations = []
    for error, sha256 in zip(errors, hashes or ["0"] * len(errors), strict=True):
        rows = {"frost": [CalibrationScores(1 - error, 1.0, 0.5)] * len(severities)}
        baseline = Baseline({"name": "b", "checkpoint_sha256": sha256}, {"frost": [0.9] * len(severities)}, 0.5)
        description = {"set": "frost (1 corruption)", "severities": list(severities),
                       "fingerprints": stored_fingerprints(rows)}
        evaluations.append(to_dict(description, CalibrationScores(0.5, 0.1, 0.2), rows, baseline))
    records = [read_record(run) for run in runs[:len(errors)]]
    return write_evaluation_table(str(folder), records, evaluations)


def test_the_table_of_an_evaluation_tells_training_corruptions_apart(tmp_path):
    text = evaluated(tmp_path, [("erm", 0, {}), ("erm", 0, {"corruption": "gaussian_noise"})], [0.2, 0.3])
    assert re.findall(r"^erm, .*?(?=  )", text, re.MULTILINE) == ["erm, fog", "erm, gaussian noise"]
    assert "| erm, gaussian noise | 50.00 | 30.00 |" in (tmp_path / "evaluation_frost.md").read_text()


def test_a_run_with_damaged_settings_does_not_cost_the_table_of_the_others(tmp_path):
    evaluated(tmp_path, [("erm", seed, {}) for seed in range(2)], [0.1])
    (tmp_path / "1" / "config.json").write_text("[")
    [csv_file] = tmp_path.glob("evaluation_*.csv")
    csv_file.unlink()
    scores = {"frost": [CalibrationScores(0.9, 1.0, 0.5)] * 5}
    evaluation = to_dict({"set": "frost (1 corruption)", "fingerprints": stored_fingerprints(scores)},
                         CalibrationScores(0.5, 0.1, 0.2), scores)
    text = write_evaluation_table(str(tmp_path), [read_record(str(tmp_path / "0"))], [evaluation])
    assert "erm (1 of 2 runs)  " in text and csv_file.exists()


def test_the_table_of_an_evaluation_has_the_severities_that_were_asked_for_and_three_digits_of_mce(tmp_path):
    text = evaluated(tmp_path, [("erm", 0, {}), ("sam", 0, {})], [0.7678, 0.7694], severities=(3,))
    assert text.splitlines()[0].endswith("mCE as a ratio, relative to b")
    assert [line.split() for line in text.splitlines()[2:5]] == [
        ["method", "severity", "0", "severity", "3", "mCE"], ["erm", "50.00", "76.78", "0.853"],
        ["sam", "50.00", "76.94", "0.855"]]


def test_the_table_has_no_mce_relative_to_several_baselines(tmp_path):
    """As if seeds had been evaluated relative to runs of one name in two comparisons."""
    text = evaluated(tmp_path, [("erm", 0, {}), ("erm", 1, {})], [0.2, 0.3], severities=(3,), hashes=("1", "2"))
    assert text.splitlines()[0].endswith("; without mCE, because not all evaluations have the same --baseline")
    [table] = tmp_path.glob("evaluation_*.csv")
    assert "mCE_mean" not in read_csv(table)[0]


def test_the_page_says_if_the_comparison_has_more_runs_than_its_evaluation(tmp_path):
    text = evaluated(tmp_path, [("erm", seed, {}) for seed in range(3)], [0.1, 0.2])
    assert "erm (2 of 3 runs)  " in text
    (tmp_path / "evaluation_notes.md").write_text("remember the milk\n")
    [section] = evaluation_sections(str(tmp_path))
    assert section.text.endswith("; of 2 of the 3 runs, so evaluate the comparison again")
    write_json(tmp_path / "2" / "failed.json", {"reason": "the loss is not finite"})
    [section] = evaluation_sections(str(tmp_path))
    assert "so evaluate" not in section.text


def test_the_table_is_that_of_the_results(comparison):
    folder = comparison[0]
    accuracies = []
    for seed in (0, 1):
        run = f"group_dro_cifar10_gaussian_noise_wideresnet10_seed{seed}"
        with open(os.path.join(folder, run, "results.json")) as file:
            accuracies.append(json.load(file)["test"]["accuracy"])
    erm, wild = read_csv(os.path.join(folder, "comparison.csv"))
    assert (erm["dataset"], erm["corruption"], erm["model"]) == ("cifar10", "gaussian_noise", "wideresnet10")
    assert float(erm["severity_5_mean"]) == pytest.approx(50 * (accuracies[0][5] + accuracies[1][5]))
    assert float(erm["worst_mean"]) == pytest.approx(50 * (min(accuracies[0]) + min(accuracies[1])))
    q = [read_csv(os.path.join(folder, f"group_dro_cifar10_gaussian_noise_wideresnet10_seed{seed}", "train.csv"))[-1]
         for seed in (0, 1)]
    assert float(erm["q_2_mean"]) == pytest.approx(sum(float(row["adv_prob_2"]) for row in q) / 2)
    validation = [float(read_csv(os.path.join(
        folder, f"group_dro_cifar10_gaussian_noise_wideresnet10_seed{seed}", "val_robust_3.csv"))[-1]["avg_acc"])
        for seed in (0, 1)]
    assert float(erm["val_severity_3_mean"]) == pytest.approx(100 * np.mean(validation))
    assert float(erm["val_severity_3_std"]) == pytest.approx(100 * np.std(validation, ddof=1))
    assert wild["val_severity_3_mean"] == ""
    assert "| method | q for s = 0 |" in files(folder, "comparison.md")["comparison.md"].decode()
    assert wild["q_2_mean"] == "" and erm["runs"] == "2" and wild["failed"] == "2" and wild["mean_mean"] == ""


def test_the_same_folder_is_not_for_another_grid(comparison, cifar_dir, capsys):
    argv = comparison[1]
    assert ends_with([*argv, "--seed", "0"]) == 2
    assert "holds a comparison of other runs" in capsys.readouterr().err


@pytest.mark.parametrize("words, problem", [
    (["--accumulate", "2", "--compile_cache", "cache"], "--compile_cache: stores one graph"),
    (["--mixup", "0.8", "-b", "25"], "--mixup: images are mixed in pairs")])
def test_what_no_run_can_have_is_an_error_before_the_first(cifar_dir, tmp_path, capsys, monkeypatch, words, problem):
    monkeypatch.chdir(tmp_path)
    assert ends_with(arguments(cifar_dir, tmp_path / "logs", "--method", "erm", "group_dro", *words)) == 2
    assert problem in capsys.readouterr().err and not os.path.exists(tmp_path / "logs")


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("[]")])
def test_runs_whose_plan_was_lost_are_not_those_of_other_options(comparison, tmp_path, capsys, damage):
    """Their names are the same. Their results would be shown under the options of the command."""
    folder, argv, _ = comparison
    folder = pathlib.Path(shutil.copytree(folder, tmp_path / os.path.basename(folder)))
    damage(folder / PLAN_FILE)
    before = (folder / "report.html").read_bytes()
    assert ends_with([*argv, "--log_dir", str(tmp_path), "--lr", "0.5"]) == 2
    run = folder / "group_dro_cifar10_gaussian_noise_wideresnet10_seed0"
    assert f"{run}: has begun with another value of --lr; repeat its command" in capsys.readouterr().err
    assert (folder / "report.html").read_bytes() == before


@pytest.mark.parametrize("content", ['[{"name": "er', '{"erm": "erm"}', '[{"name": "erm", "folder": "erm"}]'])
def test_a_damaged_plan_is_an_error(comparison, tmp_path, capsys, content):
    folder, argv, _ = comparison
    folder = pathlib.Path(shutil.copytree(folder, tmp_path / os.path.basename(folder)))
    (folder / PLAN_FILE).write_text(content)
    assert ends_with([*argv, "--log_dir", str(tmp_path)]) == 2
    assert f"{folder / PLAN_FILE}: damaged; remove it, and give the command" in capsys.readouterr().err
    assert (folder / PLAN_FILE).read_text() == content


def test_a_row_that_has_another_name_now_keeps_its_folder(tmp_path):
    runs = planned("--method erm --objective rex")
    write_json(tmp_path / PLAN_FILE, [{"name": "erm", "folder": "erm_seed0", "given": path_independent(runs[0].given)}])
    [entry] = read_plan(str(tmp_path), runs)
    assert (entry["name"], entry["folder"]) == ("rex x none", "erm_seed0")


@pytest.mark.slow
def test_a_comparison_may_grow(cifar_dir, tmp_path, capsys):
    argv = arguments(cifar_dir, tmp_path, "--method", "erm", "--seed", "0", "1", "--total_epoch", "1")
    assert ends_with(argv) == 0
    folder = only_run(tmp_path)
    name = os.path.join(folder, "erm_cifar10_gaussian_noise_wideresnet10_seed1")
    stamp, [item] = os.stat(os.path.join(name, "results.json")).st_mtime_ns, read_csv(folder + "/comparison.csv")
    assert ends_with([*argv, "--variant", "free: --method erm --weight_decay 0"]) == 0
    assert os.stat(os.path.join(name, "results.json")).st_mtime_ns == stamp
    same, new = read_csv(folder + "/comparison.csv")
    assert same == item and (new["method"], new["runs"]) == ("free", "2")
    assert ends_with([*argv, "--variant", "free: --method erm --weight_decay 0.1"]) == 2
    assert ends_with(argv) == 2
    config = read_json(os.path.join(name, "config.json"))
    write_json(os.path.join(name, "config.json"), {**config, "device": "GPU"})
    capsys.readouterr()
    assert ends_with([*argv, "--variant", "free: --method erm --weight_decay 0"]) == 0
    assert capsys.readouterr().err.startswith("warning: some of the runs began on GPU (MindSpore ")


@pytest.mark.slow
def test_a_comparison_goes_on_with_the_runs_own_splits_and_with_other_free_options(comparison, tmp_path):
    """Names of data folders and numbers of workers do not matter; the split that a run began with does."""
    folder = shutil.copytree(comparison[0], tmp_path / "x_comparison")
    run = os.path.join(folder, "group_dro_cifar10_gaussian_noise_wideresnet10_seed1")
    before = files(run, *RECORDS)
    for name in ("results.json", "last_model.ckpt"):  # epoch 0 has left 0_model.ckpt
        os.remove(os.path.join(run, name))
    argv = [*comparison[1], "--log_dir", str(tmp_path), "--desc", "x", "--num_workers", "2"]
    real, splits = losses.comparison.runs.run, []

    def noted(settings, data, *more):
        splits.append(data.split)
        real(settings, data, *more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses.comparison.runs, "run", noted)
        patch.setattr("dataset.splits.make_split", lambda labels, num_severity, seed, n, path, *more:
                      make_split(labels, num_severity, seed + (path is None), n, path, *more))  # as if drawn anew
        ends_with(argv)
    assert splits and files(run, *RECORDS) == before


def test_a_comparison_with_a_table_of_clean_images_goes_on(cifar_dir, tmp_path):
    """The recipe says `--train_on poisson`, the run that has begun what its table is."""
    table = str(tmp_path / "clean.csv")
    prepare_dataset.main(["-d", "cifar10", "--data_dir", cifar_dir, "--train_on", "clean", "-o", table])
    argv = arguments(cifar_dir, tmp_path / "logs", "--method", "erm", "--seed", "0", "1", "--split", table)
    begun = []

    def stops(settings, data, folder, cells):
        begun.append(settings.seed)
        raise KeyboardInterrupt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses.comparison.runs, "run", stops)
        assert [ends_with(argv), ends_with(argv)] == [130, 130] and begun == [0, 0]


def test_runs_of_a_table_that_has_changed_are_not_mixed_in(cifar_dir, tmp_path, monkeypatch, capsys):
    table = str(tmp_path / "split.csv")
    prepare_dataset.main(["-d", "cifar10", "--data_dir", cifar_dir, "-o", table])
    argv = arguments(cifar_dir, tmp_path / "logs", "--method", "erm", "--seed", "0", "1", "--split", table)

    def stops(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(losses.comparison.runs, "run", stops)
    assert [ends_with(argv), ends_with(argv)] == [130, 130]
    os.remove(table)
    prepare_dataset.main(["-d", "cifar10", "--data_dir", cifar_dir, "--seed", "1", "-o", table])
    assert ends_with(argv) == 2
    assert "--split: the file has changed since runs in " in capsys.readouterr().err


def test_a_table_that_changes_while_a_comparison_runs_is_named(cifar_dir, tmp_path, monkeypatch, capsys):
    table = str(tmp_path / "split.csv")
    prepare_dataset.main(["-d", "cifar10", "--data_dir", cifar_dir, "-o", table])

    def changes(*_):
        with open(table, "a") as file:
            file.write("\n")
        raise RuntimeError("stopped")
    monkeypatch.setattr(losses.comparison.runs, "run", changes)
    argv = arguments(cifar_dir, tmp_path / "logs", "--method", "erm", "--seed", "0", "1", "--split", table)
    assert ends_with(argv) == 1
    assert f"seed 1 (cifar10, gaussian noise, wideresnet10): --split {table}: has changed" in capsys.readouterr().out


def test_a_comparison_that_has_ended_is_of_the_images_that_it_names(cifar_dir, tmp_path, monkeypatch, capsys):
    """Other corrupted images with the same names, and the same command."""
    data = str(shutil.copytree(cifar_dir, tmp_path / "data"))
    argv = arguments(data, tmp_path / "logs", "--method", "erm", "--seed", "0", "1")

    def stops(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(losses.comparison.runs, "run", stops)
    assert ends_with(argv) == 130
    monkeypatch.setattr(losses.comparison.runs, "is_finished", lambda _: True)
    for severity in range(1, 6):
        path = os.path.join(data, "CIFAR-10-C", "test", str(severity), "gaussian_noise.npy")
        np.save(path, np.zeros_like(np.load(path)))
    assert ends_with(argv) == 2
    assert "had other corrupted test images than there are now" in capsys.readouterr().err


@pytest.mark.parametrize("option, value, reason", [
    ("momentum", 0.5, "another version has begun it with momentum 0.5, and this version gives 0.9"),
    ("init_sha256", "another", "--init_checkpoint: the file has changed"),
    ("total_epoch", 9, "has been continued to 9 epochs, and the comparison has ")])
def test_runs_that_were_begun_otherwise_are_not_mixed_in(option, value, reason, comparison, tmp_path, capsys):
    folder = shutil.copytree(comparison[0], tmp_path / "x_comparison")
    run = os.path.join(folder, "group_dro_cifar10_gaussian_noise_wideresnet10_seed1")
    os.remove(os.path.join(run, "results.json"))
    with open(os.path.join(run, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    with open(os.path.join(run, "config.json"), "w", encoding="utf-8") as file:
        json.dump({**config, option: value}, file)
    before = files(run, *RECORDS)
    assert ends_with([*comparison[1], "--log_dir", str(tmp_path), "--desc", "x"]) == 2
    assert reason in capsys.readouterr().err and files(run, *RECORDS) == before


@pytest.mark.parametrize("text, reason", [
    ("warning: x\nmain.py: error: -m x: unknown\n", "-m x: unknown"), ("", "no message"),
    (f"Traceback (most recent call last):\n  File\n    x = 1\nRuntimeError: {NO_MEMORY}", NO_MEMORY.splitlines()[4]),
    ("Traceback (most recent call last):\n  File\nValueError: before\n\nAfter it\n\nTraceback (most recent call last):"
     "\n  File\n    x\npkg.SomeError: why\nmore\n", "why"),
    ("Exception ignored in: x\nTraceback (most recent call last):\n  File\nValueError: harmless\n"
     "main.py: error: logs: No space left on device\n", "logs: No space left on device")])
def test_why_a_process_has_failed(text, reason, tmp_path):
    with open(tmp_path / "stderr", "w+", encoding="utf-8") as errors:
        errors.write(text)
        reached, warnings = losses.comparison.runs._end_of(SimpleNamespace(returncode=1), errors)
        assert reached == f"{reason} (exit status 1)" and warnings == ["warning: x"] * ("warning" in text)
        assert errors.closed  # a comparison may have a thousand runs


@pytest.mark.parametrize("error, reason", [(RuntimeError(NO_MEMORY), NO_MEMORY.splitlines()[4]),
                                           (MemoryError("Unable to allocate 9 GiB"), "Unable to allocate 9 GiB"),
                                           (TypeError("For 'MatMul', shapes"), "For 'MatMul', shapes")])
def test_a_network_that_cannot_be_evaluated_does_not_stop_others(error, reason, monkeypatch, capsys):
    monkeypatch.setattr(losses.evaluation.runs, "planned_runs", lambda path: ["a", "b"])
    monkeypatch.setattr(losses.evaluation.runs, "is_finished", lambda run: True)

    def evaluate(run):
        if run == "a":
            raise error
        return "done"
    assert evaluate_each("both", evaluate) == ({"b": "done"}, ["a", "b"])
    assert f"failed: {reason}\n" in capsys.readouterr().out


def test_a_comparison_that_cannot_begin_leaves_its_name_free(cifar_dir, tmp_path, capsys):
    assert ends_with(arguments(cifar_dir, tmp_path, "--method", "erm", "irm", "-b", "4000")) == 2
    assert "-b 4000" in capsys.readouterr().err and not os.path.exists(tmp_path / "none_comparison")


@pytest.mark.slow
def test_runs_side_by_side_are_the_same_bytes(comparison, cifar_dir, tmp_path):
    assert ends_with(arguments(cifar_dir, tmp_path, "--method", "group_dro", "--seed", "0", "1", "--log_train", "1",
                               "--jobs", "2")) == 0
    for seed in (0, 1):
        name = f"group_dro_cifar10_gaussian_noise_wideresnet10_seed{seed}"
        item, second = (os.path.join(folder, name) for folder in (comparison[0], only_run(tmp_path)))
        assert files(item, *RECORDS) == files(second, *RECORDS) and checkpoint_bytes(item) == checkpoint_bytes(second)


@pytest.mark.parametrize("argv, culprit", [
    (["--jobs", "0"], "--jobs"), (["--jobs", "2"], "--jobs: needs a comparison"),
    (["--resume", "run", "--seed", "0", "1"], "--resume: continues one run"),
    (["--method", "erm", "sam", "--variant", "a: '"], "no closing quotation"),
    (["--method", "erm", "--variant", "best: --method nope"], "main.py: --variant best: error: argument --method"),
    (["--method", "jtt", "--seed", "0", "1", "--stage_one", __file__], "--stage_one: its first model has one seed"),
    (["--method", "erm", "--seed", "0", "1", "--variant", f"a: --method jtt --stage_one {__file__}"],
     "--stage_one: its first model has one seed")])
def test_bad_input_is_one_line(capsys, argv, culprit):
    assert ends_with(argv) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning")]
    assert culprit in line


def test_an_error_of_a_library_in_one_run_does_not_stop_the_others(cifar_dir, tmp_path, monkeypatch, capsys):
    def breaks(settings, *_):
        raise RuntimeError("Out of memory\nC++ call stack") if settings.seed else OSError(28, "No space left")
    monkeypatch.setattr(losses.comparison.runs, "run", breaks)
    assert ends_with(arguments(cifar_dir, tmp_path, "--method", "erm", "--seed", "0", "1")) == 1
    out = capsys.readouterr().out
    assert "seed 1 (cifar10, gaussian noise, wideresnet10): Out of memory\n" in out and "No space left" in out


def test_flags_of_other_processes_have_no_value(monkeypatch):
    item = SimpleNamespace(given={"fast_math": True, "compile_cache": "kept", "num_workers": 1, "lr": 0.1})
    monkeypatch.setattr(losses.comparison.runs, "device_count", lambda: 4)
    words = losses.comparison.runs._free_options(item, 2, 5, "GPU")
    assert sorted(words) == ["--compile_cache", "--device_id", "--device_target", "--fast_math", "--num_workers", "1",
                             "1", "GPU", "kept"]
    assert words[words.index("--compile_cache") + 1] == "kept" and words[words.index("--device_id") + 1] == "1"


@pytest.mark.parametrize("name", ["cost $x_$", "a $b$ c"])
def test_names_of_variants_may_have_dollar_signs(name, tmp_path):
    """They are not mathematics, in a figure that is drawn after all runs."""
    records = [read_record(make_run(tmp_path / str(seed), "erm", seed)) for seed in range(2)]
    [(_, figure)] = accuracy([replace(record, name=name) for record in records])
    save(figure, str(tmp_path / "figure"))
    assert name in (tmp_path / "figure.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("given, device, number", [({}, "GPU", "2"), ({"device_id": 3}, "GPU", "3"), ({}, "CPU", None)])
def test_parallel_runs_are_spread_over_the_devices(given, device, number, monkeypatch):
    monkeypatch.setattr(losses.comparison.runs, "device_count", lambda: 4)
    words = losses.comparison.runs._free_options(SimpleNamespace(given=given), 8, 6, device)
    assert (words[words.index("--device_id") + 1] if "--device_id" in words else None) == number


def test_other_processes_get_the_free_options(cifar_dir, tmp_path, monkeypatch, capsys):
    started = []

    class Process:
        returncode = 1

        def __init__(self, command, stderr, **_):
            started.append(command[command.index("--resume") + 2:])
            stderr.write("main.py: error: stopped")

        def poll(self):
            return self.returncode
    monkeypatch.setattr(losses.comparison.runs.subprocess, "Popen", Process)
    argv = arguments(cifar_dir, tmp_path, "--method", "erm", "--seed", "0", "1", "--jobs", "2", "--num_workers", "2")
    assert ends_with(argv) == 1
    assert "seed 0 (cifar10, gaussian noise, wideresnet10): stopped (exit status 1)\n" in capsys.readouterr().out
    assert sorted(zip(started[0][::2], started[0][1::2], strict=True)) == [
        ("--data_dir", cifar_dir), ("--device_target", "CPU"), ("--num_workers", str(max(1, cli.cpu_count() // 2)))]


def test_a_signal_ends_all_runs_and_begins_no_other(cifar_dir, tmp_path, monkeypatch, capsys):
    started = []

    class Process:
        returncode = None

        def __init__(self, *_, **__):
            started.append(self)
            if len(started) == 2:
                terminate_self()

        def poll(self):
            return self.returncode

        def terminate(self):
            self.returncode = -15

        def wait(self):
            assert self.returncode == -15
    monkeypatch.setattr(losses.comparison.runs.subprocess, "Popen", Process)
    argv = arguments(cifar_dir, tmp_path, "--method", "erm", "--seed", "0", "1", "2", "--jobs", "2")
    assert ends_with(argv) == 143
    assert len(started) == 2 and all(process.returncode == -15 for process in started)
    assert capsys.readouterr().err.endswith("stopped by SIGTERM; the same command resumes it\n")


def test_other_images_of_ones_own_are_not_mixed_in(tmp_path, monkeypatch, capsys):
    for place, seed in (("one", 0), ("two", 1)):
        make_classes(str(tmp_path / place / "mine"), 30, (16, 16), seed=seed)

    def breaks(*_):
        raise RuntimeError("stopped")
    monkeypatch.setattr(losses.comparison.runs, "run", breaks)

    def status(data_dir):
        return ends_with(["-d", "folder", "--image_size", "16", "-m", "wideresnet10", "-b", "4", "--method", "erm",
                          "group_dro", "--log_dir", str(tmp_path / "logs"), "--data_dir", str(tmp_path / data_dir)])

    def line():
        return capsys.readouterr().err.splitlines()[-1]
    assert status("one/mine") == 1  # both runs have begun
    folder = tmp_path / "logs" / "none_comparison"
    erm, group_dro = sorted(folder.glob("*_seed0"))
    assert status("nowhere") == 2 and f"{folder}: holds a comparison of other runs or images" in line()
    assert status("two/mine") == 2 and "had other training images than there are now" in line()
    with pytest.raises(SystemExit):
        main.main(["--resume", str(erm), "--data_dir", str(tmp_path / "two" / "mine")])
    assert f"{erm}: had other training images than there are now" in line()
    table = {"accuracy": [0.5] * 6, "loss": [1.5] * 6, "images": [8] * 6}  # as if it had ended
    (erm / "results.json").write_text(json.dumps({"train_images": [4] * 6, "epochs": 200, "val": table, "test": table}))
    shutil.rmtree(group_dro)
    assert status("two/mine") == 2
    assert line().endswith("name those that it had with --data_dir, or another comparison with --desc")
    os.remove(erm / "results.json")
    shutil.move(tmp_path / "one", tmp_path / "moved")
    written = read_json(folder / "comparison.json")
    for item in written:
        del item["given"]["data_dir"]  # as comparisons of before
    (folder / "comparison.json").write_text(json.dumps(written))
    assert status("moved/mine") == 1


SETTING = ("cifar10", "fog", "wideresnet")


def test_statistics_are_over_seeds_with_n_minus_1():
    rows = [ComparisonRow(SETTING, "erm", {0: [0.9, 0.5], 1: [0.8, 0.6], 2: [0.7, 0.4]}, {}),
            ComparisonRow(SETTING, "failed", {}, {0: "x"}), ComparisonRow(SETTING, "one seed", {0: [0.9, 0.5]}, {})]
    table = accuracy_statistics(rows)
    assert list(table.columns) == [(name, kind) for name in ("s = 0", "s = 1", "worst", "mean")
                                   for kind in ("mean", "std")]
    np.testing.assert_allclose(table.loc[0], [80, 10, 50, 10, 50, 10, 65, np.std([70, 70, 55], ddof=1)])
    assert table.loc[1].isna().all()
    np.testing.assert_allclose(table.loc[2], [90, np.nan, 50, np.nan, 50, np.nan, 70, np.nan])


@pytest.mark.parametrize("number", [1, 2, 3, 5, 11])
def test_statistics_have_the_bytes_of_numpy(number):
    """Files of a comparison that is carried out again keep their bytes."""
    accuracies = np.random.default_rng(0).integers(0, 1000, (4, number, 6)) / 1000
    rows = [ComparisonRow(SETTING, str(k), dict(enumerate(runs.tolist())), {}) for k, runs in enumerate(accuracies)]
    table = accuracy_statistics(rows).to_numpy().reshape(4, 8, 2)
    for line, runs in zip(table, 100 * accuracies, strict=True):
        columns = np.column_stack([runs, runs.min(axis=1), runs.mean(axis=1)])
        assert line[:, 0].tobytes() == columns.mean(axis=0).tobytes()
        if number > 1:
            assert line[:, 1].tobytes() == columns.std(axis=0, ddof=1).tobytes()


def test_the_best_of_a_column_is_bold_and_names_are_escaped(tmp_path):
    table = [ComparisonRow(SETTING, "a_b", {0: [0.9, 0.5], 1: [0.7, 0.5]}, {}),
             ComparisonRow(SETTING, "c", {0: [0.75, 0.6], 1: [0.75, 0.6]}, {}),
             ComparisonRow(SETTING, "d", {}, {0: "the loss is not finite"}),
             ComparisonRow(SETTING, "e|{}", {0: [0.1, 0.1]}, {1: "x"}),
             ComparisonRow(SETTING, "f", {0: [0.68, 0.4], 1: [0.68, 0.4]}, {})]  # more than a standard error below
    text = write_comparison(str(tmp_path), table)
    markdown = (tmp_path / "comparison.md").read_text()
    assert "| a_b | **80.00 ± 14.14** | 50.00 ± 0.00 | 50.00 ± 0.00 | **65.00 ± 7.07** |" in markdown
    assert "| c | **75.00 ± 0.00** | **60.00 ± 0.00** |" in markdown and "| d | failed |" in markdown
    assert "| f | 68.00 ± 0.00 |" in markdown
    assert r"a\_b & $\mathbf{80.00 \pm 14.14}$ & $50.00 \pm 0.00$" in (tmp_path / "comparison.tex").read_text()
    assert r"| e\|{} (1 of 2 runs) | 10.00 |" in markdown
    assert r"e|\{\} (1 of 2 runs)" in (tmp_path / "comparison.tex").read_text()
    assert "80.00 ± 14.14*" in text and "failed: d, seed 0" in text
    assert "worst" in text and "s = 1" not in text and "s = 1" in write_comparison(str(tmp_path), table, True)


def test_the_time_that_is_left_is_that_of_the_work_that_is_left(monkeypatch):
    times = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr(losses.comparison.eta, "time", SimpleNamespace(monotonic=lambda: next(times)))
    clock = losses.comparison.eta.EtaEstimator([1, 3, 5], [0, 1])
    assert str(clock) == ""
    clock.end(0)
    assert str(clock) == ", about 30 s left"
    clock.end(1, failed=True)
    assert str(clock) == ", about 0 s left"


def test_the_tables_of_a_terminal_have_80_columns(tmp_path):
    table = [ComparisonRow(SETTING, "sharpdro_agnostic balanced", {0: [1.0] * 6, 1: [0.0] * 6}, {}),
             ComparisonRow(SETTING, "erm", {0: [1.0] * 6, 1: [0.5] * 6}, {})]
    text = write_comparison(str(tmp_path), table)
    assert "100.00" not in text and "75.00 ± 35.36*" in text
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 80


def test_differences_are_paired_by_seed(tmp_path):
    """Seeds that differ by ten points, and a method that is one point better with each of them."""
    table = [ComparisonRow(SETTING, "failed", {}, {0: "x"}),
             ComparisonRow(SETTING, "erm", {0: [0.9, 0.5], 1: [0.8, 0.6], 2: [0.7, 0.7]}, {}),
             ComparisonRow(SETTING, "better", {2: [0.71, 0.72], 0: [0.91, 0.51]}, {1: "x"}),
             ComparisonRow(SETTING, "one seed", {0: [0.2, 0.2]}, {})]
    write_comparison(str(tmp_path), table)
    text = (tmp_path / "comparison.md").read_text().split("test accuracy minus that of erm, paired by seed")[1]
    assert text.splitlines()[2:6] == ["| method | seeds | s = 0 | s = 1 | mean |", "|" + " --- |" * 5,
                                      "| better | 2 | +1.00 ± 0.00 | +1.50 ± 0.71 | +1.25 ± 0.35 |", ""]
    write_comparison_page(str(tmp_path), table, {}, {})
    assert "+1.50 ± 0.71" in (tmp_path / "report.html").read_text()


def test_each_run_has_a_line_in_comparison_runs_csv(tmp_path):
    write_comparison(str(tmp_path), [
        ComparisonRow(SETTING, "erm", {0: [0.9, 0.5], 1: [0.81239, 0.6]}, {2: "x"}, validation={0: [0.5, None]}),
        ComparisonRow(SETTING, "failed", {}, {0: "x"})])
    assert (tmp_path / "comparison_runs.csv").read_text().splitlines() == [
        "dataset,corruption,model,method,seed,severity_0,severity_1,val_severity_0,val_severity_1",
        "cifar10,fog,wideresnet,erm,0,90.0,50.0,50.0,", "cifar10,fog,wideresnet,erm,1,81.239,60.0,,"]


def test_validation_accuracy_is_a_table_of_its_own(tmp_path):
    table = [ComparisonRow(SETTING, "erm", {0: [0.9, 0.5], 1: [0.7, 0.5]}, {},
                           validation={0: [0.5, 0.3], 1: [0.7, 0.3]}),
             ComparisonRow(SETTING, "without", {0: [0.9, 0.5]}, {}, validation={0: [0.5, None]}),
             ComparisonRow(SETTING, "failed", {}, {0: "the loss is not finite"}),
             ComparisonRow(SETTING, "one seed", {0: [0.9, 0.5]}, {}, validation={0: [0.5, 0.4]})]
    write_comparison(str(tmp_path), table)
    ours = (tmp_path / "comparison.md").read_text().split("validation accuracy")[1].splitlines()[2:6]
    assert ours == ["| method | s = 0 | s = 1 |", "| --- | --- | --- |",
                    "| erm | **60.00 ± 14.14** | 30.00 ± 0.00 |", "| one seed | **50.00** | **40.00** |"]
    erm, without, failed, item = read_csv(tmp_path / "comparison.csv")
    assert (erm["val_severity_1_mean"], item["val_severity_1_mean"], item["val_severity_1_std"]) == ("30.0", "40.0", "")
    assert {row["val_severity_0_mean"] for row in (without, failed)} == {""}
    write_comparison_page(str(tmp_path), table, {}, {})
    page = (tmp_path / "report.html").read_text()
    assert "40.00" in page.split("Validation accuracy")[1] and "40.00" not in page.split("Validation accuracy")[0]


@pytest.mark.parametrize("seconds, text", [
    (12.3, "12 s"), (59.9, "1 min"), (3700, "1 h 2 min"), (200000, "2 d 7 h 33 min")])
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


def test_published_numbers_stand_under_the_measured_ones(tmp_path):
    """Mean over seeds minus the published mean, in percentage points, in the tables, the CSV file and the page."""
    published = next(row for row in read_published() if row.method == "erm")
    table = [ComparisonRow(SETTING, "erm", {0: [0.92, 0.5], 1: [0.90, 0.5]}, {}, published=published),
             ComparisonRow(SETTING, "own", {0: [0.5, 0.5]}, {}),
             ComparisonRow(SETTING, "failed", {}, {0: "x"}, published=published)]
    text = write_comparison(str(tmp_path), table).splitlines()
    start = text.index("erm beside Huang 2023, Table 1")
    assert [line.split() for line in text[start + 2:start + 5]] == [
        ["0", "91.00", "±", "1.41", "90.9", "±", "0.02", "+0.10"],
        ["1", "50.00", "±", "0.00", "89.2", "±", "0.02", "-39.20"], []]
    assert max(len(line) for line in text if str(tmp_path) not in line) <= 80
    markdown = (tmp_path / "comparison.md").read_text()
    assert "|   Huang 2023, Table 1 | 90.9 ± 0.02 | 89.2 ± 0.02 |\n|   difference | +0.10 | -39.20 |" in markdown
    rows = read_csv(tmp_path / "comparison.csv")
    assert [(row["published_0"], row["published_std_0"], row["difference_0"], row["difference_1"]) for row in rows] == [
        ("90.9", "0.02", "0.1", "-39.2"), ("", "", "", ""), ("", "", "", "")]
    assert [row["published"] for row in rows] == ["Huang 2023, Table 1", "", "Huang 2023, Table 1"]
    write_comparison_page(str(tmp_path), table, {}, {})
    page = (tmp_path / "report.html").read_text()
    assert "Test accuracy in percent beside the published numbers" in page and ">-39.20<" in page


def test_published_errors_of_an_evaluation():
    """The numbers are of ImageNet-C for the fifteen common corruptions, and of ImageNet-C-bar for its ten."""
    source = SimpleNamespace(name="imagenet")
    config = {"recipe": "damp/imagenet", "title": "damp", "dataset": "imagenet", "method": "damp"}

    def found(names, config=config, severities=(1, 2, 3, 4, 5), model="resnet50_damp", epochs=90):
        test = SimpleNamespace(names=list(names), severities=severities, source=source)
        row = published_errors(config, model, test, epochs)
        return row and (row.corruption, row.numbers[1])
    assert found(COMMON) == ("ImageNet-C", 38.2) and found(IMAGENET_C_BAR) == ("ImageNet-C-bar", 42.4)
    assert found(COMMON, {**config, "total_epoch": 90}, epochs=None) == ("ImageNet-C", 38.2)  # converted weights
    assert set(IMAGENET_C_BAR) < set(SETS["bar"])
    for other in ({"names": COMMON[:3]}, {"names": COMMON, "severities": (3,)}, {"names": COMMON, "epochs": 5},
                  {"names": COMMON, "config": {}}, {"names": COMMON, "model": "resnet50"}):
        assert found(**other) is None
