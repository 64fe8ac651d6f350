"""`genolm score` killed at any point and started again: the same bytes, and nothing left over."""

import functools
import hashlib
import random
import shutil
from functools import partial

import injections
import numpy as np
import pytest
import runs
from scoring import BASES, CONTIGS, other_base, record, save, write_vcf

from genolm.variants import scoring
from genolm.variants.job import ResultShards

SUFFIXES = [".vcf.gz", ".bcf", ".tsv", ".parquet"]


def in_short_stretches(before=None):
    """Let a job of a few hundred records have many parts; then do what else is asked for."""
    scoring.STRETCH = 32
    if before is not None:
        before()


def all_records():
    """300 records, sorted: single bases, insertions and deletions, and some that cannot be scored."""
    numbers, lines = random.Random(0), []
    for place in sorted(numbers.sample(range(1, 2900), 300)):
        size = numbers.choice([1] * 8 + [2, 3])
        base = CONTIGS["chr1"][place - 1]
        alt = numbers.choice([other_base(base, numbers.randrange(1, 4)), base + numbers.choice(BASES), "<DEL>", "*"])
        lines.append(record("chr1", place, size=size, alt=alt))
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resumes")
    (folder / "g.fa").write_text("".join(f">{name}\n{bases}\n" for name, bases in CONTIGS.items()))
    save(folder / "masked", "masked", {"architecture": "genolm", "mixers": ["attention"]})
    write_vcf(
        folder / "x.vcf", ['##INFO=<ID=AC,Number=1,Type=Integer,Description="a">', "##contig=<ID=chr1>", *all_records()]
    )
    lines = (folder / "x.vcf").read_text().splitlines()
    (folder / "x.vcf").write_text("\n".join([lines[0], *lines[2:4], lines[1], *lines[4:]]) + "\n")
    return folder


def start(folder, out, before=None):
    """Start the command in a process of its own."""
    options = ["--fasta", folder / "g.fa", "--model", folder / "masked", "--background", 5, "--out", out]
    words = ["score", folder / "x.vcf", *options]
    runs._ensure_server()
    told = out.with_name(f"{out.name}.told")
    arguments = ([str(word) for word in words], str(told), {}, partial(in_short_stretches, before))
    process = runs.SERVER.Process(target=runs._child, args=arguments)
    process.start()
    return process


def finished(folder, out, before=None):
    """Run the command to its end; return its exit code and what it said."""
    (code,) = runs.finish([start(folder, out, before)])
    return code, out.with_name(f"{out.name}.told").read_text()


def files(out):
    """Name → sha256 of every file of a job, but what it said; pictures and numbers of the summary among them."""
    found = {path for path in out.parent.iterdir() if path.name != f"{out.name}.told"}
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder" for path in found}


@pytest.fixture(scope="module")
def unbroken(folder, tmp_path_factory):
    """Suffix → what an unbroken job leaves, and how many operations on files and bytes that takes."""
    if not runs.killer():
        pytest.skip("no C compiler for kill_at.c")

    @functools.cache
    def made(suffix):
        place, report = tmp_path_factory.mktemp("unbroken"), tmp_path_factory.mktemp("report") / "numbers"
        code, told = finished(folder, place / f"o{suffix}", partial(injections.count, str(place), str(report)))
        assert code == 0, told
        operations, written = (int(number) for number in report.read_text().split())
        assert operations > 60 and written > 20_000
        return files(place / f"o{suffix}"), operations, written

    return made


def ends(folder, out, expected):
    """Start a killed job again, unless nothing was left to do; check that it ends as one that was not killed."""
    code, told = finished(folder, out)
    assert code == 0 or (code == 2 and f"--out {out} is there already" in told), told
    left = out.with_name(f"{out.name}.parts")
    if left.is_dir() and not any(left.iterdir()):
        left.rmdir()  # killed just before its last act
    assert files(out) == expected


@pytest.mark.parametrize(
    ("suffix", "number"),
    [(".tsv", 2), pytest.param(".vcf.gz", 10, marks=pytest.mark.slow)],
)
def test_killed_again_and_again(folder, tmp_path, unbroken, suffix, number):
    """One job, each time killed after a few operations more, which are too few to end it."""
    expected, operations, _ = unbroken(suffix)
    chance, out = random.Random(suffix), tmp_path / f"o{suffix}"
    for _ in range(number):
        deadly = partial(injections.arm, str(tmp_path), operation=chance.randrange(4, 12))
        assert finished(folder, out, deadly)[0] == -9
    ends(folder, out, expected)


@pytest.mark.parametrize(
    ("suffix", "every"),
    [(".parquet", 10), *(pytest.param(suffix, 3, marks=pytest.mark.slow) for suffix in SUFFIXES)],
)
def test_killed_at_any_point(folder, tmp_path, unbroken, suffix, every):
    """Points among all operations on files, among all bytes, and among the operations of the end.

    There the parts become the output, it is indexed, the figure and the summary are written, and the parts removed.
    """
    expected, operations, written = unbroken(suffix)
    chance = random.Random(suffix)
    points = [{"operation": chance.randrange(1, operations + 1)} for _ in range(10)]
    points += [{"after_bytes": chance.randrange(written)} for _ in range(10)]
    points += [{"operation": operation} for operation in chance.sample(range(operations - 39, operations + 1), 10)]
    for point in points[every - 3 :: every]:
        place = tmp_path / "_".join(f"{key}-{value}" for key, value in point.items())
        place.mkdir()
        out = place / f"o{suffix}"
        code, told = finished(folder, out, partial(injections.arm, str(place), **point))
        assert code == -9, (point, told)
        ends(folder, out, expected)
        shutil.rmtree(place)


def test_only_what_is_left_counts_for_the_speed(tmp_path):
    parts = ResultShards(tmp_path)
    assert parts.num_left([5, 7, 2]) == 14
    parts.save(1, {"status": np.zeros(7, dtype=np.uint8)})
    assert parts.num_left([5, 7, 2]) == 7
