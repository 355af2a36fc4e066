//! Whose changes a row has had since the cursor: whether its client knows of all of them, because it made them itself.

/// What became of a row since the cursor, as far as the log is gone through.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Life {
    /// The client is told of the row, whatever happened: it does not skip echoes, or there is word for it about this row.
    Told,
    /// All entries are what the client pushed, as it sent it.
    AsSent,
    /// So are all since the client made the row, whatever was there before under its id.
    Made,
    /// The client has deleted its row. What came then is of another one, for what is gone comes back by an INSERT only. (Which may not be
    /// among these entries: it was in another scope.) Without the client's own row nothing would be said here, so that it was there may be told
    /// only to who sees the other one or could. Each of its states ends with an image, or lasts: the images are judged (`RowBatch::judge`), the last
    /// state is looked up, as of now (`leave_out_echoes`) and of the sights before (`Moved::settle`). A client that could see none of them
    /// has nothing of that row, and knows that its own is gone: it misses nothing.
    Others,
    /// The same, and the client could see the other row, or has changed it as it meant to. (Cascades of its own reach rows that it has not
    /// seen, too.)
    OthersSeen,
    /// The row, as it was at the cursor or as the client made it, was changed by others, or stored otherwise than it was sent.
    Mixed,
}

/// What an entry of the log says that happened to the row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Happening {
    /// The client makes the row.
    pub made: bool,
    /// It is of the client's push, and stored as it was sent.
    pub as_sent: bool,
    /// The entry before was a deletion.
    pub after_deletion: bool,
}

impl Life {
    pub fn next(self, what: Happening) -> Life {
        match (self, what.as_sent) {
            (Life::Told, _) => Life::Told,
            // (What others did of the one before, that the client made this one does not tell.)
            (_, true) if what.made => Life::Made,
            (_, false) if what.made => Life::Mixed,
            // The client's deletion: after others' it would be `Mixed`.
            (Life::AsSent | Life::Made, _) if what.after_deletion => Life::Others.next(what),
            (Life::AsSent | Life::Made, false) => Life::Mixed,
            (Life::Others, true) => Life::OthersSeen,
            (same, _) => same,
        }
    }

    /// The client could see what others did once it had deleted its row.
    pub fn others_seen(self) -> Life {
        match self {
            Life::Others => Life::OthersSeen,
            same => same,
        }
    }

    /// Is the row that of others, which came when the client had deleted its own?
    pub fn is_others(self) -> bool {
        matches!(self, Life::Others | Life::OthersSeen)
    }

    /// Is there nothing in it that the client must hear of? (Of `Others` that is not known before it is found out what of it the client sees.)
    pub fn is_echo(self) -> bool {
        matches!(self, Life::AsSent | Life::Made | Life::Others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries, one a letter: `i`, `u`, `d` of the client's push as it was sent, `w` a change of it that is stored otherwise; `I`, `U`, `D` of others.
    fn life(entries: &str) -> Life {
        let of = |life: Life, (before, entry): (u8, u8)| {
            let after_deletion = matches!(before, b'd' | b'D');
            life.next(Happening { made: entry == b'i', as_sent: matches!(entry, b'i' | b'u' | b'd'), after_deletion })
        };
        let before = std::iter::once(b' ').chain(entries.bytes());
        before.zip(entries.bytes()).fold(Life::AsSent, of)
    }

    fn lead_to(expected: Life, all: &[&str]) {
        all.iter().for_each(|entries| assert_eq!(life(entries), expected, "{entries}"));
    }

    #[test]
    fn what_the_client_pushed() {
        lead_to(Life::AsSent, &["", "u", "ud", "uu"]);
        lead_to(Life::Made, &["i", "iu", "id", "Ui", "UDi", "udIUi"]);
    }

    #[test]
    fn what_others_did_besides() {
        lead_to(Life::Mixed, &["U", "uU", "D", "DI", "w", "uw", "iU", "iUd", "iUdI"]);
    }

    #[test]
    fn what_others_did_once_the_client_had_deleted_its_row() {
        lead_to(Life::Others, &["dI", "dU", "idI", "dIU", "dIDI", "dIw"]);
        lead_to(Life::OthersSeen, &["dIu", "dIdI", "dd"]);
    }

    #[test]
    fn who_is_told_stays_so() {
        let every = |n: u8| Happening { made: n & 1 != 0, as_sent: n & 2 != 0, after_deletion: n & 4 != 0 };
        assert!((0..8).all(|n| Life::Told.next(every(n)) == Life::Told));
    }
}
