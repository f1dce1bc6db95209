"""The job of a text classifier: its config, documents, model, task, and the trained model opened again."""
