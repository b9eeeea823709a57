"""Scored rows as one HTML page."""
