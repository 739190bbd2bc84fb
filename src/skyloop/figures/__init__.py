"""Pens that draw the panels of any technique."""
