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


FILE = re.compile(r"# (\w+\.py)\n")


def test_the_tutorial_is_made_of_commands_and_of_python():
    assert {kind for kind, _ in BLOCKS} == {"bash", "python"}
    for target in re.findall(r"\]\(\.\./([^)#]+)", TUTORIAL):
        assert os.path.exists(os.path.join(ROOT, target)), target
    compile("".join(code for kind, code in BLOCKS if kind == "python"), "tutorial", "exec")


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    """Python is typed into one session, up to a block that begins with the name of a file."""
    for folder in ("corruptions", "dataset", "losses", "models", "utils"):
        shutil.copytree(os.path.join(ROOT, folder), tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(os.path.join(ROOT, "main.py"), tmp_path)
    environment = {**os.environ, "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]}

    def run(*words):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout
    session, file = "", None
    for number, (kind, code) in enumerate(BLOCKS):
        if kind == "python" and (file or FILE.match(code)):
            file = file or tmp_path / FILE.match(code)[1]
            with open(file, "a", encoding="utf-8") as script:
                script.write(code)
        elif kind == "python":
            session += code
            if BLOCKS[number + 1][0] == "bash":  # a command may need the files of the session
                run(sys.executable, "-c", session)
        else:
            output = run("bash", "-c", code)
    assert re.search(r"^mean loss of the first and the last ten steps: \d", output, re.MULTILINE)
