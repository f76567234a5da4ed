"""ClickHouse executes: the relations as queries of ClickHouse, over the collector's table of spans."""
