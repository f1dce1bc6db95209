"""Show a run or a translated book to a person: self-contained pages, and one screen of a terminal.

Everything drawn is read from the run folder. This room imports records, numpy, jinja2 and rich, never torch or a room
that computes.
"""

from regard.viewer.book import PAGE_LEN, book_summary, num_pages, page_text, write_overview, write_page
from regard.viewer.report import summary, write_report

__all__ = [
    "PAGE_LEN",
    "book_summary",
    "num_pages",
    "page_text",
    "summary",
    "write_overview",
    "write_page",
    "write_report",
]
