"""The job of a tagger: its config, tagged sentences, model, task, and the trained model opened again."""
