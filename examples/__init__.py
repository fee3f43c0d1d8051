"""Networks of your own, as ``--factory`` takes them."""
