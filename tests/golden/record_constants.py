"""Record the severity constants of published scripts: python tests/golden/record_constants.py SCRIPTS C_BAR

SCRIPTS is the folder `ImageNet-C/create_c` of hendrycks/robustness, and C_BAR the folder `imagenet_c_bar` of
facebookresearch/augmentation-corruption. Writes `constants.json` beside this file: the size of the images, to each
corruption, to its five values. Only the lists in the source of the functions, `c = [...][severity - 1]`, are evaluated.
The zoom factors are recorded as they are, and the scale of the frost textures is not among them.
"""
import ast
import json
import os
import sys

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))

from corruptions import CORRUPTIONS  # noqa: E402
from tests.benchmarks.published import published_bar  # noqa: E402

SCRIPTS = {32: "make_cifar_c.py", 64: "make_tinyimagenet_c.py", 224: "make_imagenet_c.py",
           299: "make_imagenet_c_inception.py"}


def constants_in(path):
    """Return the five values of each corruption in a script, a dict of name to list of list of float."""
    with open(path, encoding="utf-8") as file:
        functions = [node for node in ast.parse(file.read()).body
                     if isinstance(node, ast.FunctionDef) and node.name in CORRUPTIONS]
    result = {}
    for function in functions:
        names = {"np": np}
        for node in (node for node in function.body if isinstance(node, ast.Assign)):
            target, value = ast.unparse(node.targets[0]), node.value
            if target == "c" and isinstance(value, ast.Subscript):
                values = eval(compile(ast.Expression(value.value), path, "eval"), names)
                result[function.name] = [np.atleast_1d(constants).tolist() for constants in values]
            elif isinstance(value, ast.Constant):  # such as IMSIZE
                names[target] = value.value
    return result


def main():
    scripts, bar = sys.argv[1:]
    record = {str(size): constants_in(os.path.join(scripts, name)) for size, name in SCRIPTS.items()}
    for size in (32, 224):
        record[str(size)] |= {name: [[level] for level in levels] for name, levels in published_bar(bar, size).items()}
    with open(os.path.join(HERE, "constants.json"), "w", encoding="utf-8") as file:
        json.dump(record, file)
        file.write("\n")


if __name__ == "__main__":
    main()
