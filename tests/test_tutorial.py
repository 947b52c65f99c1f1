"""The tutorial runs from its first block to its last, as a reader would type it; slow."""
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.test_readme import ROOT, text

TUTORIAL = text("utils", "TUTORIAL.md")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", TUTORIAL, re.DOTALL | re.MULTILINE)


def test_the_tutorial_is_made_of_commands_and_one_session_of_python():
    assert {kind for kind, _ in BLOCKS} == {"bash", "python"}
    for target in re.findall(r"\]\(\.\./([^)#]+)", TUTORIAL):
        assert os.path.exists(os.path.join(ROOT, target)), target
    compile("".join(code for kind, code in BLOCKS if kind == "python"), "tutorial", "exec")


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    for folder in ("corruptions", "dataset", "losses", "models", "utils"):
        shutil.copytree(os.path.join(ROOT, folder), tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(os.path.join(ROOT, "main.py"), tmp_path)
    environment = {**os.environ, "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]}

    def run(words, **options):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, **options)
        assert done.returncode == 0, done.stderr
    session, pending = "", False
    for kind, code in BLOCKS:
        if kind == "python":  # one session; a command below may need the files of its beginning
            session, pending = session + code, True
            continue
        if pending:
            run([sys.executable, "-c", session])
        run(["bash", "-c", code])
        pending = False
    run([sys.executable, "-c", session])
