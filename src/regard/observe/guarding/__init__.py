"""The parts of ``regard.guard``: hear the raw products, take evidence, name causes, follow trends, tell once.

``causes`` and ``trends`` are rules over plain numbers and need neither a model nor a tensor.
"""
