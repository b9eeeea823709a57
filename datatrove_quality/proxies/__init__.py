"""Making a proxy for a cascade, and certifying it, on a sample of the corpus."""
