"""The corruption generators from the command line: python -m corruptions --help"""
import os
import sys

if not __package__:  # `python corruptions` puts this file's folder first on the module search path
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from corruptions.utils.requirements import require_basics
from corruptions.utils.startup import begin_imports


def main(argv=None):
    """Run the command line `argv` (list of str); None takes the words of `sys.argv`."""
    is_installed = os.path.basename(sys.argv[0]) == "corruptions" and os.path.isfile(sys.argv[0])
    program = "corruptions" if is_installed else "python -m corruptions"
    if argv is None:
        begin_imports(program)
        require_basics(program, "-m corruptions")
    from corruptions.parser import run
    run(program, argv)


if __name__ == "__main__":
    main()
