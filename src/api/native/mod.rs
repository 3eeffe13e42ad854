//! The native API under `/v1`: the wire's types, one file for each thing.

pub mod delivery;
pub mod destination;
pub mod event;
pub mod key;
pub mod signature;
pub mod status;
pub mod subscription;
pub mod tenant;
