"""Titles of metrics, for tables and figures."""

TITLES = {
    "mcc": "MCC",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auprc_by_chrom": "AUPRC by chromosome",
    "f1": "F1",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "r2": "R²",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "mse": "MSE",
}
