"""One classifier: found, checked, loaded, rendered for, and run forward."""
