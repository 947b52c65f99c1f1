"""Tests of the code that all command lines share."""
import argparse
import errno
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import main
from corruptions import CORRUPTIONS
from corruptions.utils import cli
from corruptions.utils.errors import exit_on_error
from corruptions.utils.requirements import way_out
from dataset import SOURCES, SUMMARIES
from losses.config.options import AUTHORS_OPTIONS, apply_recipe, create_parser
from losses.config.recipes import RECIPES
from losses.config.resolve import resolve_config
from losses.config.short_help import COMMON, SYNONYMS
from losses.config.table import OPTIONS
from losses.methods import METHODS
from utils.runtime import requirements

ROOT = os.path.dirname(os.path.abspath(main.__file__))


@pytest.mark.parametrize("number, status", [(errno.ENOSPC, 1), (errno.EFBIG, 1), (errno.EACCES, 2)])
def test_a_full_disk_is_nothing_that_was_asked_for(number, status, capsys):
    with pytest.raises(SystemExit) as stop, exit_on_error("program"):
        raise OSError(number, os.strerror(number), "file")
    assert stop.value.code == status
    assert capsys.readouterr().err == f"program: error: file: {os.strerror(number)}\n"


NO_MEMORY = f"""
{"-" * 52}
- Memory not enough:
{"-" * 52}
Memory isn't enough and alloc failed, kernel name: 0_Default/Tile-op0, alloc size: 17592186044416B.

{"-" * 52}
- C++ Call Stack: (For framework developers)
{"-" * 52}
mindspore/ccsrc/backend/ms_backend/runtime/graph_scheduler/base/graph_scheduler.cc:1168 Run
"""  # as MindSpore 2.8 says it


def test_full_memory_is_one_line(capsys):
    for error, reason in ((RuntimeError(NO_MEMORY), NO_MEMORY.splitlines()[4]), (MemoryError(), "no more is free")):
        with pytest.raises(SystemExit) as stop, exit_on_error("program"):
            raise error
        assert stop.value.code == 1
        assert capsys.readouterr().err == (f"program: error: not enough memory ({reason}); give smaller images or "
                                           "batches, or fewer workers\n")
    with pytest.raises(RuntimeError), exit_on_error("program"):
        raise RuntimeError("a defect")


def test_workers_are_never_more_than_processors(monkeypatch, capsys):
    monkeypatch.setattr(cli, "cpu_count", lambda: 3)
    assert cli.workers("2") == 2 and capsys.readouterr().err == ""
    assert cli.workers("1000") == 3
    [line] = capsys.readouterr().err.splitlines()
    assert "1000" in line and "3 are used" in line


def test_parse_tells_given_options_from_defaults():
    parser = cli.Parser()
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("-n", type=int, default=argparse.SUPPRESS)
    args, given = cli.parse(parser, ["--rate", "0.5"])
    assert vars(args) == {"rate": 0.5, "fast": False} and given == {"rate": 0.5}
    assert cli.parse(parser, ["--fast", "-n", "3"])[1] == {"fast": True, "n": 3}


