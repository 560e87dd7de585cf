"""One HTML file about an evaluation, with all its pictures inside."""

from .collect import ReportEvaluator

__all__ = ["ReportEvaluator"]
