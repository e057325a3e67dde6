//! What the live tests stand on, in reading order: programs to observe, the observer, its lines, what must hold for
//! them, and the oracle's log. Everything here drives finished programs; nothing knows the observer's inside.

pub mod wait;

pub mod fixture;
pub mod observer;

pub mod schema;
pub mod stream;

pub mod look;
pub mod places;
pub mod verdicts;

pub mod life;
pub mod oracle;
pub mod truth;
