"""Looks at the worker, and never changes it: health, snapshot, report, page, metrics. Builds and starts nothing."""
