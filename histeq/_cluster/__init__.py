"""Files on a cluster of dask.distributed: paths travel, and workers read and write their own blocks."""
