"""A translated book as pages that need no network: source and translation side by side, each word with its sources.

``overview`` shows the whole (scores, curve along the book, places worth a look), ``page`` any part of it with the words
that the model looked at while it wrote, ``terminal`` both where there is no browser. All is read from the folder of the
book; a page reads its own segments and its own row groups of the alignments, whatever the length of the book.
"""

from regard.viewer.book.overview import write_overview
from regard.viewer.book.page import PAGE_LEN, num_pages, write_page
from regard.viewer.book.terminal import book_summary, page_text

__all__ = ["PAGE_LEN", "book_summary", "num_pages", "page_text", "write_overview", "write_page"]
