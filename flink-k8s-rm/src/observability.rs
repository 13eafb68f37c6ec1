//! What the resource manager tells about itself: `/healthz`, `/readyz`, `/status`, `/metrics`.
//!
//! [`Observer`] follows the events and actions of the state machine and turns them into numbers; it
//! decides nothing. [`StatusServer`] answers those who ask, and [`EventPublisher`] tells those who look at the
//! Deployment.

mod announcements;
mod event_publisher;
mod java_liveness;
mod metrics;
mod observer;
mod readiness;
mod report;
mod server;

pub(crate) use announcements::Announcements;
pub(crate) use event_publisher::EventPublisher;
pub use java_liveness::{JavaHealth, JavaLiveness};
pub use metrics::Metrics;
pub(crate) use observer::Observer;
pub use readiness::Readiness;
pub use server::{BindStatusServerError, Idle, StatusServer};
