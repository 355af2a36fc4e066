//! What a client sends, read piece by piece.

use serde::{Deserialize, Deserializer};

use crate::server::memory;

/// One of many values: a cancellation, or a lack of memory, is heeded before each.
pub struct Checked<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        memory::heed();
        T::deserialize(from).map(Checked)
    }
}

/// One of many values, where no server is: a lack of memory is heeded before each.
pub struct Fitting<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Fitting<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        memory::heed_memory();
        T::deserialize(from).map(Fitting)
    }
}
