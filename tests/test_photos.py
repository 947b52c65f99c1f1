"""Every method on real images, two epochs each; slow."""
import csv
import json
import os

import numpy as np
import pytest

import main
from losses.methods import METHODS


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return str(tmp_path_factory.mktemp("data")), str(tmp_path_factory.mktemp("logs"))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_method_learns_something_in_two_epochs(folders, method):
    data_dir, log_dir = folders
    before = set(os.listdir(log_dir))
    main.main(["-d", "photos", "-m", "wideresnet10", "--method", method, "--total_epoch", "2", "--eval_every", "2",
               "--data_dir", data_dir, "--log_dir", log_dir, "--log_train", "10"])
    [name] = set(os.listdir(log_dir)) - before
    assert f"_{method}_" in name
    with open(os.path.join(log_dir, name, "results.json")) as file:
        results = json.load(file)
    for part in ("val", "test"):
        assert np.isfinite(results[part]["loss"]).all()
    assert results["test"]["accuracy"][0] > 0.15  # chance is 0.1, of 10 000 images
    with open(os.path.join(log_dir, name, "train.csv"), newline="") as file:
        losses = [float(row["avg_loss"]) for row in csv.DictReader(file)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
