//! What a client sends, read piece by piece.

use serde::{Deserialize, Deserializer};

/// One of many values: a cancellation is heeded before each.
pub struct Checked<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Checked<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        pgrx::check_for_interrupts!();
        T::deserialize(from).map(Checked)
    }
}
