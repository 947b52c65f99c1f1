"""Objectives, perturbations of the weights, and the step cells that join them (`methods.py` has the table).

    from losses import create_step
"""
import utils.runtime.device  # noqa: F401, first: it sets the environment that MindSpore reads
from losses.create import create_step

__all__ = ["create_step"]
