"""Figures: what they show is what the records say; files, metadata, bad input."""
import importlib.util
import json
import os
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from corruptions.utils.errors import UserError
from losses.methods import METHODS
from utils.figures import FIGURES
from utils.figures.__main__ import main
from utils.figures.severity import accuracy_and_images
from utils.figures.style import command
from utils.figures.training import binned
from utils.records.machine import machine
from utils.records.reading import first_of_each_name, read_records


def make_run(folder, name="erm", seed=0, accuracy=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4), norms=None, **config):
    os.makedirs(folder)
    config = {"dataset": "cifar10", "corruption": "fog", "num_severity": 6, "method": name, "title": name, "seed": seed,
              "rho": None, "sigma": None, "model": "wideresnet10", **config}
    table = {"accuracy": list(accuracy), "loss": [1.5] * len(accuracy), "images": [20] * len(accuracy)}
    validation = {**table, "accuracy": [value / 2 for value in accuracy]}
    results = {"train_images": [9] * len(accuracy), "epochs": 2, "val": validation, "test": table}
    for file, content in (("config.json", config), ("results.json", results)):
        with open(os.path.join(folder, file), "w") as output:
            json.dump(content, output)
    for s in range(6):
        with open(os.path.join(folder, f"val_robust_{s}.csv" if s else "val_clean.csv"), "w") as output:
            output.write(f"epoch,gradnorm_0\n0,9\n1,{'' if norms is None else norms[s]}\n")
    with open(os.path.join(folder, "test_clean.csv"), "w") as output:
        output.write("epoch,batch\n0,15\n1,15\n")  # batches in an epoch
    columns = [f"{name}_{s}" for s in range(6) for name in ("processed_distribution_counts", "distribution_loss",
                                                            "distribution_acc", "adv_prob")]
    with open(os.path.join(folder, "train.csv"), "w") as output:
        output.write(",".join(["epoch", "batch", *columns]) + "\n")
        for k in range(4):
            cells = [cell for s in range(6) for cell in (int(s < 5 or k == 3), s + k, 0.5, (s + 1) / 21)]
            output.write(",".join(map(str, [k // 2, k % 2 * 10, *cells])) + "\n")
    return str(folder)


def drawn(name, *folders):
    [(_, figure)] = FIGURES[name].draw(read_records(folders, FIGURES[name].shared, FIGURES[name].shown))
    lines = {line.get_label(): (line.get_xdata(), np.asarray(line.get_ydata(), float))
             for axes in figure.axes for line in axes.get_lines() if not line.get_label().startswith("_")}
    plt.close(figure)
    return lines


def test_accuracy_is_the_mean_over_runs_of_one_name(tmp_path):
    folders = [make_run(tmp_path / "a", "erm", 0, [0.9] * 6), make_run(tmp_path / "b", "erm", 1, [0.7] * 6),
               make_run(tmp_path / "c", "sam", 0, np.linspace(1, 0, 6))]
    lines = drawn("accuracy", *folders)
    np.testing.assert_allclose(lines["erm"][1], [80] * 6)
    np.testing.assert_allclose(lines["sam"][1], [100, 80, 60, 40, 20, 0])
    [(_, figure)] = FIGURES["accuracy"].draw(read_records(folders))
    [band] = figure.axes[0].collections  # of erm alone, which has two runs: 80 plus and minus the deviation
    assert np.ptp(band.get_paths()[0].vertices[:, 1]) == pytest.approx(2 * np.std([90, 70], ddof=1))
    plt.close(figure)


def test_many_lines_have_error_bars(tmp_path):
    folders = [make_run(tmp_path / f"{name}{seed}", name, seed, [0.9 - 0.2 * seed - 0.1 * k] * 6)
               for k, name in enumerate(("erm", "sam", "asam", "damp")) for seed in (0, 1)]
    [(_, figure)] = FIGURES["accuracy"].draw(read_records(folders))
    for k, container in enumerate(figure.axes[0].containers):
        line, _, [bars] = container.lines
        assert line.get_ydata()[0] == pytest.approx(80 - 10 * k)
        assert np.ptp(bars.get_segments()[0][:, 1]) == pytest.approx(2 * np.std([90, 70], ddof=1))
    assert len(figure.axes[0].containers) == 4
    plt.close(figure)


def test_the_figure_of_a_run_has_its_accuracy_and_its_images():
    top, bottom = accuracy_and_images([0.9, 0.5], [7, 3], "a run").axes
    assert top.get_lines()[0].get_ydata().tolist() == [90, 50]
    assert [bar.get_height() for bar in bottom.patches] == [7, 3]


@pytest.mark.parametrize("config, names", [
    ({"lr": [0.1, 0.01], "seed": [0, 1]}, ["erm, lr 0.1", "erm, lr 0.01"]),
    ({"total_epoch": [1, 2]}, ["erm, total_epoch 1", "erm, total_epoch 2"]),
    ({"nesterov": [True, False]}, ["erm, nesterov", "erm, no-nesterov"]),
    ({"split": [None, "a.csv"]}, ["erm", "erm, split a.csv"]),
    ({"images_sha256": [{"train": 64 * "a", "test": "c"}, {"train": 64 * "b", "test": "c"}]},
     [f"erm, train images, hashed by an earlier version {8 * sign}" for sign in "ab"]),
    ({"images_sha256": [{"train": 64 * "a"}, None], "fingerprints": [{}, {"train": {"pixels": "b"}}]},
     ["erm", "erm"]),  # two kinds of hashes say nothing of each other
    ({"fingerprints": [{"test_corrupted": {"pixels": pixels}} for pixels in "ab"]},
     ["erm, test corrupted images 69470951", "erm, test corrupted images 4493e18d"]),
    ({"fingerprints": [{"test_corrupted": {"pixels": "a"}}] * 2, "seed": [0, 1]}, ["erm", "erm"]),
    ({"split": ["a.csv", "b.csv"], "split_sha256": [64 * "c"] * 2}, ["erm", "erm"]),
    ({"recipe": ["sharpdro", "damp"], "lr": [0.1, 0.2], "sampler": ["replacement", "permutation"],
      "given": [{}, {"recipe": "damp"}]}, ["erm, recipe sharpdro", "erm, recipe damp"]),
    ({"recipe": ["a", "b"]}, ["erm", "erm"]),  # two names for the same settings
    ({"seed": [0, 1], "data_dir": ["a", "b"], "filelist_dir": ["a/x", "b/x"], "log_dir": ["c", "d"], "num_workers":
      [1, 2], "device": ["CPU", "GPU"], "save_best": [True, False], "init_checkpoint": ["e", "f"]}, ["erm", "erm"]),
    ({"fast_math": [None, False]}, ["erm", "erm"]), ({"fast_math": [False, True]}, ["erm", "erm, fast_math"])])
def test_runs_that_differ_in_more_than_the_seed_have_names_of_their_own(tmp_path, config, names):
    runs = [make_run(tmp_path / str(k), **{option: values[k] for option, values in config.items()}) for k in (0, 1)]
    records = read_records(runs)
    assert [record.name for record in records] == names
    assert len(first_of_each_name(records)) == len(set(names)) == len(drawn("accuracy", *runs))


def test_a_run_of_a_comparison_that_has_not_ended_is_left_out_with_a_word(tmp_path, capsys):
    runs = [make_run(tmp_path / str(k), seed=k) for k in range(3)]
    plan = [{"folder": str(k), "name": "erm", "given": {}} for k in range(3)]
    (tmp_path / "comparison.json").write_text(json.dumps(plan))
    os.remove(tmp_path / "2" / "results.json")
    assert [record.path for record in read_records([str(tmp_path)])] == runs[:2]
    assert capsys.readouterr().err == f"warning: {runs[2]}: is left out, it has not ended\n"


def test_two_runs_of_one_seed_are_named(tmp_path, capsys):
    runs = [make_run(tmp_path / str(k), rho=rho, seed=seed) for k, (rho, seed) in enumerate([(1, 0), (1, 1), (2, 0)])]
    read_records(runs)
    read_records(runs, shown=("rho",))
    assert capsys.readouterr().err == ""
    read_records([*runs, make_run(tmp_path / "copy", rho=1, seed=1)], shown=("rho",))
    assert capsys.readouterr().err == (f"warning: {tmp_path}/copy: has the settings and the seed of {runs[1]}; where "
                                       "seeds are averaged, both count\n")


def test_a_setting_that_a_run_did_not_have_yet_does_not_tell_it_apart(tmp_path):
    runs = [make_run(tmp_path / "a", crop="none"), make_run(tmp_path / "b", seed=1), make_run(tmp_path / "c", new=3)]
    assert {record.name for record in read_records(runs)} == {"erm"}


def test_a_sweep_does_not_mix_runs_that_differ_in_more(tmp_path):
    runs = [make_run(tmp_path / f"{rho}{rate}", "sam", rho=rho, lr=rate) for rate in (0.1, 0.2) for rho in (1, 2)]
    [(_, figure)] = FIGURES["rho"].draw(read_records(runs, shown=FIGURES["rho"].shown))
    assert [axes.get_title() for axes in figure.axes] == ["sam, lr 0.1", "sam, lr 0.2"]
    plt.close(figure)


def test_gradient_norms_are_the_last(tmp_path):
    lines = drawn("gradnorm", make_run(tmp_path / "a", norms=[1, 2, 3, 4, 5, 6]))
    np.testing.assert_allclose(lines["erm"][1], [1, 2, 3, 4, 5, 6])


def test_sweeps(tmp_path):
    runs = [make_run(tmp_path / f"r{rho}", "sam", 0, [0.9 - rho] * 6, rho=rho) for rho in (0.5, 0.1)]
    lines = drawn("rho", *runs, make_run(tmp_path / "erm"))
    np.testing.assert_allclose(lines["severity 3"][0], [0.1, 0.5])
    np.testing.assert_allclose(lines["severity 3"][1], [80, 40])
    more = [*runs, make_run(tmp_path / "second", "sam", 1, [0.5, 0.5, 0.5, 0.6, 0.5, 0.5], rho=0.1)]
    [(_, figure)] = FIGURES["rho"].draw(read_records(more, shown=("rho",)))
    bars = figure.axes[0].containers[3].lines[2][0].get_segments()  # of severity 3, at rho 0.1 and 0.5
    assert [np.ptp(bar[:, 1]) for bar in bars] == pytest.approx([2 * np.std([80, 60], ddof=1), 0])
    plt.close(figure)
    runs = [make_run(tmp_path / f"s{sigma}", "damp", 0, [0.9, 0.8, 0.7, 0.6, 0.5, 0.3], sigma=sigma)
            for sigma in (0.1, 0.2)]
    runs += [make_run(tmp_path / f"erm{seed}", "erm", seed, [0.8] * 6) for seed in (0, 1)]
    lines = drawn("sigma", *runs)
    assert [values[1][0] for name, values in lines.items() if name != "erm"] == pytest.approx([10, 30, 60])
    assert "erm" in lines  # in the legend
    [(_, figure)] = FIGURES["sigma"].draw(read_records(runs, shown=("sigma",)))
    levels = [line.get_ydata() for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2 and
              line.get_linestyle() == "--"]
    assert len(figure.axes) == 1 and levels == [pytest.approx([20, 20])] * 3
    plt.close(figure)


def test_a_point_of_a_training_is_a_mean_over_enough_images():
    counts, values, times = np.array([3, 0, 2, 4, 6, 1, 2]), np.arange(7.0), np.arange(7.0) / 10
    time, value = binned(times, values, counts, 5)
    # Rows 0 and 2 have five images, rows 3 and 4 ten, and the last three images join them.
    np.testing.assert_allclose(value, [4 / 5, (3 * 4 + 4 * 6 + 5 + 6 * 2) / 13])
    np.testing.assert_allclose(time, value / 10)
    for few in (np.array([3, 0]), np.array([0, 1])):
        assert binned(np.zeros(2), np.array([2.0, 7.0]), few, 5)[1].tolist() == [[2.0], [7.0]][int(few[1])]
    assert len(binned(np.zeros(2), np.zeros(2), np.zeros(2, int), 5)[0]) == 0


def test_training_leaves_out_what_a_batch_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["utils.figures.training"], "LEAST_IMAGES", 1)
    [(name, figure)] = FIGURES["training"].draw(read_records([make_run(tmp_path / "a", seed=3)]))
    loss, accuracy, weights = figure.axes
    assert {value for line in accuracy.get_lines() for value in line.get_ydata()} == {0.5}
    assert name == "training_erm_seed3" and len(loss.get_lines()) == 6
    np.testing.assert_allclose(loss.get_lines()[1].get_xdata(), [0, 10 / 15, 1, 1 + 10 / 15])
    np.testing.assert_allclose(loss.get_lines()[1].get_ydata(), [1, 2, 3, 4])
    np.testing.assert_allclose(loss.get_lines()[5].get_ydata(), [8])
    np.testing.assert_allclose(weights.get_lines()[5].get_ydata(), [6 / 21] * 4)
    assert {line.get_marker() for line in loss.get_lines()} != {""} and loss.get_lines()[5].get_marker() != ""
    plt.close(figure)


def test_many_rows_of_a_training_are_lines_without_markers(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["utils.figures.training"], "LEAST_IMAGES", 1)
    run = make_run(tmp_path / "a")
    head, *lines = (tmp_path / "a" / "train.csv").read_text().splitlines()
    rows = [",".join([str(k // 15), str(k % 15), *lines[0].split(",")[2:]]) for k in range(30)]
    (tmp_path / "a" / "train.csv").write_text("\n".join([head, *rows]) + "\n")
    [(_, figure)] = FIGURES["training"].draw(read_records([run]))
    line, *_ = figure.axes[0].get_lines()
    assert line.get_marker() in ("", "None") and line.get_xdata()[-1] == 1 + 14 / 15
    plt.close(figure)


def test_all_methods_have_looks_of_their_own_and_nothing_overlaps(tmp_path):
    folders = [make_run(tmp_path / f"{k}", f"method_{k}") for k in range(len(METHODS))]
    [(_, figure)] = FIGURES["accuracy"].draw(read_records(folders))
    figure.canvas.draw()
    lines = figure.axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(METHODS)
    [legend] = figure.legends
    boxes = [legend.get_window_extent(), figure.axes[0].get_tightbbox()]
    assert not boxes[0].overlaps(boxes[1])
    assert all(box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y0 >= -1 for box in boxes)
    plt.close(figure)


def test_files_carry_command_and_version(tmp_path, capsys, monkeypatch):
    run = make_run(tmp_path / "a")
    monkeypatch.setattr("sys.argv", ["/a/path/utils/figures/__main__.py", "accuracy", "a"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", importlib.util.find_spec("utils.figures.__main__"))
    for _ in range(2):  # the same bytes again
        main(["accuracy", run, "-o", str(tmp_path / "out")])
        content = (tmp_path / "out" / "accuracy.svg").read_bytes()
    main(["accuracy", run, "-o", str(tmp_path / "out")])
    assert content == (tmp_path / "out" / "accuracy.svg").read_bytes()
    typed = "python -m utils.figures accuracy a"
    assert f">{typed}<".encode() in content
    with Image.open(tmp_path / "out" / "accuracy.png") as image:
        assert image.text["Description"] == typed and "mindspore" in image.text["Software"]
        assert image.width == 1050
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr("sys.argv", ["main.py", "-d", "photos"])
    assert command() == "python main.py -d photos"


@pytest.mark.parametrize("argv, culprit", [
    (["pie", "RUN"], "pie"),
    (["accuracy", "nowhere"], "nowhere: not the folder of a run"),
    (["accuracy", "RUN", "OTHER"], "its data (photos, fog, wideresnet10, 6) are not those"),
    (["accuracy", "GOING"], "has not ended"),
    (["gradnorm", "RUN"], "--record_norm"),
    (["rho", "RUN"], "two values of --rho at least"),
    (["training", "BROKEN"], "train.csv: missing or damaged"),
    (["accuracy", "FOREIGN"], "not the folder of a run"),
    (["sigma", "FEW"], "sigma: needs runs with all severities"),
])
@pytest.mark.filterwarnings("error")
def test_bad_input_is_one_line(tmp_path, capsys, argv, culprit):
    folders = {"RUN": make_run(tmp_path / "run"), "OTHER": make_run(tmp_path / "other", dataset="photos"),
               "GOING": make_run(tmp_path / "going"), "BROKEN": make_run(tmp_path / "broken")}
    folders["FEW"] = make_run(tmp_path / "few", accuracy=(0.9, 0.8, 0.7), num_severity=3, sigma=0.1)
    os.remove(tmp_path / "going" / "results.json")
    folders["FOREIGN"] = make_run(tmp_path / "foreign")
    (tmp_path / "foreign" / "config.json").write_text('{"hidden_size": 768}')
    (tmp_path / "broken" / "train.csv").write_text("epoch,batch\n0,x\n")
    with pytest.raises(SystemExit) as stop:
        main([folders.get(word, word) for word in argv])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and culprit in line


def test_networks_are_not_averaged(tmp_path, capsys):
    """Runs of several are refused; a comparison of several has a figure for each."""
    plan = [{"folder": model, "name": "erm", "given": {}} for model in ("wideresnet", "wideresnet10")]
    for run in plan:
        make_run(tmp_path / run["folder"], model=run["folder"])
    (tmp_path / "comparison.json").write_text(json.dumps(plan))
    with pytest.raises(UserError, match="draw them apart"):
        read_records([str(tmp_path / run["folder"]) for run in plan])
    main(["accuracy", str(tmp_path), "-o", str(tmp_path / "out")])
    assert set(os.listdir(tmp_path / "out")) == {f"accuracy_cifar10_fog_{model}_6.{kind}" for kind in ("png", "svg")
                                                 for model in ("wideresnet", "wideresnet10")}


def test_runs_of_several_machines_and_versions_of_the_code_are_averaged(tmp_path):
    """A comparison may grow over days. Each entry that a run records about its machine may differ."""
    paths = [make_run(tmp_path / f"{seed}", seed=seed, **{key: f"{key} {seed}" for key in machine("CPU")})
             for seed in range(2)]
    assert [record.name for record in read_records(paths)] == ["erm", "erm"]


def test_a_run_of_a_comparison_keeps_its_name(tmp_path):
    make_run(tmp_path / "b", "sharpdro")
    (tmp_path / "comparison.json").write_text(json.dumps([{"folder": "b", "name": "balanced", "given": {}}]))
    [record] = read_records([str(tmp_path / "b")])
    assert record.name == "balanced"
    with pytest.raises(UserError, match="is named twice"):
        read_records([str(tmp_path / "b"), str(tmp_path / "b" / ".." / "b")])


def test_a_sweep_has_a_panel_for_each_row(tmp_path):
    """Runs that differ in anything else are not averaged."""
    plan = []
    for rho in (0.1, 0.2):
        for rate in (0.1, 0.01):
            name = f"sam rho={rho} lr={rate}"
            plan.append({"folder": name, "name": name, "given": {}})
            make_run(tmp_path / name, "sam", 0, [rho + rate] * 6, rho=rho, lr=rate)
    (tmp_path / "comparison.json").write_text(json.dumps(plan))
    [(_, figure)] = FIGURES["rho"].draw(read_records([str(tmp_path)], shown=("rho",)))
    assert [axes.get_title() for axes in figure.axes] == ["sam lr=0.1", "sam lr=0.01"]
    np.testing.assert_allclose(figure.axes[1].get_lines()[0].get_ydata(), [11, 21])
    plt.close(figure)


def test_files_of_runs_of_one_name_do_not_replace_each_other(tmp_path, capsys):
    runs = [make_run(tmp_path / name, "w/o balance") for name in ("a", "b")]
    main(["training", *runs, "-o", str(tmp_path / "out")])
    assert sorted(os.listdir(tmp_path / "out")) == [f"training_w-o-balance_seed0{number}.{kind}"
                                                    for number in ("", "_2") for kind in ("png", "svg")]


def test_environments_have_a_legend_of_their_own(tmp_path):
    run = make_run(tmp_path / "a", "eiil")
    text = (tmp_path / "a" / "train.csv").read_text().splitlines()
    lines = [text[0].replace("adv_prob_0", "adv_prob_environment_0").replace("adv_prob_1", "adv_prob_environment_1")]
    for s in range(2, 6):
        lines[0] = lines[0].replace(f"adv_prob_{s}", f"unread_{s}")
    (tmp_path / "a" / "train.csv").write_text("\n".join(lines + text[1:]) + "\n")
    [(_, figure)] = FIGURES["training"].draw(read_records([run]))
    loss, _, weights = figure.axes
    assert [text.get_text() for text in weights.get_legend().get_texts()] == ["environment 0", "environment 1"]
    shown = {(line.get_color(), line.get_linestyle()) for line in loss.get_lines()}
    assert not shown & {(line.get_color(), line.get_linestyle()) for line in weights.get_lines()}
    plt.close(figure)


@pytest.mark.filterwarnings("error")
def test_long_names_are_not_cut_off(tmp_path):
    names = [f"sharpdro objective=group_dro perturbation=multiplicative sigma=0.{k} lr=0.05" for k in range(12)]
    [(_, figure)] = FIGURES["accuracy"].draw(read_records([make_run(tmp_path / f"{k}", name)
                                                           for k, name in enumerate(names)]))
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1
    plt.close(figure)
