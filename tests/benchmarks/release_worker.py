"""Takes steps of the PyTorch release when told to; `release_process.py` starts it with a Python that has torch.

usage: release_worker.py CLONE MODEL BATCH_SIZE IMAGE_SIZE; every line on stdin is answered by one of JSON: to `step`,
the seconds of one step; to `profile`, the kernels of one, name to number of calls and milliseconds.
"""
import json
import os
import sys
import time
import types

import torch

clone, name, batch_size, side = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tests.release import make_importable  # noqa: E402

make_importable(clone, torchvision=name != "wideresnet")  # timm imports it, too

from bypass_bn import disable_running_stats, enable_running_stats  # noqa: E402
from sam import SAM  # noqa: E402
from train import Trainer  # noqa: E402

from models.resnet import WideResNet  # noqa: E402


def create_network():
    """The network called `name` here, in PyTorch: the authors', torchvision's, or timm's."""
    if name == "wideresnet":
        return WideResNet()
    if name == "vit_s16":
        from tests.golden.record_networks import timm_vit
        return timm_vit({"height": side, "width": side, "classes": 10}, torch.float32)
    if name not in ("resnet18", "resnet50", "resnet18_cifar"):
        sys.exit(f"{name}: has no original in PyTorch")
    import torchvision
    network = getattr(torchvision.models, name.removesuffix("_cifar"))(num_classes=10)
    if name == "resnet18_cifar":  # that of the DAMP authors, but for where it pads
        network.conv1, network.maxpool = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False), torch.nn.Identity()
    return network


args = types.SimpleNamespace(step_size=0.01)
model = create_network()
model.train()
trainer = Trainer(torch.device("cpu"), model, None, None, None, None, 6)
optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9, weight_decay=5e-4)
images, labels = torch.randn(batch_size, 3, side, side), torch.randint(0, 10, (batch_size,))
groups = torch.randint(0, 6, (batch_size,))


def take_step():
    enable_running_stats(model)
    first_loss = torch.nn.functional.cross_entropy(model(images), labels, reduction="none")
    first_loss.mean().backward()
    optimizer.first_step(zero_grad=True)
    disable_running_stats(model)
    trainer.compute_sharp_loss(args, model(images), labels, groups, first_loss.data)[0].backward()
    optimizer.second_step(zero_grad=True)


for command in sys.stdin:
    if command.strip() == "profile":
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            take_step()
        answer = {row.key: (row.count, row.self_cpu_time_total / 1e3) for row in profiler.key_averages()}
    else:
        start = time.perf_counter()
        take_step()
        answer = time.perf_counter() - start
    print(json.dumps(answer), flush=True)
