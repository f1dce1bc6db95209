"""Show a run to a person: one self-contained page, and one screen of a terminal.

Everything drawn is read from the run folder. This room imports records, numpy, jinja2 and rich, never torch or a room
that computes.
"""

from regard.viewer.report import summary, write_report

__all__ = ["summary", "write_report"]
