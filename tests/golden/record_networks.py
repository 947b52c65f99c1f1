"""Record what the networks' originals compute: PYTHON_WITH_TORCH_AND_JAX tests/golden/record_networks.py
--release CLONE --damp CLONE tests/golden/networks.json

CLONE are clones of zhuohuangai/SharpDRO and of trungtrinh44/DAMP; the Python needs torch, torchvision and timm, jax,
flax and ml_collections. Weights, statistics and images are drawn by the formulas in `tests/formula.py`. For each
network the file holds the logits in evaluation and in training mode, the loss (mean cross-entropy) in training mode and
the gradient of that loss by the first and the last layer's weights, 64 values of each evenly spaced, in PyTorch's
layout; with BatchNorm the gradient is at weights drawn as `settled`. Where there are two originals (torchvision and the
release, JAX and timm) they must agree, and the first is recorded.
"""
import argparse
import importlib
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.formula import formula_batch, formula_weight  # noqa: E402

# Sides that leave several values to each mean of a norm, so that float32 is enough.
CASES = [
    {"name": "wideresnet", "height": 32, "width": 32, "first": "init_conv.weight", "last": "fc.weight"},
    {"name": "wideresnet28-3", "height": 32, "width": 32, "first": "init_conv.weight", "last": "fc.weight"},
    {"name": "resnet18", "height": 64, "width": 64, "first": "conv1.weight", "last": "fc.weight"},
    {"name": "resnet50", "height": 96, "width": 96, "first": "conv1.weight", "last": "fc.weight"},
    {"name": "resnet50_damp", "height": 96, "width": 96, "first": "conv1.weight", "last": "fc.weight"},
    {"name": "resnet18_cifar", "height": 32, "width": 32, "first": "conv1.weight", "last": "fc.weight"},
    {"name": "preactresnet18", "height": 32, "width": 32, "first": "conv1.weight", "last": "linear.weight"},
    {"name": "vit_s16", "height": 48, "width": 64, "first": "patch_embed.proj.weight", "last": "head.weight",
     "settled": False},
    {"name": "vit_b16", "height": 32, "width": 48, "first": "patch_embed.proj.weight", "last": "head.weight",
     "settled": False},
]
COMMON = {"seed": 0, "batch": 4, "classes": 10, "settled": True}


def torch_results(model, case):
    """The outputs of a PyTorch model, in float64."""
    import torch
    model.double()

    def draw(settled):
        state = {name: torch.tensor(formula_weight(name, tuple(value.shape), settled))
                 for name, value in model.state_dict().items() if not name.endswith("num_batches_tracked")}
        model.load_state_dict(state, strict=False)
    draw(settled=False)
    images, labels = formula_batch(case)
    images, labels = torch.tensor(images).double(), torch.tensor(labels).long()
    result = {"evaluation": model.eval()(images), "training": model.train()(images)}
    result["loss"] = torch.nn.functional.cross_entropy(result["training"], labels)
    draw(case["settled"])
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    gradients = dict(model.named_parameters())
    result.update({end: gradients[case[end]].grad for end in ("first", "last")})
    result = {name: value.detach().numpy() for name, value in result.items()}
    return {**result, "parameters": sum(p.numel() for p in model.parameters())}


class FlaxWeights:
    """Weights of a flax model, drawn by PyTorch's names and laid out as flax wants them, and back."""

    def __init__(self, rename, variables):
        import jax
        self.tree = jax.tree_util
        self.rename = rename  # path in flax to PyTorch's name and, for qkv, which third

    @staticmethod
    def from_torch(value, shape):
        """A weight in flax's layout: convolutions (out, in, h, w) to (h, w, in, out), layers (out, in) to (in, out)."""
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif value.ndim == 2:
            value = value.T
        return value.reshape(shape)

    @staticmethod
    def to_torch(value):
        """The way back, for what is a convolution or a layer in both."""
        return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T

    def draw(self, path, leaf, settled):
        name, third = self.rename([key.key for key in path])
        shape, rows = leaf.shape, int(np.prod(leaf.shape[1:])) if third is not None else None
        if leaf.ndim == 4:
            torch_shape = (shape[3], shape[2], shape[0], shape[1])
        elif third is not None:
            inputs = shape[0] if path[-1].key == "kernel" else None
            width = rows if inputs else int(np.prod(shape))
            whole = formula_weight(name, (3 * width, inputs) if inputs else (3 * width,), settled)
            return self.from_torch(whole[third * width:(third + 1) * width], shape)
        elif path[-1].key == "kernel":
            torch_shape = (shape[-1], int(np.prod(shape[:-1])))
        else:
            torch_shape = shape
        return self.from_torch(formula_weight(name, torch_shape, settled), shape)

    def fill(self, variables, settled):
        """The variables in float64, drawn by the formula."""
        import jax.numpy as jnp
        return self.tree.tree_map_with_path(
            lambda path, leaf: jnp.asarray(self.draw(path, leaf, settled), jnp.float64), variables)


