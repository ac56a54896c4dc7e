//! How usage becomes money: hours are closed, and a month's closed hours are priced by the tenant's billing rule.
