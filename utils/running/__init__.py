"""Starts, restarts and stops workers, and re-reads their row. Knows no command."""
