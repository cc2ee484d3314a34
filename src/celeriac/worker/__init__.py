"""Running tasks: supervisor, fork server, processes and what is in them. Import from the modules: each process needs
few of them, and what it does not import costs it no memory.
"""
