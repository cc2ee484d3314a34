"""Additions for Django."""
