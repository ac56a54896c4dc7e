//! Runs of jobs: claimed by a lease, then done, then recorded with what they counted.
