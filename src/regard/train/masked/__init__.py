"""The job of pretraining BERT on masked words: its config, text, task, and the encoder that fine-tuning begins with."""
