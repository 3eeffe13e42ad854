//! Postrider, the webhook delivery daemon: one process, one binary, one file on disk.
//!
//! The modules below stand in the order a newcomer should read them. Arrows point one way: `model` knows nobody,
//! `service` and `engine` meet only in the store, `daemon` alone knows everybody. `tests/arrows.rs` keeps it true.
//! Each file documents itself. The lines here are no doc comments, because rustdoc would join them with the file's own
//! and look for its links in this file.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

// The words of the product as types.
pub mod model;

// The only place that reads a clock.
pub mod clock;

// The one file on disk, its writer and its readers.
pub mod store;

// Bodies: an event in each of the formats.
pub mod render;

// Signatures: every preset and the custom scheme.
pub mod sign;

// The only place that dials: guard, resolver, connections, hostile receivers.
pub mod client;

// When, where and how many: lanes, attempts, retention.
pub mod engine;

// What the mouths may ask for.
pub mod service;

// HTTP/1.1 within bounds: serving, requests, answers, problems, routes.
pub mod http;

// What the mouths share: how the service's answers are written.
pub mod mouth;

// The Unix socket that producers write to.
pub mod ingest;

// The admin API: the native routes, and one file per dialect.
pub mod api;

// The dashboard: pages for people, over the same verbs.
pub mod ui;

// Configuration: TOML, drop-ins, environment and flags become typed values with their origins.
pub mod config;

// Wires the parts together, runs them, and stops them in order.
pub mod daemon;

// The command line.
pub mod cli;
