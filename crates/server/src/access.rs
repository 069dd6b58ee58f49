//! Identifies the callers of the admin API, and what each may do.
//!
//! | module | what it holds |
//! |---|---|
//! | `caller` | [`Caller`]: the operator or token behind a request, and its rights |
//! | `confirmed_scrapers` | [`ConfirmedScrapers`]: tokens that may read metrics while the store is away |
//! | `jwt` | [`Jwts`]: signs and verifies the installation's own tokens |
//! | `password` | [`Passwords`]: argon2, a bounded number at a time |
//! | `priority_semaphore` | a semaphore with two queues, for password checks |
//! | `session_cookie` | the cookie that keeps a session in a browser |
//! | `sign_in_rate_limiter` | [`SignInRateLimiter`]: how often sign-ins from a network may fail |
//! | `refusals` | [`Refusals`]: refused sign-ins, counted for the audit log |
//! | `address` | [`Addresses`]: a request's client address, also behind proxies |

mod address;
mod caller;
mod confirmed_scrapers;
mod jwt;
mod password;
mod priority_semaphore;
mod refusals;
mod session_cookie;
mod sign_in_rate_limiter;

pub(crate) use address::{Addresses, OverTls, Peer};
pub(crate) use caller::{Caller, Scraper};
pub(crate) use confirmed_scrapers::ConfirmedScrapers;
pub(crate) use jwt::{Jwts, Kind};
pub(crate) use password::{Passwords, check_password};
pub(crate) use refusals::Refusals;
pub(crate) use session_cookie::{IDLE_LIFETIME, draw_secret, hash, set_session_cookie};
pub(crate) use sign_in_rate_limiter::{Attempt, Candidate, SignInRateLimiter};
