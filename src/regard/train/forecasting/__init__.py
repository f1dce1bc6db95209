"""The job of a forecaster: its config, its windows, task, and the trained model opened again."""