def test_help_fits_a_terminal_and_has_every_option_in_a_group(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    parser = create_parser()
    text = parser.format_help()
    assert max(map(len, text.splitlines())) <= 80 and "-d, --dataset NAME ...\n" in text
    groups = {action.dest: group.title for group in parser._action_groups for action in group._group_actions}
    assert "options" not in groups.values()
    assert text.count("\n") < 330  # a page that someone may read


def test_the_short_help_fits_two_screens_and_names_options_that_are_there(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main.main(["-h"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0 and len(lines) < 50 and max(map(len, lines)) <= 80
    flags = re.findall(r"--[a-z_]+", "\n".join(lines))
    assert {flag.removeprefix("--") for flag in flags} <= {*OPTIONS, "help"}
    for names in COMMON.values():
        assert names.keys() <= OPTIONS.keys()


def test_without_options_nothing_is_trained(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main.main([])
    assert "for 200 epochs" in capsys.readouterr().out and not os.listdir(tmp_path)
    config = resolve_config(*cli.parse(create_parser(), []))
    assert (config.method.method, config.dataset, config.method.total_epoch) == ("sharpdro", "cifar10", 200)


@pytest.mark.parametrize("word, advice", [
    ("--epochs", "did you mean --total_epoch?"), ("--batch-size", "did you mean --batch_size?"),
    ("--metod", "did you mean --method?"), ("--learning_rate=3", "did you mean --lr?"),
    ("--colour", "--help-all lists the options")])
def test_an_unknown_option_gets_advice(word, advice, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["-d", "photos", word, "3"])
    flag = word.partition("=")[0]
    assert stop.value.code == 2 and capsys.readouterr().err == f"main.py: error: {flag}: unknown; {advice}\n"


def test_every_synonym_stands_for_an_option():
    assert set(SYNONYMS.values()) <= OPTIONS.keys() and not SYNONYMS.keys() & OPTIONS.keys()


@pytest.mark.parametrize("flag, names", [("--method", METHODS), ("--recipe", RECIPES), ("-d", SOURCES),
                                         ("-c", CORRUPTIONS)])
def test_the_word_list_explains_the_names(flag, names, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main([flag, "list"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and all(f"{name} " in text or f"{name}:" in text for name in names)
    assert max(map(len, text.splitlines())) <= 80


def test_every_data_set_has_a_summary():
    assert set(SUMMARIES) == set(SOURCES)


def test_a_list_ends_where_nobody_reads_on():
    code = "from corruptions.utils.cli import or_list; or_list(lambda: 'x' * 10 ** 6)('list')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as listing:
        listing.stdout.read(1)
        listing.stdout.close()
        assert listing.stderr.read() == b"" and listing.wait() == 0


def test_a_recipe_names_data_set_and_network_where_the_command_line_does_not():
    def applied(line):
        args, given = cli.parse(create_parser(), line.split())
        apply_recipe(args, given)
        return args.dataset, args.model, {option: given.get(option) for option in ("dataset", "model")}
    assert applied("--recipe sharpdro/cifar100") == ("cifar100", "wideresnet", {"dataset": "cifar100",
                                                                                "model": "wideresnet"})
    assert applied("--recipe sharpdro/cifar100 -d photos -m wideresnet10")[:2] == ("photos", "wideresnet10")
    assert applied("--recipe sharpdro/cifar100 --resume RUN")[2] == {"dataset": None, "model": None}
    assert applied("--recipe damp") == ("cifar10", "wideresnet", {"dataset": None, "model": None})


PROGRAMS = [("main.py", ["main.py"]), ("prepare_dataset.py", [os.path.join("dataset", "prepare_dataset.py")]),
            ("python -m corruptions", ["-m", "corruptions"]), ("python -m corruptions", ["corruptions"]),
            ("python -m utils.figures", ["-m", "utils.figures"]),
            ("python -m utils.figures", [os.path.join("utils", "figures")]),
            ("python -m models.convert", ["-m", "models.convert"]),
            ("python -m models.convert", [os.path.join("models", "convert.py")]),
            ("prepare_dataset.py", ["-m", "dataset.prepare_dataset"]),
            ("download_published.py", [os.path.join("dataset", "download_published.py")]),
            ("split_imagenet30.py", [os.path.join("imagenet30_filelist", "split_imagenet30.py")])]
INTERRUPTED = """
import os, signal, sys
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(100):
        pass
except KeyboardInterrupt:
    raise ImportError("as a module in C makes of it")
sys.path.remove(os.path.dirname(__file__))  # the signal waits until MindSpore has been imported, with the real numpy
del sys.modules["numpy"]
import numpy
"""


def with_sigint(handler):
    """Begin a child process, so that Ctrl-C is ignored or not, however these tests were started."""
    return lambda: signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("program, words", PROGRAMS)
def test_ctrl_c_while_modules_are_imported_is_one_line(program, words, tmp_path):
    (tmp_path / "numpy.py").write_text(INTERRUPTED)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)}, preexec_fn=with_sigint(signal.SIG_DFL))
    assert (done.stderr, done.returncode) == (f"{program}: interrupted\n", 130)


@pytest.mark.parametrize("words", ["utils/figures", "models/convert.py"])
def test_a_program_that_is_run_as_a_file_finds_its_modules(words, tmp_path):
    done = subprocess.run([sys.executable, os.path.join(ROOT, words), "--help"], cwd=tmp_path, capture_output=True,
                          text=True, timeout=60)
    assert done.stdout.startswith("usage: python -m ") and (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("at_start, message", [(signal.SIG_DFL, "seen\n"), (signal.SIG_IGN, "")])
def test_ctrl_c_is_an_exception_again_after_the_imports(at_start, message):
    """A signal that is ignored, as by `nohup`, stays ignored."""
    code = ("import signal\nfrom corruptions.utils.startup import begin_imports\nbegin_imports('before')\n"
            "from corruptions.utils.errors import exit_on_error\n"
            "with exit_on_error('after'):\n"
            " try:\n  signal.raise_signal(signal.SIGINT)\n"
            " except KeyboardInterrupt:\n  print('seen')\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          preexec_fn=with_sigint(at_start))
    assert (done.stdout, done.stderr, done.returncode) == (message, "", 0)


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_lead_nowhere(closed, tmp_path):
    """No file gets their number, so that nothing is written into it which is for them."""
    code = ("import os, sys\nfrom corruptions.utils.startup import begin_imports\nbegin_imports('program')\n"
            "with open(sys.argv[1], 'w') as file:\n print(file.fileno() > 2, file=file)\n"
            "print('lost \\udc80', file=sys.stderr, flush=True)\nos.system('echo lost >&2')")
    done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", code, str(tmp_path / "file")],
                          cwd=ROOT, capture_output=True, timeout=60)
    assert (done.stdout, done.returncode) == (b"", 0) and (tmp_path / "file").read_text() == "True\n"


@pytest.mark.parametrize("words, status", [(["main.py", "--resume", "nowhere"], 2),
                                           (["-m", "utils.figures", "accuracy", "nowhere"], 2),
                                           (["-m", "corruptions", "array", "images.npy", "out", "-c", "contrast",
                                             "--severity", "1", "--workers", "2", "--show_progress"], 0)])
def test_programs_without_streams(words, status, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8, 3), np.uint8))
    words = [os.path.join(ROOT, "main.py") if word == "main.py" else word for word in words]
    done = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", sys.executable, *words], cwd=tmp_path, timeout=60,
                          env={**os.environ, "PYTHONPATH": ROOT})
    assert done.returncode == status and (status or np.load(tmp_path / "out" / "1" / "contrast.npy").shape)


def test_ctrl_c_that_another_thread_gets_is_seen():
    """A thread that began without `block_signals` holds nothing back."""
    script = """
import os, signal, sys, threading, time
from corruptions.utils.requirements import way_out
from corruptions.utils.signals import Interrupted, defer_signals, raise_if_interrupted
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where these tests run in the background
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
try:
    with defer_signals():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(100):
            raise_if_interrupted()
            time.sleep(0.01)
except Interrupted as stop:
    print(stop.signal.name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "SIGINT\n", done.stderr


BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
"""


def run_without(packages, folder, *words, **environment):
    """Run Python with these words where the packages are as if not installed."""
    (folder / "sitecustomize.py").write_text(f"BLOCKED = {packages!r}\n{BLOCK}")
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=60, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(folder), **environment})


@pytest.mark.parametrize("packages, names, program, words", [
    (["mindspore"], "MindSpore", "main.py", ["main.py", "-m", "wideresnet10"]),
    (["mindspore"], "MindSpore", "python -m models.convert", ["-m", "models.convert", "w.pth", "w.ckpt"]),
    (["mindspore", "tqdm"], "MindSpore, tqdm", "main.py", [os.path.join(ROOT, "main.py")]),
    (["cv2"], "opencv-python", "prepare_dataset.py", ["dataset/prepare_dataset.py"]),
    (["numpy"], "numpy", "python -m dataset.prepare_dataset", ["-m", "dataset.prepare_dataset"]),
    (["numpy"], "numpy", "split_imagenet30.py", ["imagenet30_filelist/split_imagenet30.py"]),
    (["numpy"], "numpy", "figures", ["utils/figures", "--help"]),
    (["mindspore"], "MindSpore", "convert.py", ["models/convert.py", "--help"]),
    (["numpy"], "numpy", "python -m utils.figures", ["-m", "utils.figures", "accuracy", "RUN"]),
    (["PIL"], "pillow", "python -m corruptions", ["-m", "corruptions", "--help"]),
    (["matplotlib"], "matplotlib", "python -m corruptions", ["corruptions", "--help"])])
def test_a_package_that_is_not_installed_is_named(packages, names, program, words, tmp_path):
    done = run_without(packages, tmp_path, *words)
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{program}: error: not installed in {sys.executable}: {names}; ") and done.stdout == ""
    assert done.returncode == 2


@pytest.mark.parametrize("program, words, names", [
    ("python -m corruptions", ["-m", "corruptions", "--help"], "numpy, tqdm"),
    ("prepare_dataset.py", ["dataset/prepare_dataset.py"], "numpy, tqdm"),
    ("main.py", ["main.py"], "MindSpore, numpy, tqdm, safetensors")])
def test_only_what_a_program_needs_is_named(program, words, names, tmp_path):
    done = run_without(["mindspore", "numpy", "tqdm", "safetensors"], tmp_path, *words)
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{program}: error: not installed in {sys.executable}: {names}; ") and done.returncode == 2


def test_a_worker_of_msrun_without_mindspore_says_how_to_start_it(tmp_path):
    done = run_without(["mindspore"], tmp_path, "main.py", "-d", "photos", MS_ROLE="MS_WORKER", MS_WORKER_NUM="2",
                       RANK_ID="0")
    [line] = done.stderr.splitlines()
    assert "; msrun starts the first `python` in PATH; activate " in line and done.returncode == 2


def test_a_program_of_another_project_gets_pythons_own_error(tmp_path):
    done = run_without(["mindspore"], tmp_path, "-c", "import utils.runtime.device")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'mindspore'"


def test_an_environment_that_is_there_is_the_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(requirements, "ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    msrun = "msrun starts the first `python` in PATH; "

    def way_out_with_msrun():
        with monkeypatch.context() as patch:
            patch.setattr(requirements, "world_size", lambda: 2)
            return requirements._way_out("main.py")
    make = "python3 -m venv .venv && .venv/bin/pip install -r "
    assert requirements._way_out("main.py") == f"{make}requirements.txt, then .venv/bin/python main.py"
    assert way_out("-m corruptions", tmp_path / "corruptions" / "requirements.txt", tmp_path / ".venv") == (
        f"{make}corruptions/requirements.txt, then .venv/bin/python -m corruptions")
    assert way_out_with_msrun() == (f"{msrun}make an environment and activate it before msrun: {make}requirements.txt "
                                    "&& source .venv/bin/activate")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").write_text("")
    assert requirements._way_out("-m models.convert") == "type .venv/bin/python -m models.convert"
    assert way_out_with_msrun() == f"{msrun}activate the environment before msrun: source .venv/bin/activate"
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert requirements._way_out("main.py") == f"{sys.executable} -m pip install -r requirements.txt"
    assert way_out_with_msrun() == (f"{msrun}activate another environment before msrun, or: {sys.executable} -m pip "
                                    "install -r requirements.txt")


def test_the_basics_are_in_the_requirements_of_the_generators():
    text = pathlib.Path(ROOT, "corruptions", "requirements.txt").read_text()
    assert {name.lower() for name in requirements.BASICS.values()} <= {
        re.match("[A-Za-z0-9-]*", line)[0].lower() for line in text.splitlines()}


def test_every_package_that_is_asked_for_is_in_the_requirements():
    texts = [pathlib.Path(ROOT, place, "requirements.txt").read_text() for place in ("", "corruptions")]
    names = {re.match("[A-Za-z0-9-]*", line)[0].lower() for text in texts for line in text.splitlines()}
    assert {name.lower() for name in requirements.PACKAGES.values()} <= names


@pytest.mark.parametrize("text", ["a/b", "x" * 101])
def test_the_first_part_of_a_folder_is_checked_before_data_are_read(text, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["--desc", text])
    [line] = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert line == (f"main.py: error: argument --desc: '{text}' cannot begin the name of a folder; give at most 100 "
                    "bytes, without /")


@pytest.mark.parametrize("words, flag, instead", [
    ("-s 3", "-s", "--num_severity"), ("-s3", "-s", "file names"), ("-s=3", "-s", "--desc"),
    ("-p 0.2", "-p", "--split FILE"), ("--proportion 0.2", "--proportion", "does nothing with it"),
    ("--shift", "--shift", "--train_on"), ("--num_test 100", "--num_test", "All test images"),
    ("--is_worst", "--is_worst", "--worst_case"), ("--is_pretrain", "--is_pretrain", "--init_checkpoint FILE"),
    ("--warmup_epoch 5", "--warmup_epoch", "--warmup LENGTH"), ("--scheduler", "--scheduler", "--schedule NAME"),
    ("--num_classes 10", "--num_classes", "leave it out"), ("--log_eval=50", "--log_eval", "--eval_every N")])
def test_an_option_that_only_the_release_has_says_what_to_give_instead(words, flag, instead, capsys):
    for before in ("-c fog", "--resume --lr 0.1 --unknown 1"):
        with pytest.raises(SystemExit) as stop:
            main.main([*before.split(), *words.split()])
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"main.py: error: {flag}: ") and instead in line and stop.value.code == 2
    assert flag not in create_parser()._option_string_actions  # nor makes an abbreviation mean two things


def test_what_is_given_instead_of_options_of_the_release_is_there():
    flags = set(create_parser()._option_string_actions)
    for sentence in AUTHORS_OPTIONS.values():
        assert set(re.findall(r"--\w+", sentence)) <= flags and not AUTHORS_OPTIONS.keys() & flags


def test_a_variant_with_an_option_of_the_release_says_so_too(capsys):
    with pytest.raises(SystemExit):
        main.main(["--variant", "warm: --warmup_epoch 5"])
    assert "--variant warm: error: --warmup_epoch: the authors' code " in capsys.readouterr().err


@pytest.mark.parametrize("module", ["losses", "losses.objectives", "losses.step.algorithms", "models", "models.loading",
                                    "models.stacked"])
def test_modules_that_somebody_imports_set_graph_mode_and_leave_a_later_choice_alone(module, tmp_path):
    code = (f"import os, {module}, mindspore as ms\nfrom models import create_model\n"
            "assert ms.get_context('mode') == ms.GRAPH_MODE and os.environ['GLOG_v'] == '3'\n"
            "ms.set_context(mode=ms.PYNATIVE_MODE)\ncreate_model('wideresnet10', 2)\n"
            "assert ms.get_context('mode') == ms.PYNATIVE_MODE")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          env={name: value for name, value in os.environ.items() if name != "GLOG_v"})
    assert done.returncode == 0, done.stderr


def test_a_network_of_mindcv_comes_after_the_set_up_of_mindspore(tmp_path):
    (tmp_path / "mindcv.py").write_text(
        "import sys\nprint('utils.runtime.device' in sys.modules)\nimport mindspore\nis_model = lambda name: True\n")
    code = ("import main, sys\nfrom corruptions.utils.startup import begin_imports\n"
            "from losses.config.options import parse_command_line\n"
            "parse_command_line(['-m', 'mindcv:resnet18'])")
    code = "from corruptions.utils.startup import begin_imports\nbegin_imports('main.py')\n" + code
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.stdout == "True\n" and done.returncode == 0, done.stderr


def test_the_help_needs_no_mindspore(tmp_path):
    done = run_without(["mindspore"], tmp_path, "main.py", "--help-all")
    assert done.returncode == 0 and "--config FILE" in done.stdout
