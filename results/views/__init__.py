"""Questions that the dashboard and notebooks ask: aggregates made by the database, returned as pandas frames or frozen rows.

    from benchrun.results import open_store
    from benchrun.results.views import catalogue, latest, summaries

    with open_store(read_only=True) as store, store.reading() as connection:
        group = catalogue.groups(connection)[0]
        frame = summaries.summarise(latest.latest_results(connection, group))

Each function takes an open connection and reads only. One launch of a point is one row (`launches` frames, columns in
`frames.py`); `summaries.summarise` makes one row a point of them.
"""
