//! shoal job: posting runs of jobs and looking at them.