def resnet_names(pre_activation, blocks):
    """From a path in the DAMP authors' ResNets to names as in torchvision, or as in pytorch-cifar; `blocks` is their
    number in each stage.
    """
    leaves = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    outer = {"conv_init": "conv1", "bn_init": "bn1", "bn_final": "bn",
             "classify": "linear" if pre_activation else "fc"}
    inner = {"Conv_0": "conv1", "Conv_1": "conv2", "Conv_2": "conv3", "BatchNorm_0": "bn1", "BatchNorm_1": "bn2",
             "BatchNorm_2": "bn3", "conv_proj": "shortcut.0" if pre_activation else "downsample.0",
             "norm_proj": "downsample.1"}

    def rename(path):
        *modules, leaf = path[1:]
        if len(modules) == 1:
            return f"{outer[modules[0]]}.{leaves[leaf]}", None
        number, stage = int(modules[0].rpartition("_")[2]), 0
        while number >= blocks[stage]:
            number, stage = number - blocks[stage], stage + 1
        return f"layer{stage + 1}.{number}.{inner[modules[1]]}.{leaves[leaf]}", None
    return rename


def vit_names(path):
    """From a path in the DAMP authors' ViT to names as in timm; queries, keys and values are thirds of qkv there."""
    leaf = "bias" if path[-1] == "bias" else "weight"
    if path[1] != "Transformer":
        return {"embedding": "patch_embed.proj", "head": "head"}[path[1]] + f".{leaf}", None
    if path[2] == "encoder_norm":
        return f"norm.{leaf}", None
    block = "blocks." + path[2].rpartition("_")[2]
    module = path[-2]
    if module in ("query", "key", "value"):
        return f"{block}.attn.qkv.{leaf}", ("query", "key", "value").index(module)
    names = {"LayerNorm_0": "norm1", "LayerNorm_1": "norm2", "Dense_0": "mlp.fc1", "Dense_1": "mlp.fc2",
             "out": "attn.proj"}
    return f"{block}.{names[module]}.{leaf}", None


def flax_results(model, case, rename, first, last, is_vit):
    """The outputs of a flax model of the DAMP authors, in float64 where the model allows it."""
    import jax
    import jax.numpy as jnp
    images, labels = formula_batch(case)
    images = jnp.asarray(images.transpose(0, 2, 3, 1), jnp.float64)
    mode = (lambda on: {"is_training": on}) if is_vit else (lambda on: {"train": on})
    variables = model.init(jax.random.PRNGKey(0), images, **mode(False))
    count = sum(leaf.size for leaf in jax.tree_util.tree_leaves(variables["params"]))
    plain, settled = (FlaxWeights(rename, variables).fill(variables, how) for how in (False, case["settled"]))

    def logits(params, training):
        result = model.apply({**plain, "params": params}, images, **mode(training),
                             mutable=["batch_stats"] if training else False)
        result = result[0] if training else result
        return result if is_vit else result[0]

    def loss(params):
        result = logits(params, True)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(result), jnp.asarray(labels)[:, None], 1)
        return -chosen.mean(), result
    value, training = loss(plain["params"])
    gradients = jax.grad(loss, has_aux=True)(settled["params"])[0]
    result = {"evaluation": logits(plain["params"], False), "training": training, "loss": value,
              "first": FlaxWeights.to_torch(np.asarray(gradients[first]["kernel"])),
              "last": FlaxWeights.to_torch(np.asarray(gradients[last]["kernel"]))}
    return {**{name: np.asarray(value) for name, value in result.items()}, "parameters": count}


