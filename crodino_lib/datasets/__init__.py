"""Readers of the public datasets, and the check of a folder before training."""
