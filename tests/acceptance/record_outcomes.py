"""Writes `outcomes/`, what real Celery makes of the applications: python tests/acceptance/record_outcomes.py [NAME]."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from acceptance_sides import APPLICATIONS, OUTCOMES, Environment, Run  # noqa: E402

from servers import RedisServer  # noqa: E402


def main(*names: str) -> None:
    environment = Environment.build("celery")
    with RedisServer() as server:
        for name in names or APPLICATIONS:
            application = APPLICATIONS[name]
            server.empty()
            urls = [server.url_at(server.port, database=number) for number in (1, 2)]
            folder = Path(tempfile.mkdtemp(prefix="celeriac-outcomes-"))
            found = Run(environment, name, application, folder, *urls).outcomes()
            print(name, found.pop("stderr", ""), file=sys.stderr)
            file = OUTCOMES / f"{application.folder or name}.json"
            known = json.loads(file.read_text()) if file.exists() else {}
            file.write_text(json.dumps(known | found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
