"""genolm compare: the page in a real browser, the files it writes, and what it refuses."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from finetuned_runs import NAMES, make_run, make_study

from genolm import cli
from genolm.commands.compare import compare

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
VOID = {"meta", "br"}


class Balance(HTMLParser):
    """Collects what is opened and not closed, and every address."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "action", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def run_compare(runs, out, **options):
    defaults = {"against": None, "metric": None, "split": "test", "replicates": 100, "seed": 0}
    compare([str(run) for run in runs], out, **(defaults | options))
    return json.loads((out / "metrics.json").read_text()), (out / "index.html").read_text()


@pytest.mark.parametrize("kind", NAMES)
def test_a_page_of_every_kind(tmp_path, kind, capsys):
    runs = make_study(tmp_path / "runs", kind, seeds=2, num_rows=60, fractions=(0.1,))
    found, page = run_compare(runs, tmp_path / "out")
    parser = Balance()
    parser.feed(page)
    assert parser.open == [] and all(address.startswith("#") for address in parser.addresses)
    assert not parser.tags & {"script", "img", "link", "iframe", "object"}
    assert not re.search(r"url\(|@import|https?://", page)
    assert (
        page.count("<figure>") >= 7
        and "nan" not in re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL).lower().split()
    )
    (task,) = found["tasks"]
    assert len(task["runs"]) == 6 and task["rows"] == 60
    printed = capsys.readouterr().out
    for name in ("lora", "basset", "kmer"):
        assert name in printed
    assert found["finding"].split(";")[0][:30] in printed


def test_the_page_shows_the_numbers_of_metrics_json(tmp_path):
    found, page = run_compare(make_study(tmp_path / "runs", seeds=2, num_rows=60), tmp_path / "out")
    (task,) = found["tasks"]
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    figures = re.findall(r"<figure>.*?</figure>", page, re.DOTALL)
    roc = next(figure for figure in figures if "<h3>ROC</h3>" in figure)
    table_rows = body.split("</tr>")[:-1]
    assert re.search(r"Dotted: precision of a random order, the [\d.]+ % of rows of class promoter\.", page)
    for row, cells in zip(task["runs"], table_rows, strict=True):
        values = {key: f"{row['metrics'][key]['value']:.3f}".replace("-", "−") for key in row["metrics"]}
        for value in values.values():
            assert f">{value}<small>" in cells
        assert f">{row['name']}</span>" in cells
        assert f">{row['name']}</text>" in figures[0] and f">{values['mcc']}</text>" in figures[0]
        assert f">{row['name']}  {values['auroc']}</text>" in roc
        if row["difference"]:
            assert f"{row['difference']['mcc']['value']:+.3f}</text>".replace("-", "−") in figures[1]


def test_several_tasks_stand_on_one_page(tmp_path):
    runs = make_study(tmp_path / "a", seeds=1, num_rows=80, task_name="promoters")
    runs += make_study(tmp_path / "b", "regression", seeds=1, num_rows=60, task_name="<b>activity</b>")
    found, page = run_compare(runs, tmp_path / "out")
    assert len(found["tasks"]) == 2 and "of 2 tasks" in found["finding"]
    assert "<h2>promoters</h2>" in page and "<h2>&lt;b&gt;activity&lt;/b&gt;</h2>" in page


def test_what_comes_from_files_is_escaped(tmp_path):
    evil = '</pre><script>alert("x")</script>'
    run = make_run(tmp_path / "a", evil, num_rows=40, method=evil, task_name=evil)
    (run / "recipe.yaml").write_text(evil)
    about = json.loads((run / "metrics.json").read_text()) | {"leakage": {evil: evil}}
    (run / "metrics.json").write_text(json.dumps(about))
    (run / "provenance.json").write_text(json.dumps({"versions": {evil: evil}}))
    _, page = run_compare([run], tmp_path / "out")
    assert "<script" not in page and page.count("&lt;script&gt;") >= 8


def test_the_same_runs_give_the_same_files(tmp_path):
    runs = make_study(tmp_path / "runs", seeds=2, num_rows=60)
    first = run_compare(runs, tmp_path / "out")
    assert run_compare(runs, tmp_path / "out") == first
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "metrics.json"]


