"""Record attacks of the fast gradient sign method: PYTHON_WITH_JAX tests/golden/record_fgsm.py CLONE

CLONE is a clone of trungtrinh44/DAMP. Writes `fgsm.json` beside this file: the probabilities of a perceptron for images
that the function `eval_batch` of the authors' `imagenet/eval_vit_imagenet_fgsm.py` attacks, for several strengths. The
function is a part of another one there; here it is taken out, and one device runs it.
"""
import ast
import json
import os
import sys

import numpy as np

EPSILONS, CLASSES, HIDDEN, SHAPE = (0.0, 2 / 255, 0.05, 0.3), 5, 7, (6, 4, 4, 3)
MEAN, STD = (0.45, 0.5, 0.55), (0.2, 0.3, 0.25)


def main():
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_enable_x64", True)
    with open(os.path.join(sys.argv[1], "imagenet", "eval_vit_imagenet_fgsm.py"), encoding="utf-8") as file:
        tree = ast.parse(file.read())
    [outer] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "test_model"]
    [attack] = [node for node in outer.body if isinstance(node, ast.FunctionDef) and node.name == "eval_batch"]
    attack.decorator_list = []
    rng = np.random.RandomState(0)
    images, labels = rng.random_sample(SHAPE), rng.randint(0, CLASSES, SHAPE[0])
    weights = [rng.standard_normal((int(np.prod(SHAPE[1:])), HIDDEN)) * 0.3, rng.standard_normal((HIDDEN, CLASSES))]

    def model(params, x):
        return jnp.tanh(x.reshape(len(x), -1) @ params[0]) @ params[1]
    found = []
    for epsilon in EPSILONS:
        names = {"jax": jax, "jnp": jnp, "model_fn": model, "params": [jnp.asarray(weight) for weight in weights],
                 "K": CLASSES, "epsilon": epsilon, "mean_rgb": jnp.asarray(MEAN), "std_rgb": jnp.asarray(STD)}
        exec(compile(ast.Module([attack], []), "eval_batch", "exec"), names)
        losses, probabilities, _ = names["eval_batch"](jnp.asarray(images), jnp.asarray(labels))
        found.append({"epsilon": epsilon, "nll": np.asarray(losses).tolist(),
                      "probabilities": np.asarray(probabilities).tolist()})
    record = {"mean": MEAN, "std": STD, "images": images.tolist(), "labels": labels.tolist(),
              "weights": [weight.tolist() for weight in weights], "attacks": found}
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "fgsm.json"), "w", encoding="utf-8") as file:
        json.dump(record, file)
        file.write("\n")


if __name__ == "__main__":
    main()
