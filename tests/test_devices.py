"""Several devices that train together; slow, because msrun starts processes."""
import os
import subprocess
import sys

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORKER = """
import sys
sys.path.insert(0, {root!r})
import utils.device
import numpy as np
from mindspore.communication import init
from losses import create_step
from tests import crosscheck
from tests.test_methods import perceptron_params
init()
step = create_step(crosscheck.Perceptron(perceptron_params()), "damp", 3)
np.save({folder!r} + "/noise" + str(utils.device.rank()), step.perturbation.numbers().asnumpy())
"""


@pytest.mark.slow
def test_each_device_draws_its_own_noise(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(root=ROOT, folder=str(tmp_path)))
    subprocess.run([os.path.join(os.path.dirname(sys.executable), "msrun"), "--worker_num=2", "--local_worker_num=2",
                    "--join=True", f"--log_dir={tmp_path / 'msrun'}", str(script)],
                   check=True, capture_output=True, timeout=300, cwd=tmp_path,
                   env={**os.environ, "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]})
    one, two = (np.load(tmp_path / f"noise{rank}.npy") for rank in (0, 1))
    assert one.shape == two.shape and abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(one.size)
