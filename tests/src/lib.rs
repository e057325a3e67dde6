//! What the live tests stand on, in reading order: programs to observe, the observer, its lines, what must hold for
//! them, and the oracle's log. Everything here drives finished programs; only `inside` knows the observer's
//! library, for what its commands do not show.

pub mod wait;

pub mod fixture;
pub mod observer;

pub mod inside;

pub mod schema;
pub mod stream;
pub mod swap;

pub mod look;
pub mod awaiting;
pub mod places;
pub mod diagnosis;
pub mod rights;
pub mod plain;
pub mod score;
pub mod verdicts;

pub mod life;
pub mod oracle;
pub mod chains;
pub mod truth;

pub mod host;
pub mod kernel;
