"""Files that are whole or not there, and locks."""
import errno
import os
import subprocess
import sys
import tempfile

import pytest

from corruptions.utils import files, locks
from corruptions.utils.errors import UserError
from corruptions.utils.files import atomic_write, make_folder, remove_temporary
from corruptions.utils.locks import file_lock

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def test_content_is_synced_before_the_name_is_there(tmp_path, monkeypatch):
    path = tmp_path / "whole.txt"
    seen = []
    real = os.fsync

    def sync(descriptor):
        seen.append((os.fstat(descriptor).st_size, path.exists()))
        real(descriptor)
    monkeypatch.setattr(files.os, "fsync", sync)
    with atomic_write(path) as temporary, open(temporary, "w") as file:
        file.write("content")
    assert seen == [(7, False)] and path.read_text() == "content" and os.listdir(tmp_path) == ["whole.txt"]


@pytest.mark.parametrize("name", ["x" * 251 + ".jpg", "\u00e4" * 125 + "x.jpg", "\u00e4" * 125 + ".jpeg"])
def test_names_as_long_as_file_systems_have_them(tmp_path, name):
    assert len(os.fsencode(name)) == 255
    with atomic_write(tmp_path / name) as temporary:
        assert os.path.splitext(temporary)[1] == os.path.splitext(name)[1]
        with open(temporary, "w") as file:
            file.write("content")
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(OSError) as failed, atomic_write(tmp_path / f"x{name}") as temporary:
        open(temporary, "w").close()
    assert failed.value.filename == str(tmp_path / f"x{name}") and os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["[1].csv", "x" * 251 + ".csv"])
def test_temporary_files_of_a_name_are_removed(tmp_path, name):
    kept = sorted([".0123abcd.partial.1.csv", ".0123abcd.partial.x" + name[-200:], name])
    with atomic_write(tmp_path / name) as temporary:
        open(temporary, "w").close()
    for file in (*kept, temporary):  # which a killed process leaves
        (tmp_path / file).touch()
    remove_temporary(str(tmp_path / name))
    assert sorted(os.listdir(tmp_path)) == kept


def test_a_lock_names_its_owner_and_goes_with_it(tmp_path):
    path = str(tmp_path / ".lock")
    code = (f"import sys; sys.path.insert(0, {ROOT!r}); from corruptions.utils.locks import file_lock\n"
            f"with file_lock({path!r}, 'x'):\n print('held', flush=True); sys.stdin.read()")
    owner = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"results: process {owner.pid} on .* is writing this"), \
            file_lock(path, "results"):
        pass
    owner.kill()  # as a power cut would: the file stays, the lock does not
    owner.communicate()
    assert os.path.exists(path)
    held_by_this = pytest.raises(UserError, match=f"process {os.getpid()}")
    with file_lock(path, "results"), held_by_this, file_lock(path, "results"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_file_that_its_last_owner_has_removed_is_opened_anew(tmp_path, monkeypatch):
    path = str(tmp_path / ".lock")
    real, calls = locks.fcntl.flock, []

    def slow(file, operation):
        calls.append(operation)
        if len(calls) == 1:  # the last owner ends between opening and locking
            os.remove(path)
        real(file, operation)
    monkeypatch.setattr(locks.fcntl, "flock", slow)
    with file_lock(path, "results"):
        assert len(calls) == 2 and os.path.exists(path)


OTHER_USERS = """
import os
from corruptions.utils.errors import UserError
from corruptions.utils.locks import file_lock
os.seteuid(65534)  # nobody
try:
    with file_lock(".lock", "results"):
        print("locked", os.path.exists(".lock"))
        try:
            with file_lock(".lock", "results"):
                print("twice")
        except UserError as error:
            print(error)
except UserError as error:
    print(error)
print(os.path.exists(".lock"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the rights to act as another user")
@pytest.mark.parametrize("lock_mode, folder_mode, message", [
    (0o644, 0o777, ["locked True", "results: process 1 on here is writing this; wait until it ends, or stop it",
                    "False"]),
    (0o644, 0o1777, ["locked True", "results: process 1 on here is writing this; wait until it ends, or stop it",
                     "True"]),
    (0o600, 0o777, [".lock: cannot be locked, because the file is another user's; remove it if that user's command has "
                    "ended", "True"])])
def test_a_lock_file_of_another_user(lock_mode, folder_mode, message):
    with tempfile.TemporaryDirectory() as folder:  # those of pytest are closed to others
        path = os.path.join(folder, ".lock")
        with open(path, "w") as file:
            file.write("process 1 on here")
        os.chmod(path, lock_mode)
        os.chmod(folder, folder_mode)
        done = subprocess.run([sys.executable, "-c", OTHER_USERS], cwd=folder, env={**os.environ, "PYTHONPATH": ROOT},
                              capture_output=True, text=True)
        assert done.stdout.splitlines() == message, done.stderr


def test_a_lock_that_needs_a_file_open_for_writing_is_one_line(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.EBADF, "Bad file descriptor")  # as NFS says of one that is open for reading
    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"\.lock: cannot be locked"), file_lock(str(tmp_path / ".lock"), "results"):
        pass


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, capsys):
    def unsupported(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    with file_lock(str(tmp_path / ".lock"), "results"):
        pass
    assert "warning: results: cannot be locked" in capsys.readouterr().err
    monkeypatch.setattr(locks.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(OSError, match="I/O error"), file_lock(str(tmp_path / ".lock"), "results"):
        pass


def test_a_new_folder_goes_if_it_stays_empty(tmp_path):
    (tmp_path / "old").mkdir()
    for path in ("old", "new", "old/a/b"):
        with pytest.raises(KeyError), make_folder(str(tmp_path / path)):
            assert os.path.isdir(tmp_path / path)
            raise KeyError
        assert os.listdir(tmp_path) == ["old"] and os.listdir(tmp_path / "old") == []
    with pytest.raises(KeyError), make_folder(str(tmp_path / "old" / "a" / "b")):
        (tmp_path / "old" / "a" / "kept").touch()
        raise KeyError
    assert os.listdir(tmp_path / "old" / "a") == ["kept"]
    with make_folder(str(tmp_path / "new")):
        pass
    assert os.listdir(tmp_path / "new") == []
