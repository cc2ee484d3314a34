"""The series on Redis: every contestant on one server, with two worker processes each."""
