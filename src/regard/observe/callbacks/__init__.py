"""Watch inside training loops of other people: the Hugging Face ``Trainer`` and Lightning.

Neither is imported before it is asked for by name. Both watch the training steps alone, never the evaluation between
them; they leave nothing on the model, also when training raises or is interrupted; and what they watch ends with the
weights that it would have had without them, bit for bit.
"""

from regard.observe.callbacks.factories import hugging_face, lightning

__all__ = ["hugging_face", "lightning"]
