//! Steps of a track, on both databases.
