"""Suites of runs, sweeps over recipe keys, parallel jobs."""
