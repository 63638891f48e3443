"""The table, and plots that need nothing but themselves."""

import html.parser
import json
import re

import matplotlib.image
import pytest

from pipeline.tune import report

BEST = {"batch_tokens": 2000, "in_flight": 2, "intra_op": 1}
ROW = {
    "repeats": 3,
    "tokens_per_second": 1500.0,
    "first_quartile": 1400.0,
    "third_quartile": 1600.0,
    "documents_per_second": 15.0,
    "latency": 0.25,
    "latency_p95": 0.5,
    "peak_bytes": 600 << 20,
    "waited": 0.0125,
    "stopped": None,
}
RECORD = {
    "model": "s3://bucket/</script>",
    "model_digest": "d" * 64,
    "device": "A <processor>",
    "cores": 2,
    "documents": 300,
    "tokens": 30000,
    "usual": {"batch_tokens": 1000, "in_flight": 2, "intra_op": 1},
    "trials": [
        {"batch_tokens": 1000, "in_flight": 2, "intra_op": 1} | ROW | {"tokens_per_second": 1000.0},
        BEST | ROW,
        {"batch_tokens": 2000, "in_flight": 1, "intra_op": 2} | ROW,
        {"batch_tokens": 4000, "in_flight": 2, "intra_op": 1, "repeats": 0, "stopped": "out of memory"},
        {"batch_tokens": 8000, "in_flight": 2, "intra_op": 1, "repeats": 0, "stopped": None},
    ],
    "best": BEST,
    "reason": None,
    "remembered": "/cache/x.json",
    "plots": ["/p.png"],
}


def test_the_table_marks_the_best():
    lines = report.table(RECORD).splitlines()
    starred = [line for line in lines if line.lstrip().startswith("*")]
    assert [line.split() for line in starred] == [
        [
            "*",
            "2,000",
            "2",
            "1",
            "3",
            "1,500",
            "1,400",
            "to",
            "1,600",
            "15.0",
            "250.0",
            "500.0",
            "600",
            "1.2%",
        ]
    ]
    assert any("out of memory" in line for line in lines)
    assert any("not tried" in line for line in lines)


def test_in_words():
    words = list(report.in_words(RECORD))
    assert "on A <processor>, 2 cores: 300 documents of about 30,000 tokens for each trial" in words[0]
    assert words[2:] == [
        "best: mini-batches of 2,000 tokens, 2 in flight, 1 thread each, 1.50 times the usual 1,000",
        "remembered in /cache/x.json: `embed` takes it where no --batch-tokens is given",
        "plot: /p.png",
    ]
    twice = [row | {"repeats": min(2, row["repeats"])} for row in RECORD["trials"]]
    said = list(report.in_words(RECORD | {"trials": twice}))
    assert said[3] == "it was tried 2 times only: give more --minutes to be sure"
    none = {"best": None, "trials": [], "reason": "too few"}
    assert list(report.in_words(RECORD | none))[1:] == ["nothing is remembered: too few"]


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.outside, self.data, self._in = [], [], "", ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._in = tag
        loads = [v for k, v in attributes if k in ("src", "href", "xlink:href", "data") and v]
        self.outside += [value for value in loads if not value.startswith("#")]

    def handle_data(self, data):
        if self._in == "script":
            self.data += data


def test_plots(tmp_path):
    png, page = report.write_plots(RECORD, tmp_path / "new" / "plot.1")
    assert (png, page) == (str(tmp_path / "new" / "plot.1.png"), str(tmp_path / "new" / "plot.1.html"))
    pixels = matplotlib.image.imread(png)
    assert pixels.shape[0] > 500
    assert len({tuple(p) for p in pixels[::7, ::7].reshape(-1, 4).tolist()}) > 5  # something is drawn
    text = (tmp_path / "new" / "plot.1.html").read_text()
    parsed = Page()
    parsed.feed(text)
    assert {"svg", "table", "path"} <= set(parsed.tags)
    assert parsed.outside == []
    assert not re.search(r"@import|url\((?!#)", text)
    shown = json.loads(parsed.data.replace("<\\/", "</"))
    assert shown["trials"] == RECORD["trials"]
    assert "<processor>" not in text.partition("<script")[0].replace("&lt;processor&gt;", "")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["plot.1.html", "plot.1.png"]


def test_a_plot_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr("pipeline.tune.report.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        report.write_plots(RECORD, tmp_path / "plot")
    assert list(tmp_path.iterdir()) == []
