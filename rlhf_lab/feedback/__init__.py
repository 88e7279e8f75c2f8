"""Getting responses ranked."""
