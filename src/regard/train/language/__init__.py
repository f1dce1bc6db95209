"""The job of a language model: its config, text, model, task, and the trained model opened again."""
