"""Binds plans to devices and runs them."""
