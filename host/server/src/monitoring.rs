//! Monitors and checks: from samples and probes to alerts.
