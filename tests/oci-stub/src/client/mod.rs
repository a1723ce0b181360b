//! The client half: handles as ODPI-C holds them, and the functions that it looks up by name.

mod exports;
mod handles;
mod link;
