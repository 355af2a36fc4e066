//! What happens to servers: they are killed, copied, failed over, restored, starved and reindexed, under load.
//!
//! Writers write at random while replicas of three roles are kept from answers alone; now and then a replica is frozen as it is, as by a
//! device that goes offline. After the fault, and some more load, every replica pulls, and must hold exactly what its role may SELECT.

pub mod app;
pub mod kinds;
pub mod load;
