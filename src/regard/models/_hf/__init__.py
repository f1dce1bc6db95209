"""Hugging Face's names, one file for each architecture: the only place that knows them."""
