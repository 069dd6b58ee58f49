//! Helpers that all HTTP requests share, and pages besides the APIs: health, the demo.

pub(crate) mod acme_challenge;
pub(crate) mod base_path;
mod client_address;
pub(crate) mod cors;
pub(crate) mod demo;
pub(crate) mod error;
pub(crate) mod headers;
pub(crate) mod health;
pub(crate) mod paths;

pub(crate) use client_address::ClientAddress;
