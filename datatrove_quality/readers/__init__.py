"""DataTrove readers that lose no row."""
