//! The port of receivers: any path that a tenant's receiver serves.
