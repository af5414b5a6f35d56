"""Results out, offsets committed: the only room that knows what a delivery guarantee means. Knows no reading."""
