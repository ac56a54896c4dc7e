//! The road, end to end, over the real process.
