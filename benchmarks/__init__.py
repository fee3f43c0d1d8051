"""Runs artifacts, judges them, and reports: parity, quality, latency."""
