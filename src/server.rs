//! The ground: the server's own means, made safe to use. Nothing here knows what syncing is.

pub mod array;
pub mod checked;
pub mod commit;
pub mod deferred;
pub mod error;
pub mod heap;
pub mod http;
pub mod locks;
pub mod memory;
pub mod modifier;
pub mod node;
pub mod order;
pub mod pg;
pub mod receiver;
pub mod session;
pub mod signal;
pub mod slot;
pub mod spi;
pub mod stack;
pub mod statement;
pub mod subxact;
pub mod talk;
pub mod time;
pub mod trigger;
pub mod turn;
