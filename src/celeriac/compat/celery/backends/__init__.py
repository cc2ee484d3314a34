"""Result stores, with the methods of Celery's backends."""
