//! Pods on a real local cluster in a sandbox: shells of this machine stand for images.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "these are the tests' helpers"
)]

mod containers;
mod file_systems;
mod life_of_the_cluster;
mod networks;
mod support;
