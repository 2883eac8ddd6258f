"""Studies: runs that are trained once, notebooks executed headlessly, tables and a report."""
