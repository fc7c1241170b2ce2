//! Relays with real sockets, by the rows of PROTOCOL section 6.

mod admission;
mod explain;
mod logs;
mod peers;
mod reading;
mod routing;
mod tracked;
mod world;
