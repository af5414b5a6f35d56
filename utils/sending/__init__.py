"""Results out, offsets committed, in the delivery mode: at least once or exactly once. Knows no reading."""
