//! The files that are part of the program: the SDK's scripts, and the pages of `/docs`.

pub(crate) mod docs;
pub(crate) mod sdk;
