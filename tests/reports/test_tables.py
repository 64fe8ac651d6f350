"""Measures on the terminal: nothing that tells two rows apart is cut."""

from genolm.reports.tables import print_variants


def test_names_that_begin_alike_are_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"GENOLM_EMBEDDING_WINDOW_OF_EVERYTHING_{how}" for how in ("COSINE", "DOT")]
    number = {"value": 0.1234, "low": -0.1, "high": 0.25}
    row = {"baseline": False, "metrics": {"spearman": number, "pearson": number}}
    rows = [row | {"name": name, "difference": {"spearman": number}} for name in names]
    left_out = {f"no {names[0]}": 3, "no label": 2}
    counts = {"read": 9, "used": 4, "left_out": left_out, "chromosomes": 1}
    print_variants({"scores": rows, "rows": counts, "finding": "."})
    lines = capsys.readouterr().out.splitlines()
    first = "".join(line.split("  ")[0].strip() for line in lines)
    assert names[0] in first and names[1] in first
    assert f"  3 left out: no {names[0]}; --scores without it keeps them" in lines and "  2 left out: no label" in lines
