"""Fixtures that tests share. MindSpore graphs are slow to compile, so those that several tests use are built once."""
from utils.runtime.device import set_up_device  # noqa: I001, first: it sets the environment that MindSpore reads

import os
import signal
import tempfile

import pytest

from tests.cifar_files import make_cifar

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores for programs in the background
set_up_device()  # whatever it is, it computes in full float32, as runs do


@pytest.fixture(scope="module")
def cifar_dir(tmp_path_factory):
    """A data folder with a small CIFAR-10 of random images."""
    folder = str(tmp_path_factory.mktemp("data"))
    make_cifar(folder)
    return folder


@pytest.fixture
def open_folder():
    """A new folder that other users may read; those of pytest are closed to them."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield folder
