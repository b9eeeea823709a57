"""A cheap classifier decides the clear documents, the classifier itself the others: values, calibration, audit."""
