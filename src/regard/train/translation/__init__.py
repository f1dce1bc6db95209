"""The job of a translator: its config, pairs of texts, task, and the trained model opened again."""
