"""Datasets: what a scene is, readers of data on disk, the built-in rooms, scenes in memory."""
