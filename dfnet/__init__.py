"""DFNet, its captures, and the contracts every other package shares."""
