"""The built-in dataset: rendered rooms seen by a colour, a depth and a thermal camera, with known factors."""
