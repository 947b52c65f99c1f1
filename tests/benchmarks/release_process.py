"""The PyTorch release in a process of its own, which waits while others run."""
import json
import os
import subprocess
import sys

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "release_worker.py")


def start_release(python, clone, model, batch_size, image_size):
    """Start the authors' code.

    Args:
        python (str): an interpreter that has torch, and for networks that are not the authors' torchvision or timm.
        clone (str): of zhuohuangai/SharpDRO.
        model (str): name of the network here.
        batch_size, image_size (int): images in a batch, their side in pixels.

    Returns:
        callable: 'step' to the seconds of one step, 'profile' to the kernels of one, name to number of calls and
            milliseconds.
    """
    worker = subprocess.Popen([python, WORKER, clone, model, str(batch_size), str(image_size)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)

    def ask(command):
        worker.stdin.write(f"{command}\n")
        worker.stdin.flush()
        return json.loads(worker.stdout.readline() or sys.exit("the authors' step has stopped"))
    ask("step")  # the first also sets up kernels and memory
    return ask
