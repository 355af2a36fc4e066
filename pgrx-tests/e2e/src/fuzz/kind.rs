//! What sort of thing a statement is: to leave a sort out, and to say what caused a reset.

use serde::{Deserialize, Serialize};

/// In the order of how likely each is the cause of a reset, where several happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
pub enum OpKind {
    /// GRANT role TO role, BYPASSRLS, INHERIT
    Role,
    /// row-level security on or off, the table's owner
    Security,
    /// CREATE, ALTER and DROP POLICY
    Policy,
    /// another body for a function that policies call
    Function,
    /// ATTACH and DETACH PARTITION
    Partition,
    /// columns added, dropped, renamed, of another type
    Columns,
    /// GRANT and REVOKE of tables and columns
    Grant,
    Truncate,
    /// DDL of what has nothing to do with synced tables
    Unrelated,
    /// changes of the members table, and of what shows its rows
    Members,
    /// rows of all other tables
    Rows,
    /// a client's new row
    Push,
    Savepoint,
    Rollback,
    /// replicas that start again from null
    Forget,
    Pull,
}

impl OpKind {
    pub fn of(sql: &str) -> Self {
        let has = |part: &str| sql.contains(part);
        let starts = |part: &str| sql.starts_with(part);
        if has("unrelated") {
            Self::Unrelated
        } else if starts("SAVEPOINT") || starts("ROLLBACK") || starts("RELEASE") {
            Self::Savepoint
        } else if starts("TRUNCATE") {
            Self::Truncate
        } else if has(" POLICY ") {
            Self::Policy
        } else if has(" ROW LEVEL SECURITY") || has(" OWNER TO ") {
            Self::Security
        } else if starts("ALTER ROLE") || ((starts("GRANT") || starts("REVOKE")) && !has(" ON ")) {
            Self::Role
        } else if starts("GRANT") || starts("REVOKE") {
            Self::Grant
        } else if has(" PARTITION ") {
            Self::Partition
        } else if starts("ALTER TABLE") {
            Self::Columns
        } else if starts("CREATE OR REPLACE FUNCTION") {
            Self::Function
        } else if ["members", "circles"]
            .iter()
            .any(|t| ["INSERT INTO", "UPDATE", "DELETE FROM"].iter().any(|v| starts(&format!("{v} {t}"))))
        {
            Self::Members
        } else {
            Self::Rows
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OpKind;

    #[test]
    fn tells_statements_apart() {
        for (sql, kind) in [
            ("GRANT auditor TO app", OpKind::Role),
            ("GRANT SELECT (id) ON t1 TO app", OpKind::Grant),
            ("ALTER TABLE t1 NO FORCE ROW LEVEL SECURITY", OpKind::Security),
            ("ALTER TABLE t1 DETACH PARTITION t1_high", OpKind::Partition),
            ("ALTER TABLE t1 ADD COLUMN extra int DEFAULT 7", OpKind::Columns),
            ("UPDATE members SET level = 1", OpKind::Members),
            ("DELETE FROM t1 WHERE id = 3", OpKind::Rows),
            ("CREATE TABLE IF NOT EXISTS lib.unrelated (id int)", OpKind::Unrelated),
        ] {
            assert_eq!(OpKind::of(sql), kind, "{sql}");
        }
    }
}
