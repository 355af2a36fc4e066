//! What PostgREST makes of a request: a transaction of four statements.

use anyhow::Result;

use crate::wire::Wire;
use crate::world::ME;

/// Whether the request may write.
#[derive(Clone, Copy)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// To be called once in a session that makes requests.
pub fn prepare(wire: &mut Wire) -> Result<()> {
    wire.prepare(
        "context",
        "SELECT set_config('search_path', 'public', true), set_config('role', 'app', true), \
         set_config('request.jwt.claims', $1, true), set_config('request.method', 'POST', true)",
    )
}

/// One request, of the user `ME`: the transaction, role and claims, the prepared statement.
pub fn send(wire: &mut Wire, access: Access, statement: &str, parameters: &[&str]) -> Result<()> {
    let claims = serde_json::json!({ "role": "app", "sub": ME }).to_string();
    wire.run(match access {
        Access::ReadOnly => "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
        Access::ReadWrite => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    })?;
    wire.execute("context", &[&claims])?;
    wire.execute(statement, parameters)?;
    wire.run("COMMIT")?;
    Ok(())
}
