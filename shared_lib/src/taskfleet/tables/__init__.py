"""Reading of task tables in bounded memory, their conversion to JSON, and writing of result tables.

``read_batches`` yields the rows of a table in batches, in any format and from any location. ``slice_batches`` and ``filter_batches``
process batches before ``Batch.encode``, which returns the id and the JSON text of the keyword arguments of each task. All of them are
lazy: they read only what the consumer requests, so a table may have ten million rows. ``write_results`` writes a table of results.

A table that cannot be read raises ``TableError``; a row that cannot become a task raises ``InsertError``. Both messages name the
error, the table and row (counted from 1, without the header), and the remedy. No other exception is raised, even in the middle
of a table. ``taskfleet.tables.values`` documents the conversion of values.
"""
