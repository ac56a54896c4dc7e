//! Notifications: what is to be told through which channel, and what became of it.
