//! Values on their way to JSON and from clients, and the decisions about these that need no server.

pub mod conflict;
pub mod cursor;
pub mod device;
pub mod dialect;
pub mod excerpt;
pub mod json;
pub mod notify;
pub mod settings;
pub mod siphash;
pub mod spans;
pub mod token;
pub mod wire_id;
