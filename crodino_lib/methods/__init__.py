"""Methods: the rows of the table, each a wiring of networks and losses."""
