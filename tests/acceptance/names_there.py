"""Run where one of the two is: which names of the table are there. Reads it as JSON, prints those that are not."""

import importlib
import json
import sys


def parts():
    """What the table's kinds are kinds of."""
    from celery import Celery, chain, chord, group
    from celery.result import AsyncResult, EagerResult, GroupResult, ResultSet

    app = Celery("parts", broker="memory://", backend="cache+memory://" if sys.argv[1] == "celery" else "memory://")

    seen = []

    @app.task(bind=True)
    def task(self):
        seen.append(self.request)

    task.apply()
    request = seen[0]
    signatures = [task.s(), chain(task.s(), task.s()), group(task.s()), chord([task.s()], task.s())]
    signatures += [task.chunks([], 1), task.map([])]
    results = [AsyncResult("x", app=app), EagerResult("x", 1, "SUCCESS"), GroupResult("x", [], app=app)]
    return {
        "app": [app],
        "task": [task],
        "task option": [task],
        "request": [request],
        "result": [*results, ResultSet([], app=app)],
        "signature": signatures,
        "control": [app.control],
        "inspect": [app.control.inspect()],
        "amqp": [app.amqp],
        "events": [app.events],
    }


def has(thing, name):
    try:
        getattr(thing, name)
    except AttributeError:
        return hasattr(type(thing), name)
    except Exception:
        return True  # it is there, and wants something that is not here
    return True


def main():
    table = json.load(sys.stdin)
    absent = []
    for module, names in table["imports"].items():
        try:
            found = importlib.import_module(module)
        except ImportError as exc:
            if getattr(exc, "name", None) and not str(exc.name).startswith(("celery", "kombu", "billiard")):
                continue  # it needs a package that is not installed here, such as pytest
            absent.append(f"{module} ({exc})")
            continue
        absent += [f"{module}.{name}" for name in names if not has(found, name)]
    things = parts()
    for kind, names in table["members"].items():
        absent += [f"{kind} {name}" for name in names if not any(has(each, name) for each in things[kind])]
    print(json.dumps(absent))


if __name__ == "__main__":
    main()
