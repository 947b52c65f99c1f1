"""What the command lines share."""
import argparse

from utils import cli


def test_workers_are_never_more_than_processors(monkeypatch, capsys):
    monkeypatch.setattr(cli, "processors", lambda: 3)
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
