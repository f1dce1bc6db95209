"""``report.html``, a page that needs no network and no script, and the same in brief on a terminal.

``sections/`` turns records into what the page says, ``charts/`` draws inline SVG, ``templates/`` holds the page.
"""

from regard.viewer.report.terminal import summary
from regard.viewer.report.write import write_report

__all__ = ["summary", "write_report"]
