"""Losses: tensors in, scalar out; no knowledge of batches or models. Computed in float32."""
