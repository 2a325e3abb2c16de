"""The decision: gate, verdict and what they are made of."""
