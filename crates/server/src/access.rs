//! Who calls the admin API, and what they may do.
//!
//! | module | what it holds |
//! |---|---|
//! | `caller` | [`Caller`]: who a request is from, and what that may do |
//! | `jwt` | [`Jwts`]: signs and verifies our own tokens |
//! | `password` | [`Passwords`]: argon2, a bounded number at a time |
//! | `turns` | whose turn it is |
//! | `pace` | [`SignInPace`]: how often a network may fail to sign in |
//! | `refusals` | [`Refusals`]: refused sign-ins, counted for the audit log |
//! | `address` | [`Addresses`]: where a request comes from, also behind proxies |

mod address;
mod caller;
mod jwt;
mod pace;
mod password;
mod refusals;
mod turns;

pub(crate) use address::{Addresses, Peer};
pub(crate) use caller::Caller;
pub(crate) use jwt::{Jwts, Kind};
pub(crate) use pace::{Attempt, Candidate, SignInPace};
pub(crate) use password::{Passwords, check_password};
pub(crate) use refusals::Refusals;
