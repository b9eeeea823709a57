"""How good scores are: against labels, and at every threshold."""
