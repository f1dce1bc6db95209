"""The job of a model of numeric frames: its config, its sequences, task, and the trained model opened again."""
