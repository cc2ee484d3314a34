"""Schedules: when something is due, and the beat that publishes it then, once."""
