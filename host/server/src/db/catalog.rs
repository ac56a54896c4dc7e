//! The store's catalog in SQL: segments, the log's position, and the usage that comes with a flush.
