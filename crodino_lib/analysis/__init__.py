"""What the networks' bottlenecks hold: one module per question."""
