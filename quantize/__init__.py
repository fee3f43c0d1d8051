"""Float network -> fused network -> int8 graph. Knows no runtime."""
