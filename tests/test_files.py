"""Files that are whole or not there, and locks."""
import errno
import os
import subprocess
import sys

import pytest

from utils import files
from utils.errors import UserError
from utils.files import locked, replacing

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def test_content_is_synced_before_the_name_is_there(tmp_path, monkeypatch):
    path = tmp_path / "whole.txt"
    seen = []
    real = os.fsync

    def sync(descriptor):
        seen.append((os.fstat(descriptor).st_size, path.exists()))
        real(descriptor)
    monkeypatch.setattr(files.os, "fsync", sync)
    with replacing(path) as temporary, open(temporary, "w") as file:
        file.write("content")
    assert seen == [(7, False)] and path.read_text() == "content" and os.listdir(tmp_path) == ["whole.txt"]


def test_a_lock_names_its_owner_and_goes_with_it(tmp_path):
    path = str(tmp_path / ".lock")
    code = (f"import sys; sys.path.insert(0, {ROOT!r}); from utils.files import locked\n"
            f"with locked({path!r}, 'x'):\n print('held', flush=True); sys.stdin.read()")
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"results: process {owner.pid} on .* is writing this"), \
            locked(path, "results"):
        pass
    owner.kill()  # as a power cut would: the file stays, the lock does not
    owner.communicate()
    assert os.path.exists(path)
    with locked(path, "results"), pytest.raises(UserError, match=f"process {os.getpid()}"), locked(path, "results"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_file_that_its_last_owner_has_removed_is_opened_anew(tmp_path, monkeypatch):
    path = str(tmp_path / ".lock")
    real, calls = files.fcntl.flock, []

    def slow(file, operation):
        calls.append(operation)
        if len(calls) == 1:  # the last owner ends between opening and locking
            os.remove(path)
        real(file, operation)
    monkeypatch.setattr(files.fcntl, "flock", slow)
    with locked(path, "results"):
        assert len(calls) == 2 and os.path.exists(path)


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def unsupported(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(files.fcntl, "flock", unsupported)
    with locked(str(tmp_path / ".lock"), "results"):
        pass
    assert "warning: results: cannot be locked" in capsys.readouterr().err
    monkeypatch.setattr(files.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(OSError, match="I/O error"), locked(str(tmp_path / ".lock"), "results"):
        pass
