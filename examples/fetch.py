"""A thousand tasks that wait, on one process: `async def` tasks share the worker's event loop.

celeriac -A fetch worker -c 1 --async-slots 1000
python fetch.py
"""

import asyncio
import time

from celeriac import Celeriac

app = Celeriac("fetch", broker="sqlite:///fetch.db")


@app.task
async def fetch(page: int) -> int:
    """In place of a request to a slow server."""
    await asyncio.sleep(0.1)
    return page


async def main() -> None:
    began = time.perf_counter()
    results = await fetch.adelay_many(range(1000))
    pages = await asyncio.gather(*results)
    print(f"{len(pages)} pages in {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    asyncio.run(main())
