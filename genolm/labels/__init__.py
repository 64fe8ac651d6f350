"""Fine-tuning data: tables and intervals to labelled rows, tasks, splits, leakage and batches."""
