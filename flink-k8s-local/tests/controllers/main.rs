//! The controllers, on the API server they run on and with pods that need no containers.

#![expect(
    clippy::unwrap_used,
    reason = "these are tests, and what fails must fail them"
)]

mod deployments;
mod garbage_collection;
mod scheduling_and_endpoints;
mod support;
