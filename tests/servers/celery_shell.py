"""Runs in Celery's environment, where the tests' own packages are not: see `CeleryShell`."""

import base64
import importlib
import os
import pickle
import sys
import traceback

# not by `*`: 5.0 lists a module there that it no longer has
_NAMES = """
import datetime, decimal, uuid
from celery import chain, chord, chunks, group, signature
from celery.result import AsyncResult, GroupResult
"""


def main():
    """Answer one line for each line of the standard input."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed is no answer
    names = {}
    exec(_NAMES, names)
    names.update(vars(importlib.import_module(sys.argv[1])))
    for line in sys.stdin.buffer:
        mode, code, given = pickle.loads(base64.b64decode(line))
        names.update(given)
        try:
            if mode == "eval":
                answer = pickle.dumps(("value", eval(code, names)), protocol=4)
            else:
                exec(code, names)
                answer = pickle.dumps(("value", None), protocol=4)
        except Exception as exc:
            failure = type(exc).__name__, str(exc), traceback.format_exc()
            answer = pickle.dumps(("error", failure), protocol=4)
        answers.write(base64.b64encode(answer) + b"\n")
        answers.flush()


main()