def test_undefined_metrics_are_null_and_a_dash(tmp_path):
    run = make_run(tmp_path / "a", "lora", num_rows=30)
    rows = pq.read_table(run / "predictions.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist([row | {"label": 1} for row in rows]), run / "predictions.parquet")
    about = json.loads((run / "metrics.json").read_text()) | {"test": {}}
    (run / "metrics.json").write_text(json.dumps(about))
    found, page = run_compare([run], tmp_path / "out")
    assert found["tasks"][0]["runs"][0]["metrics"]["mcc"] == {"value": None, "low": None, "high": None}
    assert "–" in page


def test_a_target_without_labels_is_left_out(tmp_path):
    run = make_run(tmp_path / "a", "lora", "regression", num_rows=30)
    path = run / "predictions.parquet"
    rows = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([row | {"label": [None, row["label"][1]]} for row in rows]), path)
    (run / "metrics.json").write_text(json.dumps(json.loads((run / "metrics.json").read_text()) | {"test": {}}))
    found, page = run_compare([run], tmp_path / "out")
    assert "r2/developmental" in found["tasks"][0]["runs"][0]["metrics"]
    assert "true developmental" in page and "true housekeeping" not in page


def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(cli.VERBS, "compare", "runs side by side")
    runs = [make_run(tmp_path / name, name, num_rows=rows) for name, rows in (("lora", 40), ("danq", 30))]
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", *map(str, runs), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ") and len(said.splitlines()) == 1
    assert "10 only in" in said and not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    run = make_run(tmp_path / "a", "lora", num_rows=30)
    before = (run / "metrics.json").read_bytes()
    with pytest.raises(ValueError, match="which does not belong to a comparison; give a new folder"):
        run_compare([run], run)
    only_metrics = tmp_path / "b"
    only_metrics.mkdir()
    (only_metrics / "metrics.json").write_bytes(before)
    with pytest.raises(ValueError, match=r"holds a metrics.json of something other than a comparison"):
        run_compare([run], only_metrics)
    with pytest.raises(ValueError, match="is not a folder"):
        run_compare([run], run / "recipe.yaml")
    assert (run / "metrics.json").read_bytes() == before


def browse(path, folder, *options):
    """Open a page without a network: its DOM, the addresses that it asked for, and what the console said."""
    folder.mkdir()
    log = folder / "net.json"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += [
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        f"--log-net-log={log}",
        "--dump-dom",
    ]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking", *options, f"file://{path}"]
    env = os.environ | {"HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr
    events = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    # The browser's own errands, such as its updates, have no page behind them.
    asked = {event["url"] for event in events if event.get("initiator", "not an origin") != "not an origin"}
    return done.stdout, asked, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH")
def test_the_browser_reports_requests_and_errors(tmp_path):
    (tmp_path / "bad.html").write_text('<img src="http://pictures.invalid/x.png"><script>nothing()</script>')
    _, asked, console = browse(tmp_path / "bad.html", tmp_path / "browser")
    assert asked == {"http://pictures.invalid/x.png"}
    assert len(console) == 1 and "nothing is not defined" in console[0]


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH")
@pytest.mark.parametrize("options", [[], ["--blink-settings=preferredColorScheme=0"]], ids=["light", "dark"])
def test_the_page_in_a_browser(tmp_path, options):
    runs = make_study(tmp_path / "runs", seeds=2, num_rows=80, fractions=(0.1,))
    found, _ = run_compare(runs, tmp_path / "out")
    dom, asked, console = browse(tmp_path / "out" / "index.html", tmp_path / "browser", *options)
    assert (asked, console) == (set(), [])
    table = dom[dom.index("<tbody>") : dom.index("</tbody>")]
    assert table.count("<tr>") == 6
    for row in found["tasks"][0]["runs"]:
        assert f">{row['name']}</span>" in table
        assert f"{row['metrics']['mcc']['value']:.3f}".replace("-", "−") in table
    assert dom.count("<svg") == dom.count("<figure>") == 8
