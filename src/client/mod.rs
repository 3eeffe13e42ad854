//! The only place that dials.

pub mod guard;
