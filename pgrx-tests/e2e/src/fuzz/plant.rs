//! Planted faults: what a broken extension would do, done to the log by hand after each transaction, so that the fuzz can
//! show that it notices. Which entries are hit follows from their keys and stamps: a run repeats exactly.

use super::play::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// an update leaves no entry
    DropUpdate,
    /// a delete leaves no entry
    DropDelete,
    /// an insert leaves no entry
    DropInsert,
    /// a deleted row's image is missing: nobody hears of the deletion
    StripImage,
    /// a deletion of a row that never was, with an image that says that others could see it: they hear of it
    ForgeImage,
    /// an entry has the key of another row
    ForgeKey,
    /// a TRUNCATE or policy change leaves no reset
    DropReset,
    /// stamps come too low, as if they were taken before the commit
    LowStamp,
    /// changes of memberships leave no entry
    DropAccess,
    /// a row that moves between scopes leaves no entry in the one it came from
    DropScope,
    /// an entry stands in another scope than its row
    WrongScope,
    /// memberships that are given leave no entry: rows that came into view are kept back
    KeepGained,
    /// memberships that are taken leave no entry: ids of rows that went out of view are kept back
    KeepLost,
    /// a membership that never was, as if it had been taken: ids come of rows that were never in view
    ForgeAccess,
    /// memberships' entries stand in another user's bucket: who gains or loses one does not come across it
    WrongAccessScope,
    /// a circle that passes from one user to another leaves no entry in the bucket of the one who had it
    DropAccessScope,
    /// a role's new standing is recorded as if it had always been so
    OldRole,
}

impl Plant {
    /// Run as a superuser after each transaction. `$1` is what the clock said before it.
    pub fn sql(self) -> &'static str {
        match self {
            Self::DropUpdate => "DELETE FROM snapsync.change WHERE stamp > $1 AND op = 'U' AND hashtext(key || stamp) % 7 = 0",
            Self::DropDelete => "DELETE FROM snapsync.change WHERE stamp > $1 AND op = 'D' AND hashtext(key || stamp) % 5 = 0",
            Self::DropInsert => "DELETE FROM snapsync.change WHERE stamp > $1 AND op = 'I' AND hashtext(key || stamp) % 7 = 0",
            Self::StripImage => "UPDATE snapsync.change SET image = NULL WHERE stamp > $1 AND op = 'D'",
            // Of a row that never was: those who saw the deleted one still hear of that.
            Self::ForgeImage => {
                "INSERT INTO snapsync.change SELECT (jsonb_populate_record(c, jsonb_build_object('ord', c.ord + 1000, 'key', '999', 'image', \
                 coalesce(c.image, '{}') || '{\"owner\": 1, \"org\": 1, \"public\": true, \"n\": 96}'))).* \
                 FROM snapsync.change c WHERE stamp > $1 AND op = 'D' AND ord < 1000 AND relation <> 'members'::regclass"
            }
            Self::ForgeKey => "UPDATE snapsync.change SET key = '29' WHERE stamp > $1 AND op <> 'R' AND hashtext(key || stamp) % 7 = 0",
            Self::DropAccess => "DELETE FROM snapsync.change WHERE stamp > $1 AND op <> 'R' AND relation = 'members'::regclass",
            Self::KeepGained => "DELETE FROM snapsync.change WHERE stamp > $1 AND op = 'I' AND relation = 'members'::regclass",
            Self::KeepLost => "DELETE FROM snapsync.change WHERE stamp > $1 AND op = 'D' AND relation = 'members'::regclass",
            Self::ForgeAccess => {
                "INSERT INTO snapsync.change SELECT (jsonb_populate_record(c, jsonb_build_object('ord', c.ord + 1000, 'key', '999.' || n, \
                 'image', c.image || jsonb_build_object('org', ((c.image ->> 'org')::int % 4 + n)::text)))).* \
                 FROM snapsync.change c, generate_series(1, 4) n \
                 WHERE stamp > $1 AND op = 'D' AND ord < 1000 AND relation = 'members'::regclass AND image ? 'org'"
            }
            Self::DropScope => {
                "DELETE FROM snapsync.change c WHERE stamp > $1 AND op = 'U' AND scope IS NOT NULL AND EXISTS (SELECT FROM snapsync.change o \
                 WHERE o.relation = c.relation AND o.stamp = c.stamp AND o.key = c.key AND o.ord < c.ord AND o.scope IS DISTINCT FROM c.scope)"
            }
            Self::WrongScope => {
                "UPDATE snapsync.change SET scope = scope || '0', bucket = (bucket + 1) % 1024 \
                 WHERE stamp > $1 AND scope IS NOT NULL AND hashtext(coalesce(key, keys[1]) || stamp) % 5 = 0"
            }
            Self::WrongAccessScope => {
                "UPDATE snapsync.change SET scope = scope || '0', bucket = (bucket + 1) % 1024 \
                 WHERE stamp > $1 AND scope IS NOT NULL AND relation = 'members'::regclass"
            }
            Self::DropAccessScope => {
                "DELETE FROM snapsync.change c WHERE stamp > $1 AND op = 'U' AND relation = to_regclass('circles') AND scope = image ->> 'usr' \
                 AND EXISTS (SELECT FROM snapsync.change o \
                 WHERE o.relation = c.relation AND o.stamp = c.stamp AND o.key = c.key AND o.scope IS DISTINCT FROM c.scope)"
            }
            Self::OldRole => "UPDATE snapsync.role SET stamp = 1 WHERE stamp > $1",
            Self::DropReset => "DELETE FROM snapsync.change WHERE stamp > $1 AND op = 'R'",
            Self::LowStamp => {
                "UPDATE snapsync.change SET stamp = greatest(stamp - 5, 1) WHERE stamp > $1 AND op <> 'R' AND hashtext(key || stamp) % 5 = 0"
            }
        }
    }

    /// Is it to be found in what hangs on memberships? Then these are not pulled themselves, which would tell sooner.
    pub fn is_of_access(self) -> bool {
        matches!(self, Self::KeepGained | Self::KeepLost | Self::ForgeAccess | Self::WrongAccessScope)
    }

    /// Is this what the fuzz must find?
    pub fn is_found_by(self, kind: Kind) -> bool {
        match self {
            Self::ForgeImage | Self::ForgeAccess => kind == Kind::Leak,
            // A membership that comes without an entry and goes with one is taken for one of the cursor: ids of its rows come, too.
            Self::KeepGained | Self::WrongAccessScope => matches!(kind, Kind::Difference | Kind::Leak),
            _ => kind == Kind::Difference,
        }
    }
}