def import_models(clone, module="models"):
    """A module of the package `models` of a clone; another clone's is forgotten."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "models"]:
        del sys.modules[name]
    sys.path.insert(0, clone)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(clone)


def originals(case, args):
    """Yield the results of each original of a network."""
    import torchvision
    name, classes = case["name"], case["classes"]
    torchvision.models.resnet.model_urls = {}  # the release imports it, and newer versions have none
    if name in ("resnet18", "resnet50"):
        yield "torchvision", torch_results(getattr(torchvision.models, name)(num_classes=classes), case)
    if name in ("resnet18", "resnet50", "wideresnet", "wideresnet28-3"):
        network, _, numbers = name.partition("28-")
        width = {"width": int(numbers or 2)} if network == "wideresnet" else {}
        model = import_models(args.release, "models.model_factory").get_network(network)(classes=classes, **width)
        yield "the release", torch_results(model, case)
        return
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_enable_x64", True)
    models = import_models(args.damp)
    if name in ("vit_s16", "vit_b16"):
        # Its encoder asks for float32 by name, whatever it is given.
        model = {"vit_s16": models.ViT_S1k16, "vit_b16": models.ViT_B1k16}[name](num_classes=classes)
        yield "DAMP", flax_results(model, case, vit_names, "embedding", "head", True)
        yield "timm", torch_results(timm_vit(case), case)
    else:
        create, *names = {"preactresnet18": (models.PreActResNet18, True, (2, 2, 2, 2)),
                          "resnet18_cifar": (models.ResNet18, False, (2, 2, 2, 2)),
                          "resnet50_damp": (models.ResNet50, False, (3, 4, 6, 3))}[name]
        model = create(num_classes=classes, bn_axis_name=None, dtype=jnp.float64, low_res=name != "resnet50_damp")
        yield "DAMP", flax_results(model, case, resnet_names(*names), "conv_init", "classify", False)


def timm_vit(case, dtype=None):
    """timm's `VisionTransformer` with the options that make it the DAMP authors': the positions are not its own, in
    float64 or another `dtype`.
    """
    import timm
    import torch
    size, width = (case["height"], case["width"]), {"vit_s16": 384, "vit_b16": 768}[case["name"]]
    model = timm.models.vision_transformer.VisionTransformer(
        img_size=size, patch_size=16, embed_dim=width, depth=12, num_heads=width // 64, class_token=False,
        global_pool="avg", fc_norm=False, pos_embed="none", num_classes=case["classes"],
        act_layer=lambda: torch.nn.GELU(approximate="tanh"))
    frequencies = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4 - 1))
    y, x = torch.meshgrid(*(torch.arange(side // 16, dtype=torch.float64) for side in size), indexing="ij")
    x, y = (grid.reshape(-1, 1) * frequencies for grid in (x, y))
    positions = torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], 1).to(dtype or torch.float64)
    model.patch_embed.register_forward_hook(lambda module, inputs, output: output + positions)
    return model


def relative_difference(reference, values):
    return float(np.abs(reference - values).max() / np.abs(reference).max())


def rounded(value):
    return [float(f"{number:.9g}") for number in np.asarray(value, np.float64).reshape(-1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[2],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", required=True, metavar="CLONE", help="clone of zhuohuangai/SharpDRO")
    parser.add_argument("--damp", required=True, metavar="CLONE", help="clone of trungtrinh44/DAMP")
    parser.add_argument("file", metavar="OUT.json")
    args = parser.parse_args()
    recorded = []
    for case in CASES:
        case = {**COMMON, **case}
        (title, results), *rest = originals(case, args)
        for second, more in rest:
            errors = {key: relative_difference(results[key], more[key]) for key in results}
            print(f"{case['name']}: {second} differs from {title} by", errors)
            if max(errors.values()) > 1e-5:
                sys.exit("which is too much")
        entry = {"case": case, "source": title, "parameters": int(results["parameters"]),
                 "loss": float(results["loss"])}
        entry.update({mode: [rounded(row) for row in results[mode]] for mode in ("evaluation", "training")})
        for end in ("first", "last"):
            gradient = results[end].reshape(-1)
            entry[end] = {"norm": float(np.linalg.norm(gradient)),
                          "values": rounded(gradient[np.linspace(0, gradient.size - 1, 64).astype(int)])}
        recorded.append(entry)
        print(f"{case['name']}: recorded from {title}, {entry['parameters']} parameters, loss {entry['loss']:.6f}")
    with open(args.file, "w", encoding="utf-8") as file:
        json.dump(recorded, file, indent=None)
        file.write("\n")


if __name__ == "__main__":
    main()
