"""Fixtures for applications that use celeriac."""
