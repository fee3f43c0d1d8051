"""Photos larger than any exported resolution, in tiles that give what the whole frame would."""
