"""Figures: what they show is what the records say; files, metadata, bad input."""
import json
import os

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from utils.figures import FIGURES
from utils.figures.__main__ import main
from utils.records.reading import read_records


def make_run(folder, name="erm", seed=0, accuracy=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4), norms=None, **config):
    os.makedirs(folder)
    config = {"dataset": "cifar10", "corruption": "fog", "num_severity": 6, "method": name, "title": name, "seed": seed,
              "rho": None, "sigma": None, **config}
    for file, content in (("config.json", config), ("results.json", {"test": {"accuracy": list(accuracy)}})):
        with open(os.path.join(folder, file), "w") as output:
            json.dump(content, output)
    for s in range(6):
        with open(os.path.join(folder, f"val_robust_{s}.csv" if s else "val_clean.csv"), "w") as output:
            output.write(f"epoch,gradnorm_0\n0,9\n1,{'' if norms is None else norms[s]}\n")
    columns = [f"{name}_{s}" for s in range(6) for name in ("processed_distribution_counts", "distribution_loss",
                                                            "distribution_acc", "adv_prob")]
    with open(os.path.join(folder, "train.csv"), "w") as output:
        output.write(",".join(["epoch", "batch", *columns]) + "\n")
        for k in range(4):
            cells = [cell for s in range(6) for cell in (int(s < 5 or k == 3), s + k, 0.5, (s + 1) / 21)]
            output.write(",".join(map(str, [k // 2, k % 2 * 10, *cells])) + "\n")
    return str(folder)


def drawn(name, *folders):
    [(_, figure)] = FIGURES[name].draw(read_records(folders))
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


def test_gradient_norms_are_the_last(tmp_path):
    lines = drawn("gradnorm", make_run(tmp_path / "a", norms=[1, 2, 3, 4, 5, 6]))
    np.testing.assert_allclose(lines["erm"][1], [1, 2, 3, 4, 5, 6])


def test_sweeps(tmp_path):
    runs = [make_run(tmp_path / f"r{rho}", "sam", 0, [0.9 - rho] * 6, rho=rho) for rho in (0.5, 0.1)]
    lines = drawn("rho", *runs, make_run(tmp_path / "erm"))
    np.testing.assert_allclose(lines["severity 3"][0], [0.1, 0.5])
    np.testing.assert_allclose(lines["severity 3"][1], [80, 40])
    runs = [make_run(tmp_path / f"s{sigma}", "damp", 0, [0.9, 0.8, 0.7, 0.6, 0.5, 0.3], sigma=sigma)
            for sigma in (0.1, 0.2)]
    lines = drawn("sigma", *runs)
    assert [values[1][0] for values in lines.values()] == pytest.approx([10, 30, 60])


def test_training_leaves_out_what_a_batch_lacks(tmp_path):
    [(name, figure)] = FIGURES["training"].draw(read_records([make_run(tmp_path / "a", seed=3)]))
    loss, _, weights = figure.axes
    assert name == "training_erm_seed3" and len(loss.get_lines()) == 6
    np.testing.assert_allclose(loss.get_lines()[1].get_xdata(), [0, 10 / 11, 1, 1 + 10 / 11])
    np.testing.assert_allclose(loss.get_lines()[1].get_ydata(), [1, 2, 3, 4])
    np.testing.assert_allclose(loss.get_lines()[5].get_ydata(), [8])
    np.testing.assert_allclose(weights.get_lines()[5].get_ydata(), [6 / 21] * 4)
    plt.close(figure)


def test_twelve_methods_have_looks_of_their_own_and_nothing_overlaps(tmp_path):
    folders = [make_run(tmp_path / f"{k}", f"method_{k}") for k in range(12)]
    [(_, figure)] = FIGURES["accuracy"].draw(read_records(folders))
    figure.canvas.draw()
    lines = figure.axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12
    [legend] = figure.legends
    boxes = [legend.get_window_extent(), figure.axes[0].get_tightbbox()]
    assert not boxes[0].overlaps(boxes[1])
    assert all(box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y0 >= -1 for box in boxes)
    plt.close(figure)


def test_files_carry_command_and_version(tmp_path, capsys, monkeypatch):
    run = make_run(tmp_path / "a")
    monkeypatch.setattr("sys.argv", ["figures", "accuracy", "a"])
    for _ in range(2):  # the same bytes again
        main(["accuracy", run, "-o", str(tmp_path / "out")])
        content = (tmp_path / "out" / "accuracy.svg").read_bytes()
    main(["accuracy", run, "-o", str(tmp_path / "out")])
    assert content == (tmp_path / "out" / "accuracy.svg").read_bytes() and b"figures accuracy a" in content
    with Image.open(tmp_path / "out" / "accuracy.png") as image:
        assert image.text["Description"] == "figures accuracy a" and "mindspore" in image.text["Software"]
        assert image.width == 1050


@pytest.mark.parametrize("argv, culprit", [
    (["pie", "RUN"], "pie"),
    (["accuracy", "nowhere"], "nowhere: not the folder of a run"),
    (["accuracy", "RUN", "OTHER"], "its data (photos, fog, 6) are not those"),
    (["accuracy", "GOING"], "has not ended"),
    (["gradnorm", "RUN"], "--record_norm"),
    (["rho", "RUN"], "two values of --rho"),
    (["training", "BROKEN"], "train.csv: missing or damaged"),
])
def test_bad_input_is_one_line(tmp_path, capsys, argv, culprit):
    folders = {"RUN": make_run(tmp_path / "run"), "OTHER": make_run(tmp_path / "other", dataset="photos"),
               "GOING": make_run(tmp_path / "going"), "BROKEN": make_run(tmp_path / "broken")}
    os.remove(tmp_path / "going" / "results.json")
    (tmp_path / "broken" / "train.csv").write_text("epoch,batch\n0,x\n")
    with pytest.raises(SystemExit) as stop:
        main([folders.get(word, word) for word in argv])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and culprit in line
