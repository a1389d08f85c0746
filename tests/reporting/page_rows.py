"""The tables of a page as a reader finds them."""

from html.parser import HTMLParser


class Rows(HTMLParser):
    """The texts of each row of a page's tables, cell by cell, without what is drawn."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "tr" or found.get("role") == "row":
            self.rows.append([])
        if tag in ("td", "th") or found.get("role") == "cell":
            self.rows[-1].append([])
        if tag not in ("meta", "link", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open.pop() != tag:
            pass

    def handle_data(self, text):
        if text.strip() and self.rows and self.rows[-1] and not {"svg", "script"} & {*self.open}:
            self.rows[-1][-1].append(text.strip())
