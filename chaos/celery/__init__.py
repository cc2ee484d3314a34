"""The same faults with Celery's workers and producers, as people run them, beside ours.

- `celery_side` runs in Celery's environment, where nothing of ours is: its tasks and producers write the same history.
- `manners` are the two sets of settings: as Celery comes, and the safest that its documentation knows.
- `stage` puts Celery's programs where ours are; `faults` happen to both alike; `command` runs them and makes the table.
"""
