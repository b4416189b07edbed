"""The page of report.py taken apart, without a browser."""

import html.parser
import json


class ParsedPage(html.parser.HTMLParser):
    """The parts of a page.

    Attributes:
        source, text: the whole page; all its text.
        tags: [(tag, attributes), ...].
        rows: the cells of each row of each table, as texts.
        plots: the figures of Plotly.
    """

    def __init__(self, source):
        super().__init__()
        self.source = source
        self.tags, self.rows, self.plots, self.texts = [], [], [], []
        self._script, self._in_cell = None, False
        self.feed(self.source)
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._script = dict(attributes).get("type", "javascript") if tag == "script" else None
        self.rows += [[]] if tag == "tr" else []
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        self._script = None if tag == "script" else self._script
        self._in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        if self._script == "application/json":
            self.plots.append(json.loads(data))
        elif not self._script:
            self.texts.append(data.strip())
            if self._in_cell:
                self.rows[-1][-1] += data.strip()

    def row(self, *first_cells):
        """Return the cells of the one row, of all tables, that begins with these cells."""
        (row,) = [row for row in self.rows if row[:len(first_cells)] == list(first_cells)]
        return row

    def traces(self, kind, plot=0):
        """Return {name: (x, y)} of the lines of a kind in a plot."""
        return {trace["name"]: (trace["x"], trace["y"]) for trace in self.plots[plot]["data"]
                if trace["meta"]["kind"] == kind}
