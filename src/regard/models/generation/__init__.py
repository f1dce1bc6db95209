"""Continuing sequences with a model: one token at a time, or the best of several beginnings."""

from regard.models.generation.beams import Beams, beam_search, length_penalty
from regard.models.generation.generate import Generated, generate
from regard.models.generation.sampling import Sampling
from regard.models.generation.session import Session

__all__ = ["Beams", "Generated", "Sampling", "Session", "beam_search", "generate", "length_penalty"]
