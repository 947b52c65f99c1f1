"""Objectives, perturbations of the weights, and the step cells that join them (`methods.py` has the table)."""
