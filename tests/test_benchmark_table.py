"""benchmarks/run.py: rows are written as they end, failed ones too, and those not run again stay."""

import importlib.util
import sys

import pytest


@pytest.fixture
def run(project_dir, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("benchmarks_run", project_dir / "benchmarks" / "run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmarks_run", module)
    spec.loader.exec_module(module)
    (tmp_path / "says.py").write_text("import sys\nprint('said', *sys.argv[1:])\n")
    (tmp_path / "fails.py").write_text("print('begun')\nraise SystemExit('no such genome')\n")
    monkeypatch.setattr(module, "HERE", tmp_path)
    rows = {
        "bad": module.Row("Fails", "to end", "fails.py"),
        "once": module.Row("Of one genome", "twice", "says.py {genome} --rounds 5", "It has a reason."),
        "each": module.Row("Of each genome", "thrice", "says.py {held_out}"),
    }
    monkeypatch.setattr(module, "ROWS", rows)

    def start(*words):
        monkeypatch.setattr(sys, "argv", ["run.py", *map(str, words)])
        module.main()
        return (tmp_path / "RESULTS.md").read_text()

    return start


def test_a_row_that_fails_stands_with_the_others(run, tmp_path, capfd):
    text = run("--genome", "a.fa", f"{tmp_path}/b.fa:chrIV")
    failed, once, each = text.split("\n## ")[1:]
    assert failed.startswith("Fails\n") and "begun\nfailed: no such genome" in failed
    assert "$ python benchmarks/says.py --fasta a.fa --rounds 5\nsaid --fasta a.fa --rounds 5\n" in once
    assert once.rstrip().endswith("It has a reason.") and "Aim: twice." in once
    assert "said --fasta a.fa\n" in each and f"said --fasta {tmp_path}/b.fa --test-contigs chrIV\n" in each
    assert "said --fasta a.fa --rounds 5" in capfd.readouterr().out


def test_rows_that_are_not_asked_for_stay(run, tmp_path):
    before = run("--genome", "a.fa")
    after = run("--genome", "c.fa", "--only", "each")
    assert "said --fasta c.fa\n" in after and "said --fasta a.fa --rounds 5" in after
    assert [part.split("\n")[0] for part in after.split("\n## ")] == [
        part.split("\n")[0] for part in before.split("\n## ")
    ]


def test_a_path_of_this_machine_is_not_written(run, tmp_path):
    genome = tmp_path / "genome.fa"
    genome.write_text(">a\nACGT\n")
    assert "$ python benchmarks/says.py --fasta genome.fa --rounds 5\n" in run("--genome", genome)


def test_a_row_of_a_gpu_needs_its_option(run, capsys):
    with pytest.raises(SystemExit):
        run("--only", "mfu")
    assert "--only mfu: that row needs --gpu" in capsys.readouterr().err
