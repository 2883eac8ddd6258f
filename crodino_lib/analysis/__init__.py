"""Analyse the latent spaces of trained models: metrics, null models, embeddings."""

ANALYSIS_VERSION = 1  # raise it when results kept with runs would be computed differently
