"""What the studies of quantized programs share: scores, costs, resumable results."""
