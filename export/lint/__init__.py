"""Reads a network before export: operators that phones run badly, values float16 cannot hold."""
