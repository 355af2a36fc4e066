//! End-to-end checks of snapsync. Each program in `src/bin` makes its own throwaway cluster, speaks to it as PostgREST
//! would, and ends with a line `N passed, N failed`; the exit code tells the same.

pub mod abuse;
pub mod cluster;
pub mod faults;
pub mod fuzz;
pub mod model;
pub mod naive;
pub mod pgoutput;
pub mod postgrest;
pub mod replica;
pub mod rls_live;
pub mod verdict;
