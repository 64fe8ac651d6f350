"""Comparison page, mutation page, model card and figures."""
