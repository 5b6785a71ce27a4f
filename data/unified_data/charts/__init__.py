"""The chart world: small charts and tables whose numbers are known exactly."""
