"""Records in: where to begin, how far, and what is shed. Knows neither process() nor results."""
