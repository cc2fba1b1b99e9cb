"""What `manage.py apply` does with a file: read it with its lines, check it, bring the database to it."""
