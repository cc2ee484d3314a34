"""Makes `import celery` ours in every interpreter that has this directory on its path."""

import celeriac

celeriac.install_as_celery()
