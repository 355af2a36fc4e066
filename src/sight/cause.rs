//! Why a client must take a collection anew. An answer says it in `reason`, beside the strategy.

/// What changes cannot mend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The cursor is older than the log, or not of this database's history.
    Cursor,
    /// What the role is, or which roles it is a member of, changed.
    Role,
    /// The collection was reset: its table was truncated, or its columns, policies or settings changed, or `snapsync.reset()` was called.
    Reset,
    /// The same happened to a table that its policies read.
    AccessReset,
    /// What it rests on is not settled yet: a look at its definition is due.
    Unsettled,
    /// Its policies read a table whose changes are not logged.
    Untracked,
    /// Rows moved that a function reads, for a policy or for scopes: it may have let the caller see others.
    Function,
    /// Rows moved that its policies read, in a way that what they said before cannot be told.
    Access,
    /// Rows that its policies read moved several times, and the cursor is not exact enough to say which of these the client knows.
    Overlap,
    /// The same, and the client has only just got columns of it (`migration`).
    Columns,
    /// What its policies say of old rows cannot be told.
    OldRows,
    /// The client asks for other rows than with its last pull (`last_filter`), in a way that changes cannot mend.
    Filter,
    /// It comes in pages: the same as `Overlap` or a moved access would be, or what earlier pages rest on does not stand any more.
    Pages,
}

impl Cause {
    /// As the answer has it.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Cursor => "cursor",
            Cause::Role => "role",
            Cause::Reset => "reset",
            Cause::AccessReset => "access_reset",
            Cause::Unsettled => "unsettled",
            Cause::Untracked => "untracked",
            Cause::Function => "function",
            Cause::Access => "access",
            Cause::Overlap => "overlap",
            Cause::Columns => "columns",
            Cause::OldRows => "old_rows",
            Cause::Filter => "filter",
            Cause::Pages => "pages",
        }
    }
}
