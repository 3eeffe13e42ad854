//! The admin API: what callers write and read over HTTP, and who may.
//!
//! The wire's own types live here and nowhere else: a request becomes a value of the model at the door, or an error that
//! names each wrong field; a view shows a value of the model without its secrets. What is done with them is the
//! service's business.

pub mod credentials;
pub mod door;
pub mod native;
pub mod page;
